import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import train_tiny
from tests.training.test_interruption import _signal

from unmask.errors import CheckpointError, ConfigError, Interrupted
from unmask.training.resume import describe_changes

OPTIONS = ("optimizer.lr=0.01", "dataset.batch_size=8", "deterministic=true")


@pytest.fixture(scope="module")
def last(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of one epoch of AdamW under a cosine."""
    result = train_tiny(face_dataset, tmp_path_factory.mktemp("first"), *OPTIONS)
    return Path(str(result["last_checkpoint"]))


@pytest.fixture(scope="module")
def averaged(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of one epoch with averaged weights."""
    result = train_tiny(face_dataset, tmp_path_factory.mktemp("averaged"), *OPTIONS, "callbacks.ema.decay=0.9")
    return Path(str(result["last_checkpoint"]))


def _resume(dataset: Path, folder: Path, last: Path, *options: str) -> dict[str, Any]:
    """Train a second epoch and return the content of its last checkpoint."""
    result = train_tiny(dataset, folder, *OPTIONS, "trainer.max_epochs=2", *options, f"resume={last}")
    content: dict[str, Any] = torch.load(str(result["last_checkpoint"]), weights_only=True)
    return content


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("optimizer=sgd", "scheduler=none"), "torch.optim.SGD (was torch.optim.AdamW)"),
        pytest.param(
            ("optimizer=adam", "optimizer.lr=0.01"), "torch.optim.Adam (was torch.optim.AdamW)", marks=pytest.mark.slow
        ),
        pytest.param(("+optimizer.amsgrad=true",), "optimizer.amsgrad=True (was None)", marks=pytest.mark.slow),
    ],
    ids=["sgd", "adam", "another option of the same"],
)
def test_another_optimizer_keeps_the_weights_and_resets_its_state(
    face_dataset: Path, tmp_path: Path, last: Path, caplog: Any, options: tuple[str, ...], named: str
) -> None:
    caplog.set_level("INFO", logger="unmask")
    content = _resume(face_dataset, tmp_path, last, *options)
    assert named in caplog.text
    assert "weights are kept, and the state of the optimizer starts anew" in caplog.text
    steps = {int(state["step"]) for state in content["optimizer_states"][0]["state"].values() if "step" in state}
    per_epoch = content["global_step"] // 2
    assert steps <= {per_epoch}
    assert content["epoch"] == 1


@pytest.mark.slow
def test_another_optimizer_begins_with_the_weights_of_the_checkpoint(
    face_dataset: Path, tmp_path: Path, last: Path
) -> None:
    content = _resume(face_dataset, tmp_path, last, "optimizer=sgd", "optimizer.lr=1e-12", "scheduler=none")
    before = torch.load(last, weights_only=True)["state_dict"]
    for name, value in content["state_dict"].items():
        if name.endswith("weight"):
            torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize(
    ("options", "num_groups"),
    [
        pytest.param(("optimizer.lr=0.001",), 1, marks=pytest.mark.slow),
        (("optimizer.head_lr_ratio=10", "optimizer.weight_decay=0"), 2),
    ],
    ids=["rate", "groups"],
)
def test_other_rates_apply_and_the_state_of_each_weight_is_kept(
    face_dataset: Path, tmp_path: Path, last: Path, options: tuple[str, ...], num_groups: int
) -> None:
    content = _resume(face_dataset, tmp_path, last, *options, "scheduler=none")
    (state,) = content["optimizer_states"]
    rates = [group["lr"] for group in state["param_groups"]]
    assert rates == ([0.001] if num_groups == 1 else [0.01, 0.1])
    assert {int(each["step"]) for each in state["state"].values()} == {content["global_step"]}


