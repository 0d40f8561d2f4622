"""Train once from the command line with tracking; the tests of this folder inspect the result."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=2",
    "dataset.samples_per_epoch=16", "run_name=trial", "trainer.log_every_n_steps=1", "register=faces",
    "tracking.checkpoints=all",
)  # fmt: skip


@pytest.fixture(scope="session")
def workplace(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `train.py` has run once with tracking."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("UNMASK_HOME", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run_train(patch, f"dataset.root={face_dataset}", *ARGUMENTS)
    return folder


def run_train(patch: pytest.MonkeyPatch, *arguments: str) -> None:
    from unmask.cli.train import main

    patch.setattr(sys, "argv", ["train.py", *arguments])
    main()


@pytest.fixture(scope="session")
def result(workplace: Path) -> dict[str, Any]:
    (path,) = workplace.glob("outputs/train/*/result.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.fixture(scope="session")
def client(result: dict[str, Any]) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(result["tracking_uri"])
