import json

import numpy as np
import pandas as pd
import pytest

from unmask.decision import Decision
from unmask.metrics.figures import classify
from unmask.metrics.intervals import BootstrapOptions
from unmask.metrics.scores import aggregate_videos, coverage_of, figures_of


def make_frames() -> pd.DataFrame:
    rows = []
    for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
        rows += [(f"ffpp/{method}/c23/000_003", 1, method, score) for score in (0.9, 0.6, 0.3)]
    rows += [("ffpp/original/c23/000", 0, "original", score) for score in (0.1, 0.2, 0.9)]
    rows += [("ffpp/original/c23/003", 0, "original", score) for score in (0.1, 0.1, 0.1)]
    return pd.DataFrame(rows, columns=["video_id", "label", "method", "score"])


def test_metrics_agree_with_manual_counts() -> None:
    figures = classify([0, 0, 0, 1, 1], [0.1, 0.2, 0.7, 0.6, 0.4], threshold=0.5)
    assert figures["confusion"] == [[2, 1], [1, 1]]
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["precision"] == figures["recall"] == figures["f1"] == pytest.approx(1 / 2)
    assert figures["auroc"] == pytest.approx(4 / 6)  # four of the six pairs of a fake and a real are ranked correctly
    assert figures["auprc"] == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)
    assert figures["report"]["fake"] == {"precision": 0.5, "recall": 0.5, "f1-score": 0.5, "support": 2.0}
    assert (figures["num"], figures["num_real"], figures["num_fake"]) == (5, 3, 2)


def test_a_score_equal_to_the_threshold_counts_as_fake() -> None:
    assert classify([0, 1], [0.2, 0.5], threshold=0.5)["confusion"] == [[1, 0], [0, 1]]


def test_metrics_are_plain_values_for_json() -> None:
    figures = figures_of(make_frames(), decision=Decision())
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_a_single_class_has_no_areas_and_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    frames = make_frames()
    figures = figures_of(frames[frames["label"] == 1], decision=Decision())
    assert figures["frame"]["auroc"] is None
    assert figures["video"]["auprc"] is None
    assert figures["video"]["balanced_accuracy"] is None
    assert figures["video"]["recall"] == 1.0
    assert all(part in caplog.text for part in ("real", "12", "ROC-AUC", "PR-AUC"))


def test_metrics_of_an_empty_table_are_none() -> None:
    figures = figures_of(make_frames().head(0), decision=Decision())
    assert figures["video"]["num"] == 0
    assert figures["video"]["accuracy"] is None
    assert figures["by_method"] == {}


def test_precision_is_undefined_if_nothing_is_called_fake() -> None:
    figures = classify([0, 1], [0.1, 0.2], threshold=0.5)
    assert figures["precision"] is None
    assert figures["f1"] == 0.0


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite score"):
        classify([0, 1], [0.1, np.nan], threshold=0.5)


def test_videos_of_four_methods_with_one_name_stay_apart() -> None:
    videos = aggregate_videos(make_frames(), decision=Decision())
    assert len(videos) == 6
    assert videos["num_crops"].tolist() == [3] * 6
    assert figures_of(make_frames(), decision=Decision())["video"]["num_fake"] == 4


@pytest.mark.parametrize(("aggregation", "expected"), [("mean", 0.4), ("median", 0.2), ("max", 0.9)])
def test_video_score_follows_the_aggregation(aggregation: str, expected: float) -> None:
    videos = aggregate_videos(make_frames(), decision=Decision(aggregation=aggregation)).set_index("video_id")
    assert videos.loc["ffpp/original/c23/000", "score"] == pytest.approx(expected)


def test_each_method_is_compared_with_all_reals() -> None:
    frames = make_frames()
    frames.loc[frames["method"] == "FaceSwap", "score"] = 0.0
    by_method = figures_of(frames, decision=Decision())["by_method"]
    assert set(by_method) == {"Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"}
    assert by_method["Deepfakes"]["video"]["confusion"] == [[2, 0], [0, 1]]
    assert by_method["Deepfakes"]["video"]["auroc"] == 1.0
    assert by_method["FaceSwap"]["video"]["auroc"] == 0.0
    assert by_method["FaceSwap"]["frame"]["num_real"] == 6


