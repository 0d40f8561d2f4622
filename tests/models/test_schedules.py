from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.conftest import compose_config
from torch.optim import SGD, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unmask.errors import ConfigError
from unmask.models.schedules import cosine, onecycle, plateau
from unmask.training.parts import build_schedule

TORCH = "torch.optim.lr_scheduler."


def _optimizer(lr: float = 0.1) -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def _rates(optimizer: Optimizer, config: dict[str, Any], steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        config["scheduler"].step()
    return rates


def test_cosine_rises_to_the_maximum_and_falls_to_the_final_rate() -> None:
    optimizer = _optimizer()
    config = cosine(optimizer, 100, warmup_ratio=0.1, final_ratio=0.01)
    rates = _rates(optimizer, config, 101)
    assert config["interval"] == "step"
    assert rates[0] == pytest.approx(0.1 / 11)
    assert max(rates) == rates[10] == pytest.approx(0.1)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx((0.1 + 0.001) / 2, rel=1e-6)
    assert rates[100] == pytest.approx(0.001)


def test_cosine_without_warmup_starts_at_the_maximum_and_stays_at_the_final_rate() -> None:
    optimizer = _optimizer()
    rates = _rates(optimizer, cosine(optimizer, 3, warmup_ratio=0.0, final_ratio=0.5), 6)
    assert rates[0] == pytest.approx(0.1)
    assert rates[3:] == pytest.approx([0.05] * 3)


def test_onecycle_rises_for_its_share_of_the_steps() -> None:
    optimizer = _optimizer()
    config = onecycle(optimizer, 50, rise_ratio=0.4)
    rates = _rates(optimizer, config, 49)
    assert config["interval"] == "step"
    assert rates.index(max(rates)) == pytest.approx(19, abs=1)
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] < rates[0] < 0.01


def test_onecycle_continues_when_training_is_resumed_with_more_epochs() -> None:
    optimizer = _optimizer()
    config = onecycle(optimizer, 10, rise_ratio=0.3)
    _rates(optimizer, config, 10)
    state = config["scheduler"].state_dict()
    longer = onecycle(optimizer, 30, rise_ratio=0.3)
    longer["scheduler"].load_state_dict(state)
    rates = _rates(optimizer, longer, 20)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_plateau_reduces_the_rate_when_the_metric_stops_improving() -> None:
    optimizer = _optimizer()
    config = plateau(optimizer, 0, monitor="val/loss", mode="min", factor=0.5, patience=1)
    assert (config["interval"], config["monitor"]) == ("epoch", "val/loss")
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.8):
        config["scheduler"].step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05])


def test_plateau_with_mode_max_expects_larger_values() -> None:
    optimizer = _optimizer()
    config = plateau(optimizer, 0, monitor="val/auroc", mode="max", factor=0.5, patience=0)
    for value in (0.5, 0.6, 0.7):
        config["scheduler"].step(value)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "schedule",
    [
        partial(cosine, warmup_ratio=0.2, final_ratio=0.01),
        partial(onecycle, rise_ratio=0.3),
        partial(plateau, monitor="val/loss", mode="min", factor=0.5, patience=0),
    ],
)
def test_parameter_groups_keep_the_ratio_of_their_rates(schedule: Any) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.01, 0.1)]
    optimizer = SGD(groups, lr=0.01, momentum=0.9)
    scheduler = schedule(optimizer, 10)["scheduler"]
    rates = []
    for _ in range(9):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
    assert len({rate for rate, _ in rates}) > 3
    assert [head / backbone for backbone, head in rates] == pytest.approx([10] * 9)


def test_none_builds_no_schedule() -> None:
    assert instantiate(compose_config("train", "scheduler=none").scheduler) is None


def _build(optimizer: Optimizer, node: dict[str, Any], *, epochs: int | None = 4, steps: int = 40) -> dict[str, Any]:
    schedule = build_schedule(OmegaConf.create(node | {"_target_": TORCH + node["_target_"]}), max_epochs=epochs)
    assert schedule is not None
    return schedule(optimizer, steps)


