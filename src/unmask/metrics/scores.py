"""Figures of scores against labels: per frame, per video, per method."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, classification_report, roc_auc_score

from unmask.decision import Decision
from unmask.types import Label

Figures = dict[str, Any]
"""Plain values, fit for JSON: `num`, `num_real`, `num_fake`, `accuracy`, `balanced_accuracy`, `precision`, `recall`,
`f1`, `auroc`, `auprc`, `confusion` and `report`. What cannot be computed is None."""

logger = logging.getLogger(__name__)


def aggregate_videos(frames: pd.DataFrame, *, decision: Decision) -> pd.DataFrame:
    """Make one score per video of the scores of its frames.

    The key is `video_id`, never the bare file name: in FaceForensics++ four methods share the name `000_003`.

    Args:
        frames: A row per crop with `video_id`, `label`, `method` and `score`.
        decision: Its aggregation is used.

    Returns:
        A row per video with `video_id`, `label`, `method`, `score` and `num_crops`, in order of first appearance.
    """
    grouped = frames.groupby("video_id", sort=False)
    videos = grouped[["label", "method"]].first()
    videos["score"] = grouped["score"].agg(lambda scores: decision.aggregate(list(scores))).astype(float)
    videos["num_crops"] = grouped.size()
    return videos.reset_index()


def classify(labels: npt.ArrayLike, scores: npt.ArrayLike, *, threshold: float) -> Figures:
    """Compute the classification figures at a threshold, and the threshold-free areas.

    Fake is the positive class. PR-AUC is the average precision; it depends on the share of fakes, so it does not
    compare across datasets. Areas are None where only one class is present.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake), shape `(N,)`.
        threshold: A score from here on counts as fake.
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
    """Compute `frame`, `video` and `by_method` figures of a table of scores.

    A method's figures are those of its fakes against all reals. A single class is a warning, with None for the areas.

    Args:
        frames: A row per crop with `video_id`, `label`, `method` and `score`.
        decision: Threshold and aggregation.
    """
    videos = aggregate_videos(frames, decision=decision)
    present = {int(label) for label in frames["label"]}
    for label in Label:
        if len(frames) and int(label) not in present:
            logger.warning(
                "There is no %s crop among the %d scored: ROC-AUC and PR-AUC cannot be computed.",
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
    """Count the videos that a split promises and those that could be scored.

    What has no score is counted, never dropped silently and never given 0.5.

    Args:
        videos: A row per video with `label`, `method`, `outcome` and `score` (NaN where there is none).
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
    """Count `[[real called real, real called fake], [fake called real, fake called fake]]`."""
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
