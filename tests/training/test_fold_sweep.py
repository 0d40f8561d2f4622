import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.conftest import train_tiny
from tests.training.test_sweep import QUICK, _runs

from unmask.data.tables import FaceDataset
from unmask.errors import CheckpointError, ConfigError
from unmask.evaluation.run import Options, evaluate
from unmask.models.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def swept(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep over three folds of one dataset, run in this process; its folder and what it printed."""
    import contextlib
    import io

    from unmask.cli.train import main

    folder, printed = tmp_path_factory.mktemp("folds"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.delenv("UNMASK_HOME", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        arguments = ["-m", f"dataset.root={face_dataset}", "dataset.folds=3", "dataset.fold=0,1,2", *QUICK]
        patch.setattr(sys, "argv", ["train.py", *arguments])
        main()
    return folder, printed.getvalue()


def _results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("multirun/train/*/*/result.json"))]


def test_parent_run_holds_mean_and_standard_deviation_over_the_folds(swept: tuple[Path, str]) -> None:
    parent, children = _runs(swept[0])
    objectives = [result["objective"] for result in _results(swept[0])]
    assert len(objectives) == len(children) == 3
    assert parent.data.metrics["sweep/mean_objective"] == pytest.approx(np.mean(objectives))
    assert parent.data.metrics["sweep/std_objective"] == pytest.approx(np.std(objectives, ddof=1))
    assert f"{np.mean(objectives):.4f} +/- {np.std(objectives, ddof=1):.4f}" in swept[1]
    assert [run.data.params["dataset.fold"] for run in children] == ["0", "1", "2"]


def test_each_job_is_evaluated_on_its_own_fold_alone(
    swept: tuple[Path, str], face_dataset: Path, tmp_path: Path
) -> None:
    seen: list[str] = []
    for fold, result in enumerate(_results(swept[0])):
        checkpoint = result["best_checkpoint"]
        assert "dataset.folds=3" in swept[1]
        assert f"dataset.fold={fold}" in swept[1]
        for folds, other in ((None, 0), (3, (fold + 1) % 3), (4, fold)):
            with pytest.raises(ConfigError, match=rf"dataset\.folds=3 dataset\.fold={fold}$"):
                evaluate(checkpoint, root=face_dataset, output=tmp_path, options=Options(folds=folds, fold=other))
        scores = evaluate(
            checkpoint, root=face_dataset, output=tmp_path / str(fold), options=Options(folds=3, fold=fold)
        ).scores
        videos = pd.read_parquet(scores.with_name("scores_videos.parquet"))
        seen += videos["video_id"].tolist()
    assert sorted(seen) == sorted(FaceDataset.load(face_dataset).videos["video_id"])


def test_training_is_resumed_with_the_same_folds_alone(
    swept: tuple[Path, str], face_dataset: Path, tmp_path: Path
) -> None:
    last = _results(swept[0])[1]["last_checkpoint"]
    assert (load_checkpoint(last).provenance["folds"], load_checkpoint(last).provenance["fold"]) == (3, 1)
    with pytest.raises(CheckpointError, match=r"dataset\.folds=3 dataset\.fold=1; .*dataset\.folds=null"):
        train_tiny(face_dataset, tmp_path, f"resume={last}", "trainer.max_epochs=2")


def test_model_of_the_stored_splits_is_not_evaluated_on_folds(
    checkpoint: Path, face_dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.folds=null dataset\.fold=0$"):
        evaluate(checkpoint, root=face_dataset, output=tmp_path, options=Options(folds=3))