def test_coverage_counts_videos_without_a_score() -> None:
    videos = pd.DataFrame(
        {
            "video_id": ["a", "b", "c", "d"],
            "label": [0, 1, 1, 1],
            "method": ["original", "FaceSwap", "FaceSwap", "Deepfakes"],
            "outcome": ["ok", "ok", "no_face", "decode_error"],
            "score": [0.1, 0.9, None, None],
        }
    )
    coverage = coverage_of(videos)
    assert (coverage["num_videos"], coverage["num_scored"], coverage["ratio"]) == (4, 2, 0.5)
    assert coverage["outcomes"] == {"ok": 2, "no_face": 1, "decode_error": 1}
    assert coverage["by_method"]["FaceSwap"] == {"num_videos": 2, "num_scored": 1}


def make_tracks() -> pd.DataFrame:
    """Return a video of two people and a false alarm, one of two people seen half of the time each, and one of one."""
    rows = [("a", 0, frame, 0.2) for frame in range(20)] + [("a", 1, frame, 0.6) for frame in range(10, 20)]
    rows += [("a", 2, 7, 0.99)]
    rows += [("b", 0, frame, 0.1) for frame in range(4)] + [("b", 1, frame, 0.3) for frame in range(4, 8)]
    rows += [("c", 0, frame, 0.1 * frame) for frame in range(4)]
    frames = pd.DataFrame(rows, columns=["video_id", "track", "frame_index", "score"])
    return frames.assign(label=(frames["video_id"] == "a").astype(int), method="x").sample(frac=1, random_state=0)


def test_the_highest_score_of_the_people_who_decide_is_that_of_the_video() -> None:
    videos = aggregate_videos(make_tracks(), decision=Decision()).set_index("video_id")
    # As in prediction: a face in 1 of 20 frames does not decide, and no score is a mean over several people.
    assert videos["score"].to_dict() == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.15})
    assert videos["num_crops"].to_dict() == {"a": 31, "b": 8, "c": 4}


def test_evaluation_and_prediction_let_the_same_people_decide() -> None:
    from unmask.data.tables import find_deciding
    from unmask.inference.deciding import Deciding
    from unmask.inference.results import FaceScore

    frames = make_tracks()
    for name, rows in frames.groupby("video_id"):
        found = {
            int(track): [FaceScore(int(track), (0.0, 0.0, 9.0, 9.0), 1.0, score) for score in own["score"]]
            for track, own in rows.groupby("track")
        }
        deciding = Deciding().choose(found, num_frames=rows["frame_index"].nunique())
        assert set(rows["track"][find_deciding(frames)[rows.index]]) == deciding, name


def test_tracks_are_told_apart_within_a_video() -> None:
    frames = make_frames().assign(track=[0, 0, 1] * 6, frame_index=[0, 1, 1] * 6)
    figures = figures_of(frames, decision=Decision())
    assert (figures["track"]["num"], figures["video"]["num"], figures["frame"]["num"]) == (12, 6, 18)
    tracks = aggregate_videos(frames, decision=Decision(), by=("video_id", "track"))
    assert tracks["score"].tolist()[-4:] == pytest.approx([0.15, 0.9, 0.1, 0.1])
    assert "track" not in figures_of(make_frames(), decision=Decision())


def test_highest_face_of_a_frame_counts_in_tables_too() -> None:
    frames = make_frames().assign(frame_index=[0, 1, 1] * 6)
    videos = aggregate_videos(frames, decision=Decision(aggregation="frame_max")).set_index("video_id")
    assert videos.loc["ffpp/original/c23/000", "score"] == pytest.approx((0.1 + 0.9) / 2)


def test_intervals_are_of_videos_tracks_frames_and_videos_of_each_method() -> None:
    rng, frames = np.random.default_rng(0), make_frames()
    frames = pd.concat([frames.assign(video_id=frames["video_id"] + f"_{copy}") for copy in range(20)])
    frames["score"] = (frames["score"] + rng.normal(0, 0.1, len(frames))).clip(0, 1)
    groups = {name: int(name.rpartition("_")[2]) for name in frames["video_id"]}
    bootstrap = BootstrapOptions(draws=100)
    figures = figures_of(frames, decision=Decision(), groups=groups, bootstrap=bootstrap)
    for entry in (figures["frame"], figures["video"], figures["by_method"]["FaceSwap"]["video"]):
        interval = entry["intervals"]["auroc"]
        assert interval["value"] == entry["auroc"]
        assert interval["low"] <= entry["auroc"] <= interval["high"]
    assert "intervals" not in figures["by_method"]["FaceSwap"]["frame"]
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    alone = figures_of(frames, decision=Decision(), bootstrap=bootstrap)["video"]["interval_notes"]
    assert not any("groups" in note for note in alone)  # without groups, each of the 120 videos is one
