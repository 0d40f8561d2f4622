"""Classification metrics per frame, per video and per method."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, classification_report, roc_auc_score

from unmask.data.tables import find_deciding
from unmask.decision import Decision
from unmask.types import Label

Figures = dict[str, Any]
"""Metrics as plain values for JSON: `num`, `num_real`, `num_fake`, `accuracy`, `balanced_accuracy`, `precision`,
`recall`, `f1`, `auroc`, `auprc`, `confusion` and `report`; None if undefined."""

logger = logging.getLogger(__name__)


def aggregate_videos(frames: pd.DataFrame, *, decision: Decision) -> pd.DataFrame:
    """Aggregate the frame scores of each video; of several people, the one with the highest score decides.

    With `faces.keep=all` a video has several tracks. As in prediction, the scores of each are aggregated, and those of
    passers-by and false alarms do not count.

    Videos are told apart by `video_id`, never by file name: in FaceForensics++, four methods share the name `000_003`.
    `unmask.metrics.collection.aggregate_videos` does the same for tensors during training.

    Args:
        frames: One row per crop with `video_id`, `label`, `method` and `score`; and `track` and `frame_index` if videos
            have several tracks.
        decision: Decision whose aggregation is used.

    Returns:
        One row per video with `video_id`, `label`, `method`, `score` and `num_crops`, in order of first appearance.
    """
    grouped = frames.groupby("video_id", sort=False)
    videos = grouped[["label", "method"]].first()
    deciding, names = frames[find_deciding(frames)], ["video_id", "track"] if "track" in frames else ["video_id"]
    people = deciding.groupby(names, sort=False)["score"].agg(lambda scores: decision.aggregate(list(scores)))
    videos["score"] = people.groupby(level="video_id", sort=False).max().astype(float)
    videos["num_crops"] = grouped.size()
    return videos.reset_index()


def classify(labels: npt.ArrayLike, scores: npt.ArrayLike, *, threshold: float) -> Figures:
    """Compute classification metrics at a threshold, and the areas under the ROC and precision-recall curves.

    Fake is the positive class. PR-AUC is the average precision; it depends on the share of fakes, so it cannot be
    compared across datasets. Both areas are None if only one class is present.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake), shape `(N,)`.
        threshold: Lowest score that counts as fake.
    """
    truth, values = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or not np.isfinite(values).all():
        raise ValueError(f"Expected one finite score per label, got {truth.shape} labels and {values.shape} scores.")
    called = (values >= threshold).astype(np.int64)
    confusion = confusion_counts(truth, called)
    (real_as_real, real_as_fake), (fake_as_real, fake_as_fake) = confusion
    num_real, num_fake = real_as_real + real_as_fake, fake_as_real + fake_as_fake
    specificity, recall = _ratio(real_as_real, num_real), _ratio(fake_as_fake, num_fake)
    both = num_real > 0 and num_fake > 0
    return {
        "num": len(truth),
        "num_real": num_real,
        "num_fake": num_fake,
        "accuracy": _ratio(real_as_real + fake_as_fake, len(truth)),
        "balanced_accuracy": (specificity + recall) / 2 if specificity is not None and recall is not None else None,
        "precision": _ratio(fake_as_fake, fake_as_fake + real_as_fake),
        "recall": recall,
        "f1": _ratio(2 * fake_as_fake, 2 * fake_as_fake + real_as_fake + fake_as_real),
        "auroc": float(roc_auc_score(truth, values)) if both else None,
        "auprc": float(average_precision_score(truth, values)) if both else None,
        "confusion": confusion,
        "report": _report(truth, called),
    }


def figures_of(frames: pd.DataFrame, *, decision: Decision) -> dict[str, Any]:
    """Compute metrics per frame, per video and per method (`frame`, `video` and `by_method`) from a table of scores.

    Each method's fakes are compared with all reals. If a class is missing, the areas are None and a warning is logged.

    Args:
        frames: One row per crop with `video_id`, `label`, `method` and `score`.
        decision: Threshold and aggregation.
    """
    videos = aggregate_videos(frames, decision=decision)
    present = {int(label) for label in frames["label"]}
    for label in Label:
        if len(frames) and int(label) not in present:
            logger.warning(
                "No %s crops among the %d scored, so ROC-AUC and PR-AUC are undefined.",
                label.name.lower(),
                len(frames),
            )
    methods = sorted(set(frames.loc[frames["label"] == Label.FAKE, "method"]))
    return {
        "frame": _figures(frames, decision),
        "video": _figures(videos, decision),
        "by_method": {
            method: {"frame": _figures(_against_reals(frames, method), decision),
                     "video": _figures(_against_reals(videos, method), decision)}
            for method in methods
        },
    }  # fmt: skip


def coverage_of(videos: pd.DataFrame) -> dict[str, Any]:
    """Count the videos of a split, and those among them that have a score.

    Args:
        videos: One row per video with `label`, `method`, `outcome` and `score` (NaN without a score).
    """
    scored = videos["score"].notna()
    return {
        "num_videos": len(videos),
        "num_scored": int(scored.sum()),
        "ratio": _ratio(int(scored.sum()), len(videos)),
        "outcomes": {str(key): int(count) for key, count in videos["outcome"].value_counts().items()},
        "by_method": {
            str(method): {"num_videos": len(rows), "num_scored": int(rows["score"].notna().sum())}
            for method, rows in videos.groupby("method")
        },
    }


def confusion_counts(labels: npt.NDArray[np.int64], called: npt.NDArray[np.int64]) -> list[list[int]]:
    """Return the confusion matrix; rows are the true class, columns the predicted one, real before fake."""
    return [[int(((labels == truth) & (called == call)).sum()) for call in Label] for truth in Label]


def _figures(rows: pd.DataFrame, decision: Decision) -> Figures:
    return classify(rows["label"].to_numpy(), rows["score"].to_numpy(), threshold=decision.threshold)


def _against_reals(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    return rows[(rows["method"] == method) | (rows["label"] == Label.REAL)]


def _report(truth: npt.NDArray[np.int64], called: npt.NDArray[np.int64]) -> dict[str, Any]:
    if len(truth) == 0:
        return {}
    names = [label.name.lower() for label in Label]
    report: dict[str, Any] = classification_report(
        truth, called, labels=list(Label), target_names=names, output_dict=True, zero_division=0.0
    )
    return {
        key: {name: float(value) for name, value in figures.items()} if isinstance(figures, dict) else float(figures)
        for key, figures in report.items()
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
