import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from tests.conftest import train_tiny

from unmask.models.classifier import DeepfakeClassifier
from unmask.training.curves import EpochCurves

OPTIONS = ("optimizer.lr=0.01", "dataset.batch_size=8")


def _read(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A training of two epochs without a logger, and its result."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train_tiny(face_dataset, folder, *OPTIONS, "trainer.max_epochs=2")


def test_curves_hold_the_metrics_steps_and_rate_of_each_epoch(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    rows = _read(folder)
    assert list(rows[0])[:2] == ["epoch", "step"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert int(rows[1]["step"]) == 2 * int(rows[0]["step"]) > 0
    best = rows[result["best_epoch"]]
    assert {name: float(best[name]) for name in result["metrics"]} == pytest.approx(result["metrics"])
    # A cosine falls from optimizer.lr to about 0, which the schedule reaches only after the last step.
    rates = [float(row["lr"]) for row in rows]
    assert 0.01 > rates[0] > rates[1] > 0


def test_curves_are_drawn_without_a_logger(run: tuple[Path, dict[str, Any]]) -> None:
    image = cv2.imread(str(run[0] / "curves.png"))
    assert image is not None
    height, width = image.shape[:2]
    panels = [image[y : y + height // 2, x : x + width // 2] for y in (0, height // 2) for x in (0, width // 2)]
    blue = np.array([0xD6, 0x53, 0x24])  # of the first curve, as BGR
    assert [bool((np.abs(panel.astype(int) - blue).sum(2) < 20).any()) for panel in panels] == [True] * 4


def test_resumed_training_continues_the_curves_in_another_folder(
    run: tuple[Path, dict[str, Any]], face_dataset: Path, tmp_path: Path
) -> None:
    folder, result = run
    before = _read(folder)
    train_tiny(face_dataset, tmp_path, *OPTIONS, "trainer.max_epochs=3", f"resume={result['last_checkpoint']}")
    after = _read(tmp_path)
    assert after[:2] == before
    assert [row["epoch"] for row in after] == ["1", "2", "3"]
    assert int(after[2]["step"]) > int(after[1]["step"])


def test_another_objective_does_not_lose_the_earlier_epochs(
    run: tuple[Path, dict[str, Any]], face_dataset: Path, tmp_path: Path
) -> None:
    resume = f"resume={run[1]['last_checkpoint']}"
    train_tiny(face_dataset, tmp_path, *OPTIONS, "trainer.max_epochs=3", "objective=val/auroc", resume)
    assert [row["epoch"] for row in _read(tmp_path)] == ["1", "2", "3"]


def test_a_training_that_dies_has_the_curves_of_its_epochs(
    face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DeepfakeClassifier.training_step

    def die(self: DeepfakeClassifier, batch: Any, batch_index: int) -> Any:
        if self.current_epoch == 1:
            raise ZeroDivisionError("dies")
        return step(self, batch, batch_index)

    monkeypatch.setattr(DeepfakeClassifier, "training_step", die)
    with pytest.raises(ZeroDivisionError):
        train_tiny(face_dataset, tmp_path, *OPTIONS, "trainer.max_epochs=3")
    assert [row["epoch"] for row in _read(tmp_path)] == ["1"]
    assert (tmp_path / "curves.png").is_file()


def test_curves_can_be_left_out(face_dataset: Path, tmp_path: Path) -> None:
    train_tiny(face_dataset, tmp_path, "callbacks.curves=null", "dataset.limit.train=8", "dataset.limit.val=8")
    assert not list(tmp_path.glob("curves.*"))


def _end_epoch(
    curves: EpochCurves, *, epoch: int, folder: Path, groups: list[dict[str, Any]], **figures: float
) -> None:
    optimizers = [SimpleNamespace(param_groups=groups)]
    trainer: Any = SimpleNamespace(
        optimizers=optimizers, current_epoch=epoch, global_step=10 * (epoch + 1), is_global_zero=True,
        default_root_dir=str(folder),
        callback_metrics={name.replace("_", "/", 1): each for name, each in figures.items()},
    )  # fmt: skip
    module: Any = None
    curves.on_train_batch_start(trainer, module, None, 0)
    curves.on_train_epoch_end(trainer, module)


def test_an_epoch_without_validation_leaves_its_cells_empty_and_each_group_has_its_rate(tmp_path: Path) -> None:
    curves = EpochCurves(monitor="val/auroc")
    groups = [{"lr": 0.1, "name": "backbone"}, {"lr": 1.0, "name": "head"}]
    _end_epoch(curves, epoch=0, folder=tmp_path, groups=groups, train_loss=0.5)
    _end_epoch(curves, epoch=1, folder=tmp_path, groups=groups, train_loss=0.4, val_auroc=0.9)
    first, second = _read(tmp_path)
    assert (first["val/auroc"], second["val/auroc"]) == ("", "0.9")
    assert (first["lr/backbone"], first["lr/head"]) == ("0.1", "1.0")


def test_an_epoch_that_is_trained_again_replaces_its_row(tmp_path: Path) -> None:
    curves = EpochCurves(monitor="val/auroc")
    for epoch, loss in ((0, 0.9), (1, 0.8), (1, 0.7)):
        _end_epoch(curves, epoch=epoch, folder=tmp_path, groups=[{"lr": 0.1}], train_loss=loss)
    assert [(row["epoch"], row["train/loss"]) for row in _read(tmp_path)] == [("1", "0.9"), ("2", "0.7")]


def test_short_epochs_are_drawn_at_the_end(tmp_path: Path) -> None:
    curves, module = EpochCurves(monitor="val/auroc"), None
    for epoch in range(3):
        _end_epoch(curves, epoch=epoch, folder=tmp_path, groups=[{"lr": 0.1}], train_loss=1.0 - epoch / 5)
    early = (tmp_path / "curves.png").read_bytes()
    trainer: Any = SimpleNamespace(default_root_dir=str(tmp_path))
    curves.teardown(trainer, module, "fit")  # type: ignore[arg-type]
    assert (tmp_path / "curves.png").read_bytes() != early


def test_curves_that_cannot_be_written_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    _end_epoch(EpochCurves(monitor="x"), epoch=0, folder=tmp_path / "file", groups=[{"lr": 0.1}], train_loss=0.5)
    assert "curves.csv" in caplog.text