@pytest.mark.parametrize("scheduler", ["onecycle", "plateau"])
@pytest.mark.slow
def test_another_schedule_continues_at_the_current_step(
    face_dataset: Path, tmp_path: Path, last: Path, scheduler: str
) -> None:
    content = _resume(face_dataset, tmp_path, last, f"scheduler={scheduler}")
    (state,) = content["lr_schedulers"]
    assert state["last_epoch"] == (content["global_step"] if scheduler == "onecycle" else 1)


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
@pytest.mark.slow
def test_epochs_of_another_length_end_where_the_schedule_ends(
    face_dataset: Path, tmp_path: Path, scheduler: str
) -> None:
    first = train_tiny(face_dataset, tmp_path / "a", *OPTIONS, f"scheduler={scheduler}")
    longer = ("trainer.accumulate_grad_batches=2", f"scheduler={scheduler}")
    content = _resume(face_dataset, tmp_path / "b", Path(str(first["last_checkpoint"])), *longer)
    (state,) = content["lr_schedulers"]
    per_epoch = content["global_step"] - torch.load(str(first["last_checkpoint"]), weights_only=True)["global_step"]
    assert state["last_epoch"] == 2 * per_epoch
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] < 0.002


@pytest.mark.slow
def test_weight_average_can_start_on_resume(face_dataset: Path, tmp_path: Path, last: Path) -> None:
    content = _resume(face_dataset, tmp_path, last, "callbacks.ema.decay=0.9")
    assert content["current_model_state"].keys() == content["state_dict"].keys()


@pytest.mark.slow
def test_training_without_the_average_continues_with_its_own_weights(
    face_dataset: Path, tmp_path: Path, averaged: Path
) -> None:
    still = ("optimizer=sgd", "optimizer.lr=1e-12", "scheduler=none", "callbacks.ema.decay=null")
    content = _resume(face_dataset, tmp_path, averaged, *still)
    before = torch.load(averaged, weights_only=True)["current_model_state"]
    assert "current_model_state" not in content
    torch.testing.assert_close(
        content["state_dict"]["network.module.head.weight"], before["network.module.head.weight"]
    )


@pytest.mark.slow
def test_another_loss_brings_weights_of_its_own(face_dataset: Path, tmp_path: Path, last: Path) -> None:
    own = ("loss._target_=tests.training.test_resumption.WeighedLoss", "~loss.label_smoothing", "~loss.fake_weight")
    content = _resume(face_dataset, tmp_path / "a", last, *own)
    assert float(content["state_dict"]["loss.pos_weight"]) == 2
    other = Path(tmp_path / "a" / "checkpoints" / "last.ckpt")
    result = train_tiny(face_dataset, tmp_path / "b", *OPTIONS, "trainer.max_epochs=3", f"resume={other}")
    assert "loss.pos_weight" not in torch.load(str(result["last_checkpoint"]), weights_only=True)["state_dict"]


class WeighedLoss(torch.nn.BCEWithLogitsLoss):
    """A loss with a tensor among its state."""

    def __init__(self) -> None:
        super().__init__(pos_weight=torch.tensor(2.0))


@pytest.mark.slow
def test_more_patience_applies(face_dataset: Path, tmp_path: Path, last: Path) -> None:
    content = _resume(face_dataset, tmp_path, last, "callbacks.early_stopping.patience=7")
    (state,) = (value for key, value in content["callbacks"].items() if key.startswith("PatientStopping"))
    assert state["patience"] == 7


@pytest.mark.slow
def test_another_objective_selects_a_new_best_epoch(
    face_dataset: Path, tmp_path: Path, last: Path, caplog: Any
) -> None:
    options = (*OPTIONS, "trainer.max_epochs=2", "objective=val/accuracy", f"resume={last}")
    result = train_tiny(face_dataset, tmp_path, *options)
    assert result["best_epoch"] == 1
    assert "objective=val/accuracy was val/video_auroc" in caplog.text


@pytest.mark.slow
def test_checkpoint_without_recorded_settings_is_resumed(
    face_dataset: Path, tmp_path: Path, last: Path, caplog: Any
) -> None:
    content = torch.load(last, weights_only=True)
    del content["unmask"]["learning"]
    old = tmp_path / "old" / "checkpoints" / "last.ckpt"
    old.parent.mkdir(parents=True)
    torch.save(content, old)
    same = _resume(face_dataset, tmp_path / "same", old)
    assert {int(each["step"]) for each in same["optimizer_states"][0]["state"].values()} == {same["global_step"]}
    _resume(face_dataset, tmp_path / "other", old, "optimizer=sgd")
    assert "the state of the optimizer starts anew" in caplog.text


