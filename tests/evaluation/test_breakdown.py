import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from unmask.decision import Decision
from unmask.evaluation.breakdown import apply_policies, break_down, find_conditions, find_worst_slices, split_by_seen

DECISION = Decision(threshold=0.5)


def _make_videos(num: int = 40) -> pd.DataFrame:
    """Half reals; small faces of FaceSwap are missed."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num):
        label = number % 2
        is_small = number % 4 < 2
        method = ("original", "FaceSwap" if number % 8 < 4 else "Deepfakes")[label]
        is_missed = bool(label) and method == "FaceSwap" and is_small
        score = rng.uniform(0.6, 0.9) if label and not is_missed else rng.uniform(0.1, 0.4)
        rows.append(
            {
                "video_id": f"ffpp/{method}/c23/{number:03d}", "label": label, "method": method, "group": number,
                "compression": "c23" if number < num / 2 else "c40", "score": score,
                "face_size": 40.0 if is_small else 200.0, "confidence": 0.95, "brightness": np.nan,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def test_conditions_are_named_by_fixed_bins() -> None:
    videos = _make_videos(4).assign(face_size=[63.9, 64.0, 255.0, 256.0], brightness=[0.0, np.nan, 128.0, 255.0])
    found = find_conditions(videos)
    assert found["face_size"].tolist() == ["under 64 px", "64 to 128 px", "128 to 256 px", "256 px and over"]
    assert found["brightness"].tolist() == ["under 64", "", "128 to 160", "160 and over"]
    assert set(found["source"]) == {"ffpp"}


def test_each_value_of_a_condition_has_its_own_figures() -> None:
    videos = _make_videos()
    found = break_down(videos, decision=DECISION)
    assert list(found) == ["compression", "face_size"]  # one source, one confidence, no brightness
    assert list(found["face_size"]) == ["under 64 px", "128 to 256 px"]
    small = videos[videos["face_size"] < 64]
    entry = found["face_size"]["under 64 px"]
    assert (entry["num_real"], entry["num_fake"]) == (10, 10)
    assert entry["auroc"] == pytest.approx(roc_auc_score(small["label"], small["score"]))
    assert (entry["false_positive_rate"], entry["false_negative_rate"]) == (0.0, 0.5)
    assert found["face_size"]["128 to 256 px"]["false_negative_rate"] == 0.0


def test_a_slice_of_one_class_has_no_area() -> None:
    videos = _make_videos()
    videos.loc[videos["label"] == 1, "compression"] = "c40"
    entry = break_down(videos, decision=DECISION)["compression"]["c23"]
    assert (entry["auroc"], entry["false_negative_rate"], entry["num_fake"]) == (None, None, 0)


def test_the_worst_slice_is_the_one_where_a_method_fails() -> None:
    videos = _make_videos(80)
    first, *others = find_worst_slices(videos, decision=DECISION)
    assert (first["method"], first["condition"], first["value"]) == ("FaceSwap", "face_size", "under 64 px")
    assert (first["num"], first["num_wrong"], first["error_rate"]) == (10, 10, 1.0)
    expected = binomtest(10, 10).proportion_ci(method="wilson")
    assert (first["low"], first["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert [(one["method"], one["condition"]) for one in others] == [("FaceSwap", "")]


def test_unscored_videos_count_as_nothing_as_real_or_as_fake() -> None:
    videos = pd.DataFrame({"label": [0, 1, 0, 1], "score": [0.1, 0.9, np.nan, np.nan]})
    found = apply_policies(videos, decision=DECISION)
    assert {name: (entry["num"], entry["accuracy"]) for name, entry in found.items()} == {
        "exclude": (2, 1.0), "real": (4, 0.75), "fake": (4, 0.75),
    }  # fmt: skip
    assert found["real"]["auroc"] == pytest.approx(roc_auc_score([0, 1, 0, 1], [0.1, 0.9, 0, 0]))
    assert found["fake"]["auroc"] == pytest.approx(roc_auc_score([0, 1, 0, 1], [0.1, 0.9, 1, 1]))


def test_methods_that_the_training_saw_are_kept_apart_from_others() -> None:
    videos = _make_videos()
    parts = split_by_seen(videos, ["Deepfakes"])
    assert set(parts["seen"]["method"]) == {"original", "Deepfakes"}
    assert set(parts["unseen"]["method"]) == {"original", "FaceSwap"}
    assert set(split_by_seen(videos, ["Deepfakes", "FaceSwap"])) == {"seen"}
    assert split_by_seen(videos, []) == {}
