from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from tests.conftest import compose_config
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unmask.models.schedules import cosine, onecycle, plateau


def _optimizer(lr: float = 0.1) -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def _rates(optimizer: Optimizer, config: dict[str, Any], steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        config["scheduler"].step()
    return rates


def test_cosine_rises_to_the_top_and_falls_to_its_end() -> None:
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


def test_cosine_without_warmup_starts_at_the_top_and_stays_at_its_end() -> None:
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


def test_onecycle_goes_on_when_a_training_is_resumed_for_longer() -> None:
    optimizer = _optimizer()
    config = onecycle(optimizer, 10, rise_ratio=0.3)
    _rates(optimizer, config, 10)
    state = config["scheduler"].state_dict()
    longer = onecycle(optimizer, 30, rise_ratio=0.3)
    longer["scheduler"].load_state_dict(state)
    rates = _rates(optimizer, longer, 20)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_plateau_lowers_the_rate_when_the_figure_stands_still() -> None:
    optimizer = _optimizer()
    config = plateau(optimizer, 0, monitor="val/loss", mode="min", factor=0.5, patience=1)
    assert (config["interval"], config["monitor"]) == ("epoch", "val/loss")
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.8):
        config["scheduler"].step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05])


def test_plateau_knows_when_larger_is_better() -> None:
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
def test_groups_keep_the_ratio_of_their_rates(schedule: Any) -> None:
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