@pytest.mark.slow
def test_fewer_epochs_than_already_trained_is_an_error(face_dataset: Path, tmp_path: Path) -> None:
    first = train_tiny(face_dataset, tmp_path / "a", *OPTIONS, "trainer.max_epochs=2")
    (tmp_path / "a" / "result.json").unlink()
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs=1.* has 2 behind it"):
        train_tiny(face_dataset, tmp_path / "b", *OPTIONS, f"resume={first['last_checkpoint']}")


def test_best_checkpoint_names_the_one_to_resume_from(face_dataset: Path, tmp_path: Path, last: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Resume from resume=.*last\.ckpt"):
        train_tiny(face_dataset, tmp_path, *OPTIONS, "optimizer=sgd", f"resume={last.with_name('best.ckpt')}")


def test_changes_are_named_by_key() -> None:
    then = {"optimizer._target_": "a", "optimizer.lr": 1, "seed": 0, "old": 2}
    assert describe_changes(then, then) == []
    assert describe_changes({}, then) == []
    told = describe_changes(then, {**then, "optimizer.lr": 3})
    assert told == ["optimizer.lr=3 (was 1)"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("precision=bf16",),
        ("loss=focal", "augmentation=strong", "aggregation=max", "threshold_criterion=f1"),
        ("dataset.batch_size=4", "dataset.sampling=natural", "scheduler=plateau", "scheduler.monitor=train/loss"),
        ("callbacks.freeze.num_epochs=2", "trainer.max_epochs=3", "callbacks.early_stopping.monitor=val/loss"),
        ("model.dropout=0", "trainer.gradient_clip_val=null", "seed=1", "dataset.limit.train=20"),
    ],
    ids=lambda options: options[0],
)
def test_other_changes_apply_from_the_resume_on(
    face_dataset: Path, tmp_path: Path, last: Path, options: tuple[str, ...]
) -> None:
    extra = ("callbacks.early_stopping.mode=min",) if "callbacks.freeze.num_epochs=2" in options else ()
    assert _resume(face_dataset, tmp_path, last, *options, *extra)["epoch"] in (1, 2)


@pytest.mark.slow
def test_another_optimizer_can_come_in_the_middle_of_an_epoch(face_dataset: Path, tmp_path: Path) -> None:
    stop = _signal(signal.SIGTERM, epoch=0, batch=1)
    with pytest.raises(Interrupted):
        train_tiny(face_dataset, tmp_path / "a", *OPTIONS, "trainer.max_epochs=2", *stop)
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    content = _resume(face_dataset, tmp_path / "b", last, "optimizer=sgd", "optimizer.lr=0.01", "scheduler=onecycle")
    (state,) = content["lr_schedulers"]
    assert state["last_epoch"] == content["global_step"]


STEP = ("scheduler=step", "scheduler.step_size=1", "scheduler.gamma=0.5")


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        (STEP, 0.01 * 0.5**2),
        ((*STEP, "scheduler.interval=step", "scheduler.gamma=0.9"), None),
        pytest.param(
            ("scheduler=none", "scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR"),
            0.0,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["by epoch", "by step", "over the training"],
)
def test_torch_scheduler_is_resumed_where_it_was(
    face_dataset: Path, tmp_path: Path, options: tuple[str, ...], rate: float | None
) -> None:
    two = ("trainer.max_epochs=2", *options)
    whole = torch.load(train_tiny(face_dataset, tmp_path / "w", *OPTIONS, *two)["last_checkpoint"], weights_only=True)
    first = train_tiny(face_dataset, tmp_path / "a", *OPTIONS, *options)
    content = _resume(face_dataset, tmp_path / "b", Path(first["last_checkpoint"]), *options)
    assert content["lr_schedulers"] == whole["lr_schedulers"]
    rates = [checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] for checkpoint in (content, whole)]
    assert rates[0] == rates[1] == pytest.approx(0.01 * 0.9 ** content["global_step"] if rate is None else rate)