@pytest.mark.parametrize(
    ("node", "same", "unit"),
    [
        ({"_target_": "StepLR", "step_size": 3}, lambda o: lr_scheduler.StepLR(o, 3), "epoch"),
        ({"_target_": "StepLR", "_partial_": True, "step_size": 3, "interval": "step"},
         lambda o: lr_scheduler.StepLR(o, 3), "step"),
        ({"_target_": "CosineAnnealingLR"}, lambda o: lr_scheduler.CosineAnnealingLR(o, 4), "epoch"),
        ({"_target_": "CosineAnnealingLR", "T_max": None, "interval": "step"},
         lambda o: lr_scheduler.CosineAnnealingLR(o, 40), "step"),
        ({"_target_": "CosineAnnealingLR", "T_max": 7, "eta_min": 0.01},
         lambda o: lr_scheduler.CosineAnnealingLR(o, 7, 0.01), "epoch"),
        ({"_target_": "OneCycleLR", "max_lr": 0.5, "interval": "step"},
         lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=40), "step"),
        ({"_target_": "LinearLR"}, lr_scheduler.LinearLR, "epoch"),
        ({"_target_": "LinearLR", "total_iters": None}, lambda o: lr_scheduler.LinearLR(o, total_iters=4), "epoch"),
        ({"_target_": "MultiStepLR", "milestones": [2, 5]}, lambda o: lr_scheduler.MultiStepLR(o, [2, 5]), "epoch"),
        ({"_target_": "ExponentialLR", "gamma": 0.5}, lambda o: lr_scheduler.ExponentialLR(o, 0.5), "epoch"),
        ({"_target_": "CosineAnnealingWarmRestarts", "T_0": 3},
         lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3), "epoch"),
        ({"_target_": "SequentialLR", "milestones": [3], "schedulers": [
            {"_target_": TORCH + "ConstantLR", "factor": 0.1, "total_iters": 3},
            {"_target_": TORCH + "ExponentialLR", "gamma": 0.5}]},
         lambda o: lr_scheduler.SequentialLR(
             o, [lr_scheduler.ConstantLR(o, 0.1, 3), lr_scheduler.ExponentialLR(o, 0.5)], [3]), "epoch"),
    ],
    ids=lambda value: value["_target_"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_torch_scheduler_follows_its_own_curve(node: dict[str, Any], same: Any, unit: str) -> None:
    ours, theirs = _optimizer(), _optimizer()
    config = _build(ours, node)
    assert (config["interval"], config["frequency"]) == (unit, 1)
    assert _rates(ours, config, 20) == _rates(theirs, {"scheduler": same(theirs)}, 20)


def test_plateau_of_torch_monitors_a_metric() -> None:
    config = _build(_optimizer(), {"_target_": "ReduceLROnPlateau", "patience": 0})
    assert isinstance(config["scheduler"], ReduceLROnPlateau)
    assert (config["monitor"], config["interval"]) == ("val/loss", "epoch")
    node = {"_target_": "ReduceLROnPlateau", "mode": "max", "monitor": "val/auroc"}
    assert _build(_optimizer(), node)["monitor"] == "val/auroc"


@pytest.mark.parametrize(
    ("node", "named"),
    [
        ({"_target_": "StepLR"}, r"StepLR .*scheduler\._target_.*step_size"),
        ({"_target_": "StepLR", "stepsize": 3}, r"scheduler\.stepsize=3.*scheduler\.step_size"),
        ({"_target_": "StepLR", "step_size": 3, "interval": "batch"}, r"scheduler\.interval='batch'.*step, epoch"),
        ({"_target_": "StepLR", "step_size": 3, "frequency": 0}, r"scheduler\.frequency=0"),
        ({"_target_": "OneCycleLR", "max_lr": 0.5, "pct_start": 2.0}, r"scheduler\.pct_start=2\.0"),
        ({"_target_": "ReduceLROnPlateau", "interval": "step"}, r"scheduler\.interval=step.*scheduler\.interval=epoch"),
        ({"_target_": "SequentialLR", "milestones": [3], "schedulers": [{"_target_": "torch.optim.SGD"}]},
         r"scheduler\.schedulers\[0\]"),
        ({"_target_": "SequentialLR", "milestones": [3], "schedulers": [{"_target_": TORCH + "CosineAnnealingLR"}]},
         r"scheduler\.schedulers\[0\]\.T_max"),
    ],
    ids=lambda value: value["_target_"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_invalid_arguments_of_a_torch_scheduler_are_named(node: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        _build(_optimizer(), node)


def test_schedule_of_unlimited_training_needs_a_length() -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.T_max in epochs"):
        _build(_optimizer(), {"_target_": "CosineAnnealingLR"}, epochs=-1)
    with pytest.raises(ConfigError, match=r"scheduler\.T_max in steps"):
        _build(_optimizer(), {"_target_": "CosineAnnealingLR", "interval": "step"}, epochs=-1, steps=-1)
