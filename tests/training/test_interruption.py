import json
import os
import re
import resource
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tests.conftest import train_tiny

from unmask.cli.checkpoints import merge_overrides
from unmask.errors import CheckpointError, Interrupted, TrainingError
from unmask.models.checkpoint import load_checkpoint
from unmask.training.interruption import StopRequest
from unmask.training.resume import SafeCheckpointIO, carry_best, find_last, open_resumed

OPTIONS = ("model.dropout=0.5", "optimizer.lr=0.01", "dataset.batch_size=8", "deterministic=true")


class SignalAt(L.Callback):
    """Sends this process a signal at some point of a training."""

    def __init__(self, *, number: int, epoch: int, batch: int | None) -> None:
        self.number, self.epoch, self.batch = number, epoch, batch

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.batch is None and trainer.current_epoch == self.epoch:
            os.kill(os.getpid(), self.number)


def _signal(number: int, *, epoch: int, batch: int | None) -> tuple[str, ...]:
    stop = {"_target_": f"{__name__}.SignalAt", "number": int(number), "epoch": epoch, "batch": batch}
    return tuple(f"+callbacks.stop.{key}={'null' if value is None else value}" for key, value in stop.items())


def _content(path: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def _list_values(content: Any) -> list[Any]:
    """Return all there is in nested content, tensors as their bytes."""
    if isinstance(content, dict):
        return [part for key in sorted(content, key=str) for part in (key, *_list_values(content[key]))]
    if isinstance(content, list | tuple):
        return [part for entry in content for part in _list_values(entry)]
    return [content.numpy().tobytes() if isinstance(content, torch.Tensor) else content]


def _assert_same_training(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Compare the last checkpoints to the last bit, and all that the results say of the training."""
    one, other = (_content(result["last_checkpoint"]) for result in (first, second))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert _list_values(one[part]) == _list_values(other[part])
    for key in ("metrics", "best_epoch", "objective", "decision"):
        assert first[key] == second[key]


@pytest.fixture(scope="module")
def whole(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training that nothing interrupts."""
    return train_tiny(face_dataset, tmp_path_factory.mktemp("whole"), *OPTIONS, "trainer.max_epochs=3")


@pytest.mark.parametrize(
    ("number", "epoch", "batch"),
    [(signal.SIGTERM, 1, 2), (signal.SIGINT, 0, 0), (signal.SIGINT, 1, None)],
    ids=["in the second epoch", "in the first step", "while validating"],
)
def test_interrupted_training_ends_with_the_weights_and_metrics_of_an_uninterrupted_one(
    whole: dict[str, Any],
    face_dataset: Path,
    tmp_path: Path,
    number: int,
    epoch: int,
    batch: int | None,
) -> None:
    options = (*OPTIONS, "trainer.max_epochs=3")
    with pytest.raises(Interrupted) as caught:
        train_tiny(face_dataset, tmp_path / "first", *options, *_signal(number, epoch=epoch, batch=batch))
    assert caught.value.exit_code == 128 + number
    last = find_last([tmp_path])
    stopped = load_checkpoint(last)
    assert (stopped.epoch, stopped.batch) == ((epoch, batch + 1) if batch is not None else (epoch + 1, 0))
    resumed = train_tiny(face_dataset, tmp_path / "second", *options, f"resume={last}")
    _assert_same_training(whole, resumed)
    assert load_checkpoint(str(resumed["best_checkpoint"])).epoch == int(str(resumed["best_epoch"])) + 1


@pytest.mark.parametrize(
    "options",
    [
        ("scheduler=plateau", "scheduler.patience=0"),
        ("dataset.num_workers=1",),
        ("callbacks.freeze.num_epochs=2", "callbacks.ema.decay=0.9", "optimizer.head_lr_ratio=5"),
    ],
    ids=["plateau", "worker processes", "frozen and averaged"],
)
def test_resume_is_exact_with_what_else_changes_a_training(
    face_dataset: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    options = (*OPTIONS, *options, "trainer.max_epochs=3")
    whole = train_tiny(face_dataset, tmp_path / "whole", *options)
    batch = None if "scheduler=plateau" in options else 1
    with pytest.raises(Interrupted):
        train_tiny(face_dataset, tmp_path / "first", *options, *_signal(signal.SIGTERM, epoch=1, batch=batch))
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    _assert_same_training(whole, train_tiny(face_dataset, tmp_path / "second", *options, f"resume={last}"))


def test_accumulated_gradients_are_never_cut(face_dataset: Path, tmp_path: Path) -> None:
    options = (*OPTIONS, "trainer.accumulate_grad_batches=3", "trainer.max_epochs=2")
    with pytest.raises(Interrupted):
        train_tiny(face_dataset, tmp_path, *options, *_signal(signal.SIGINT, epoch=0, batch=0))
    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt").batch == 3


def test_checkpoint_within_an_epoch_is_written_on_schedule(
    face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.training.run.drop_previous", lambda folder: None)
    train_tiny(face_dataset, tmp_path, *OPTIONS, "checkpoint_minutes=0")
    previous = load_checkpoint(tmp_path / "checkpoints" / "previous.ckpt")
    assert previous.epoch == 0
    assert previous.batch > 1


def test_middle_of_an_epoch_needs_the_same_batches(face_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train_tiny(face_dataset, tmp_path / "a", *OPTIONS, *_signal(signal.SIGINT, epoch=0, batch=1))
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"in the middle of an epoch of \d+ batches, and now an epoch has \d+"):
        train_tiny(face_dataset, tmp_path / "b", *OPTIONS, "dataset.batch_size=4", f"resume={last}")


def test_second_signal_ends_at_once() -> None:
    request, before = StopRequest(), signal.getsignal(signal.SIGINT)
    with request.watching():
        request.is_training = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal_number == signal.SIGTERM
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_outside_of_training_ends_at_once() -> None:
    with StopRequest().watching(), pytest.raises(Interrupted) as caught:
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.exit_code == 130


def test_damaged_last_checkpoint_falls_back_to_the_one_before(
    face_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.training.run.drop_previous", lambda folder: None)  # as where a training was killed
    result = train_tiny(face_dataset, tmp_path / "a", *OPTIONS, "trainer.max_epochs=2")
    last = Path(str(result["last_checkpoint"]))
    last.write_bytes(last.read_bytes()[:-2000])
    found = open_resumed(last)
    assert (found.path.name, found.epoch) == ("previous.ckpt", 1)
    assert str(last) in caplog.text
    assert str(found.path) in caplog.text
    (tmp_path / "a" / "result.json").unlink()
    resumed = train_tiny(face_dataset, tmp_path / "b", *OPTIONS, "trainer.max_epochs=2", f"resume={last}")
    assert load_checkpoint(str(resumed["last_checkpoint"])).epoch == 2
    found.path.unlink()
    with pytest.raises(CheckpointError, match=re.escape(str(last))):
        open_resumed(last)


def test_finished_training_that_could_not_write_its_results_writes_them(
    whole: dict[str, Any], face_dataset: Path, tmp_path: Path
) -> None:
    first = train_tiny(face_dataset, tmp_path / "a", *OPTIONS, "trainer.max_epochs=3")
    (tmp_path / "a" / "result.json").unlink()
    resume = f"resume={first['last_checkpoint']}"
    again = train_tiny(face_dataset, tmp_path / "b", *OPTIONS, "trainer.max_epochs=3", resume)
    assert (again["metrics"], again["best_epoch"]) == (whole["metrics"], whole["best_epoch"])
    assert (tmp_path / "b" / "bundle" / "model.onnx").is_file()


def test_resume_without_the_best_checkpoint_looks_for_a_new_one(
    face_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = train_tiny(face_dataset, tmp_path / "a", *OPTIONS)
    Path(str(first["best_checkpoint"])).unlink()
    resume = f"resume={first['last_checkpoint']}"
    resumed = train_tiny(face_dataset, tmp_path / "b", *OPTIONS, "trainer.max_epochs=2", resume)
    assert "the best epoch is looked for among those that are trained from now on" in caplog.text
    assert resumed["best_epoch"] == 1
    assert load_checkpoint(str(resumed["best_checkpoint"])).epoch == 2


def test_damaged_best_checkpoint_is_not_carried_over(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = tmp_path / "last.ckpt"
    last.write_bytes(checkpoint.with_name("last.ckpt").read_bytes())
    (tmp_path / "best.ckpt").write_bytes(checkpoint.read_bytes()[:-2000])
    assert not carry_best(load_checkpoint(last), tmp_path / "new")
    assert str(tmp_path / "best.ckpt") in caplog.text
    assert not (tmp_path / "new").exists()


def test_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    path, writer = tmp_path / "last.ckpt", SafeCheckpointIO()
    writer.save_checkpoint({"number": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # what is longer cannot be written
    try:
        with pytest.raises(CheckpointError) as caught:
            writer.save_checkpoint({"number": 2, "weights": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"Cannot write the checkpoint '{path}' of 0 MB: File too large" in str(caught.value)
    assert "The one that was written before is kept. Make room" in str(caught.value)
    assert f"python train.py resume={path}" in str(caught.value)
    assert torch.load(path, weights_only=True) == {"number": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_last_checkpoint_and_the_one_before_are_both_kept(tmp_path: Path) -> None:
    writer = SafeCheckpointIO()
    for number in range(3):
        writer.save_checkpoint({"number": number}, tmp_path / "last.ckpt")
        writer.save_checkpoint({"number": number}, tmp_path / "best.ckpt")
    kept = {path.name: _content(path)["number"] for path in tmp_path.iterdir()}
    assert kept == {"last.ckpt": 2, "previous.ckpt": 1, "best.ckpt": 2}


def test_nan_loss_names_the_batch(face_dataset: Path, tmp_path: Path) -> None:
    options = ("optimizer=sgd", "optimizer.lr=1e30", "scheduler=none", "trainer.gradient_clip_val=null")
    with pytest.raises(TrainingError) as caught:
        train_tiny(face_dataset, tmp_path, *OPTIONS, *options)
    listed = json.loads((tmp_path / "lost_batch.json").read_text())
    assert f"in epoch 1, batch {listed['batch']} of " in str(caught.value)
    assert "at a learning rate of 1e+30" in str(caught.value)
    assert listed["crops"][0] in str(caught.value)
    assert len(listed["crops"]) == 8
    assert "Lower optimizer.lr" in str(caught.value)


def test_out_of_memory_names_the_key_to_lower(
    face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.models.network import FaceNetwork

    monkeypatch.setattr(FaceNetwork, "forward", lambda self, images: torch.empty(1 << 50, device=images.device))
    with pytest.raises(TrainingError, match=r"Lower dataset\.batch_size=8, and raise trainer"):
        train_tiny(face_dataset, tmp_path, *OPTIONS)


def test_newest_last_checkpoint_is_found(tmp_path: Path) -> None:
    for number, name in enumerate(("outputs/train/b", "multirun/train/a/0", "outputs/train/c")):
        path = tmp_path / name / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (100 - number, 100 - number))
    found = find_last([tmp_path / "outputs", tmp_path / "multirun"])
    assert found == tmp_path / "outputs" / "train" / "b" / "checkpoints" / "last.ckpt"


def test_missing_last_checkpoint_names_the_searched_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"resume=last finds no last\.ckpt below '.*'. Name one: resume="):
        find_last([tmp_path])


def test_resumed_configuration_is_that_of_the_run_with_what_is_given_now() -> None:
    past = [
        "dataset.root=a",
        "optimizer=sgd",
        "optimizer.momentum=0.5",
        "seed=1",
        "resume=x",
        "+trainer.x=1",
    ]
    given = ["resume=last", "trainer.max_epochs=9", "optimizer=adam", "seed=2"]
    assert merge_overrides(past, given) == ["dataset.root=a", "+trainer.x=1", *given]
