import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unmask.decision import Decision
from unmask.errors import CheckpointError, ConfigError, DatasetError, SpecMismatchError
from unmask.evaluation.run import Options, evaluate
from unmask.metrics.intervals import BootstrapOptions

Maker = Callable[..., Path]


def test_evaluation_writes_metrics_tables_and_report(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    evaluation = evaluate(
        make_checkpoint(), root=make_dataset(), output=output, options=Options(device="cpu", command="evaluate.py x=1")
    )
    result = json.loads((output / "result.json").read_text())
    figures = result["datasets"]["drawn"]
    assert {"frame", "video", "by_method", "coverage"} <= set(figures)
    assert figures["video"]["auroc"] == 1.0
    assert (figures["video"]["num_real"], figures["video"]["num_fake"]) == (3, 6)
    assert figures["frame"]["num"] == 27
    assert set(figures["by_method"]) == {"Deepfakes", "FaceSwap"}
    assert figures["coverage"]["num_videos"] == 12
    assert figures["coverage"]["outcomes"] == {"ok": 9, "no_face": 3}
    assert result["scores"] == str(evaluation.scores)
    assert Path(result["report"]).read_text().startswith("<!doctype html>")
    assert result["decision"] == evaluation.decision


def test_score_tables_hold_all_crops_and_videos(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    evaluate(
        make_checkpoint(), root=make_dataset(), output=tmp_path / "run", options=Options(device="cpu", batch_size=4)
    )
    frames = pd.read_parquet(tmp_path / "run" / "scores_frames.parquet")
    videos = pd.read_parquet(tmp_path / "run" / "scores_videos.parquet").set_index("video_id")
    assert list(frames.columns) == [
        "video_id", "crop", "frame_index", "track", "label", "method", "score", "face_size", "confidence", "brightness"
    ]  # fmt: skip
    assert len(frames) == frames["crop"].nunique() == 27
    assert len(videos) == 12
    faceless = videos.loc["drawn/FaceSwap/c23/003"]
    assert np.isnan(faceless["score"])
    assert (faceless["outcome"], faceless["num_crops"]) == ("no_face", 0)
    means = frames.groupby("video_id")["score"].mean()
    assert videos["score"].dropna().to_dict() == pytest.approx(means.to_dict())


def test_evaluation_uses_the_decision_of_the_checkpoint(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    decision = Decision(threshold=1.0, aggregation="max", criterion="f1")
    evaluation = evaluate(
        make_checkpoint(decision=decision), root=make_dataset(), output=tmp_path / "run", options=Options(device="cpu")
    )
    assert evaluation.decision == decision.to_dict()
    assert evaluation.figures["video"]["confusion"] == [[3, 0], [6, 0]]
    frames = pd.read_parquet(evaluation.scores)
    videos = pd.read_parquet(tmp_path / "run" / "scores_videos.parquet").set_index("video_id")["score"].dropna()
    assert videos.to_dict() == pytest.approx(frames.groupby("video_id")["score"].max().to_dict())


def test_crops_with_other_preprocessing_are_rejected(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    checkpoint, root = make_checkpoint(margin=1.7), make_dataset()
    with pytest.raises(SpecMismatchError, match=r"margin: model 1\.7, dataset 1\.3.*allow_spec_mismatch=true"):
        evaluate(checkpoint, root=root, output=tmp_path / "run", options=Options(device="cpu"))
    evaluation = evaluate(
        checkpoint, root=root, output=tmp_path / "run", options=Options(device="cpu", allow_spec_mismatch=True)
    )
    assert "allow_spec_mismatch=true" in evaluation.report.read_text()


def test_one_class_has_no_roc_auc(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_dataset(methods=("Deepfakes",))
    evaluation = evaluate(make_checkpoint(), root=root, output=tmp_path / "run", options=Options(device="cpu"))
    assert evaluation.figures["video"]["auroc"] is None
    assert evaluation.figures["video"]["recall"] is not None
    assert "No real crops among the 9" in caplog.text
    assert "Only one class" in evaluation.report.read_text()


def test_empty_split_error_names_the_other_splits(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"split 'val'.*'test': 27"):
        evaluate(make_checkpoint(), root=make_dataset(), output=tmp_path / "run", options=Options(split="val"))


def test_too_many_missing_crops_stop_the_evaluation(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    root = make_dataset()
    crop = root / "crops/drawn/FaceSwap/c23/001/2_0.jpg"
    crop.unlink()
    with pytest.raises(DatasetError, match=r"1 of 27 crops.*(?s:.*)001/2_0\.jpg: missing"):
        evaluate(make_checkpoint(), root=root, output=tmp_path / "run")


def test_invalid_checkpoint_is_named(make_dataset: Maker, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"x\.ckpt"):
        evaluate(tmp_path / "x.ckpt", root=make_dataset(), output=tmp_path / "run")


def test_unknown_device_is_named(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"device=abacus.*auto, cpu"):
        evaluate(make_checkpoint(), root=make_dataset(), output=tmp_path / "run", options=Options(device="abacus"))


def test_worker_processes_give_the_same_scores(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    checkpoint, root = make_checkpoint(), make_dataset()
    alone = evaluate(checkpoint, root=root, output=tmp_path / "a", options=Options(device="cpu", batch_size=5))
    helped = evaluate(
        checkpoint, root=root, output=tmp_path / "b", options=Options(device="cpu", batch_size=5, num_workers=2)
    )
    pd.testing.assert_frame_equal(pd.read_parquet(alone.scores), pd.read_parquet(helped.scores))


def test_report_has_custom_sections(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    def render(frames: pd.DataFrame, videos: pd.DataFrame) -> str:
        return f"<p id='own'>{len(frames)} crops of {len(videos)} videos</p>"

    section = SimpleNamespace(title="Crops & videos", render=render)
    done = evaluate(
        make_checkpoint(), root=make_dataset(), output=tmp_path / "out", options=Options(sections={"own": section})
    )
    page = done.report.read_text()
    frames, videos = (pd.read_parquet(tmp_path / f"out/scores_{name}.parquet") for name in ("frames", "videos"))
    assert "<h2>Crops &amp; videos</h2>" in page
    assert f"<p id='own'>{len(frames)} crops of {len(videos)} videos</p>" in page


@pytest.mark.parametrize("section", [object(), SimpleNamespace(title=1, render=str)])
def test_invalid_section_is_rejected_before_scoring(section: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sections\.own.*title.*render"):
        evaluate(
            tmp_path / "absent.ckpt", root=tmp_path, output=tmp_path / "out", options=Options(sections={"own": section})
        )


def test_figures_agree_with_sklearn_on_the_written_tables(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    from sklearn import metrics as sk

    decision = Decision(threshold=0.6, calibration=(1.5, 0.2))
    evaluation = evaluate(
        make_checkpoint(decision=decision), root=make_dataset(), output=tmp_path / "run", options=Options(device="cpu")
    )
    for level, name in (("frame", "scores_frames.parquet"), ("video", "scores_videos.parquet")):
        table = pd.read_parquet(tmp_path / "run" / name).dropna(subset=["score"])
        labels, scores = table["label"].to_numpy(), table["score"].to_numpy()
        called, figures = (scores >= 0.6).astype(int), evaluation.figures[level]
        expected = {
            "auroc": sk.roc_auc_score(labels, scores),
            "auprc": sk.average_precision_score(labels, scores),
            "mcc": sk.matthews_corrcoef(labels, called),
            "f1": sk.f1_score(labels, called),
            "specificity": sk.recall_score(labels, called, pos_label=0),
            "hter": 1 - sk.balanced_accuracy_score(labels, called),
            "log_loss": sk.log_loss(labels, scores),
            "brier": sk.brier_score_loss(labels, scores),
        }
        assert {key: figures[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert evaluation.figures["track"]["num"] == 9
    assert set(evaluation.figures["video"]["calibrated"]) == {"log_loss", "brier", "ece"}


def test_result_and_report_hold_intervals_over_groups(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    bootstrap = BootstrapOptions(draws=200, level=0.9)
    evaluation = evaluate(
        make_checkpoint(), root=make_dataset(), output=run, options=Options(device="cpu", bootstrap=bootstrap)
    )
    figures = json.loads((run / "result.json").read_text())["datasets"]["drawn"]
    assert figures["video"]["intervals"]["auroc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert {"accuracy", "eer", "hter", "brier"} <= set(figures["video"]["intervals"])
    # Videos 0 to 2 of every method are one group each, so there are three groups and not nine.
    assert any("only 3 groups" in note for note in evaluation.notes)
    assert "1.0000 to 1.0000" in (run / "report.html").read_text()


def test_evaluation_without_draws_has_no_intervals(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    none = BootstrapOptions(draws=0)
    evaluation = evaluate(
        make_checkpoint(), root=make_dataset(), output=tmp_path / "run", options=Options(device="cpu", bootstrap=none)
    )
    assert "intervals" not in evaluation.figures["video"]
