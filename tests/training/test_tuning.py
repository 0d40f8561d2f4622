"""Lightning's Tuner behind `task=find_lr` and `task=find_batch_size`."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from tests.conftest import compose_config
from torch import Tensor

from unmask.errors import ConfigError
from unmask.models.classifier import DeepfakeClassifier


def _compose(dataset: Path, task: str, *overrides: str) -> DictConfig:
    small = ("model=tiny", "trainer=cpu", "precision=fp32", "dataset.num_workers=0", "logger=none")
    return compose_config("train", f"dataset.root={dataset}", f"task={task}", *small, *overrides)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_learning_rate_is_found_where_the_loss_falls(face_dataset: Path, in_folder: Path) -> None:
    from unmask.training.tuning import find_lr

    tuned = find_lr(_compose(face_dataset, "find_lr", "dataset.batch_size=8"), folder=in_folder)
    record = json.loads((in_folder / "result.json").read_text())
    assert (record["key"], record["value"]) == ("optimizer.lr", tuned.value)
    assert 1e-6 < tuned.value < 1
    tried = record["tried"]
    assert len(tried["lr"]) == len(tried["loss"]) > 20
    assert tried["lr"] == sorted(tried["lr"])
    assert all(math.isfinite(loss) for loss in tried["loss"])
    assert tuned.plot.read_text().count("<path") > 3
    assert {path.name for path in in_folder.iterdir()} == {"find_lr.svg", "result.json"}


def test_steepest_fall_is_that_of_the_plot() -> None:
    from unmask.training.tuning import find_steepest

    lrs = np.logspace(-6, 0, 90)
    falling = 0.7 - 0.3 / (1 + np.exp(-4 * (np.log10(lrs) + 3)))  # steepest at 1e-3
    losses = np.where(lrs > 0.03, 0.4 + lrs * 10, falling)
    losses[-3:] = np.nan
    found = find_steepest(lrs.tolist(), losses.tolist())
    assert found == pytest.approx(1e-3, rel=0.3)
    assert find_steepest(lrs.tolist(), np.linspace(0.5, 0.9, 90).tolist()) is None
    assert find_steepest(lrs[:5].tolist(), [0.5] * 5) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_batch_grows_until_out_of_memory(face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unmask.training import tuning

    step = DeepfakeClassifier.training_step

    def hold_sixteen(model: DeepfakeClassifier, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        if len(batch["label"]) > 16:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return step(model, batch, batch_index)

    monkeypatch.setattr(DeepfakeClassifier, "training_step", hold_sixteen)
    monkeypatch.setattr(tuning, "runs_on_gpu", lambda trainer: True)
    tuned = tuning.find_batch_size(_compose(face_dataset, "find_batch_size"), folder=in_folder)
    assert (tuned.key, tuned.value) == ("dataset.batch_size", 16)
    tried = json.loads((in_folder / "result.json").read_text())["tried"]
    assert tried["batch_size"] == [2, 4, 8, 16]
    assert all(rate > 0 for rate in tried["crops_per_second"])
    assert {path.name for path in in_folder.iterdir()} == {"find_batch_size.svg", "result.json"}


def test_batch_for_a_cpu_is_not_looked_for(face_dataset: Path, in_folder: Path) -> None:
    from unmask.training.tuning import find_batch_size

    with pytest.raises(ConfigError, match=r"trainer\.accelerator=cpu"):
        find_batch_size(_compose(face_dataset, "find_batch_size"), folder=in_folder)


def test_command_prints_what_it_found(face_dataset: Path, in_folder: Path, monkeypatch: Any, capsys: Any) -> None:
    from unmask.cli.train import main

    small = ["model=tiny", "trainer=cpu", "precision=fp32", "dataset.num_workers=0", "dataset.batch_size=8"]
    monkeypatch.setattr(
        "sys.argv", ["train.py", "task=find_lr", f"dataset.root={face_dataset}", *small, "hydra.run.dir=run"]
    )
    main()
    printed = capsys.readouterr().out
    assert "optimizer.lr=" in printed
    assert f"dataset.root={face_dataset}" in printed
    assert Path("run/find_lr.svg").is_file()
    assert not Path("mlflow.db").exists()
