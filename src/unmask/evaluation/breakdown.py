"""Break results down by condition, to see where a model fails: by method, size of the face, brightness and others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from unmask.decision import Decision
from unmask.types import ORIGINAL, Label

EDGES: Mapping[str, tuple[float, ...]] = {
    "face_size": (64.0, 128.0, 256.0),
    "confidence": (0.9, 0.99),
    "brightness": (64.0, 96.0, 128.0, 160.0),
}
"""Limits between the bins of each measured condition; fixed, so that bins mean the same on every dataset."""

CONDITIONS = ("compression", "source", *EDGES)
"""Conditions by which videos are broken down, besides the method."""

_UNITS = {"face_size": " px", "confidence": "", "brightness": ""}

MAX_VALUES = 24
"""Maximum number of values of a condition; more are no condition, but names."""

FEWEST = 5
"""Minimum number of videos in a slice that is listed among the worst."""


def find_conditions(videos: pd.DataFrame) -> pd.DataFrame:
    """Return the value of each condition for each video, as text; "" where it is unknown.

    Args:
        videos: One row per video with the columns of `unmask.evaluation.scoring.VIDEO_COLUMNS`.
    """
    found = pd.DataFrame(index=videos.index)
    found["compression"] = videos["compression"].fillna("").astype(str)
    names = videos["video_id"].astype(str)
    found["source"] = names.str.split("/").str[0].where(names.str.contains("/"), "")
    for name, edges in EDGES.items():
        found[name] = [_name_bin(value, edges, unit=_UNITS[name]) for value in videos[name].astype(float)]
    return found


def _name_bin(value: float, edges: Sequence[float], *, unit: str) -> str:
    """Return the name of a value's bin, such as `64 to 128 px`."""
    if not np.isfinite(value):
        return ""
    place = int(np.searchsorted(edges, value, side="right"))
    if place == 0:
        return f"under {edges[0]:g}{unit}"
    return f"{edges[-1]:g}{unit} and over" if place == len(edges) else f"{edges[place - 1]:g} to {edges[place]:g}{unit}"


def break_down(videos: pd.DataFrame, *, decision: Decision) -> dict[str, dict[str, Any]]:
    """Compute metrics for each value of each condition that has more than one value.

    Args:
        videos: One row per scored video, with `label`, `method`, `score` and what `find_conditions` needs.
        decision: Decision with the threshold.

    Returns:
        By condition and value: number of reals and fakes, `auroc`, `false_positive_rate` and `false_negative_rate`,
        None where a class is missing.
    """
    conditions = find_conditions(videos)
    labels, scores = videos["label"].to_numpy(np.int64), videos["score"].to_numpy(np.float64)
    result: dict[str, dict[str, Any]] = {}
    for name in CONDITIONS:
        values = [value for value in _order(conditions[name], name) if value]
        if 1 < len(values) <= MAX_VALUES:
            masks = {value: (conditions[name] == value).to_numpy() for value in values}
            result[name] = {value: _measure(labels[mask], scores[mask], decision) for value, mask in masks.items()}
    return result


def _order(values: pd.Series, name: str) -> list[str]:
    """Return the values of a condition: bins from low to high, others by name."""
    there = set(values)
    if name not in EDGES:
        return sorted(there)
    edges = EDGES[name]
    middles = [edges[0] - 1e-9, *edges]
    return [one for one in (_name_bin(middle, edges, unit=_UNITS[name]) for middle in middles) if one in there]


def _measure(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], decision: Decision) -> dict[str, Any]:
    is_fake, called = labels == Label.FAKE, scores >= decision.threshold
    num_fake, num_real = int(is_fake.sum()), int((~is_fake).sum())
    return {
        "num_real": num_real,
        "num_fake": num_fake,
        "auroc": float(roc_auc_score(labels, scores)) if num_real and num_fake else None,
        "false_positive_rate": float(called[~is_fake].mean()) if num_real else None,
        "false_negative_rate": float((~called)[is_fake].mean()) if num_fake else None,
    }


def find_worst_slices(videos: pd.DataFrame, *, decision: Decision, most: int = 20) -> list[dict[str, Any]]:
    """Return the slices of the videos with the highest error rates: a method, alone or under one condition.

    A slice is compared with its method as a whole: it is listed only if the lower limit of its interval is above the
    error rate of the method, or if it is a whole method.

    Args:
        videos: One row per scored video, as for `break_down`.
        decision: Decision with the threshold.
        most: Maximum number of slices.

    Returns:
        `method`, `condition` and `value` ("" for a whole method), `num`, `num_wrong`, `error_rate`, and the Wilson
        interval of 95 % `low` to `high`, highest error rate first.
    """
    wrong = ((videos["score"] >= decision.threshold).astype(int) != videos["label"]).to_numpy()
    slices = [one for one in _list_slices(videos, find_conditions(videos), wrong) if one["num_wrong"]]
    return sorted(slices, key=lambda one: (-one["low"], one["method"], one["condition"], one["value"]))[:most]


def _list_slices(
    videos: pd.DataFrame, conditions: pd.DataFrame, wrong: npt.NDArray[np.bool_]
) -> Iterator[dict[str, Any]]:
    for method, rows in videos.groupby("method", sort=True):
        places = videos.index.get_indexer(rows.index)
        whole = _count(str(method), "", "", wrong[places])
        yield whole
        for name in CONDITIONS:
            for value in _order(conditions.loc[rows.index, name], name):
                mask = (conditions.loc[rows.index, name] == value).to_numpy()
                if value and FEWEST <= mask.sum() < len(mask):
                    part = _count(str(method), name, value, wrong[places][mask])
                    if part["low"] > whole["error_rate"]:
                        yield part


def _count(method: str, condition: str, value: str, wrong: npt.NDArray[np.bool_]) -> dict[str, Any]:
    interval = binomtest(int(wrong.sum()), len(wrong)).proportion_ci(method="wilson")
    return {
        "method": method, "condition": condition, "value": value, "num": len(wrong), "num_wrong": int(wrong.sum()),
        "error_rate": float(wrong.mean()), "low": float(interval.low), "high": float(interval.high),
    }  # fmt: skip


def apply_policies(videos: pd.DataFrame, *, decision: Decision) -> dict[str, dict[str, Any]]:
    """Compute accuracy and ROC-AUC with unscored videos excluded, counted as real, and counted as fake.

    Args:
        videos: One row per video of the split; the score is NaN for unscored videos.
        decision: Decision with the threshold.
    """
    labels, scores = videos["label"].to_numpy(np.int64), videos["score"].to_numpy(np.float64)
    known = np.isfinite(scores)
    policies = {
        "exclude": (labels[known], scores[known]),
        "real": (labels, np.where(known, scores, 0.0)),
        "fake": (labels, np.where(known, scores, 1.0)),
    }
    return {
        name: {
            "num": len(truth),
            "accuracy": float(((given >= decision.threshold) == truth).mean()) if len(truth) else None,
            "auroc": float(roc_auc_score(truth, given)) if len(set(truth.tolist())) == len(Label) else None,
        }
        for name, (truth, given) in policies.items()
    }  # fmt: skip


def split_by_seen(videos: pd.DataFrame, trained_methods: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the fakes of methods that the training saw, and of those it did not, each with all reals.

    Args:
        videos: One row per scored video.
        trained_methods: Forgery methods of the training split; empty if unknown.

    Returns:
        `seen` and `unseen`; each is left out if it has no fakes, both if the methods are unknown.
    """
    if not trained_methods:
        return {}
    is_real = videos["label"] == Label.REAL
    is_seen = videos["method"].isin([method for method in trained_methods if method != ORIGINAL])
    parts = {"seen": videos[is_real | is_seen], "unseen": videos[is_real | ~is_seen]}
    return {name: rows for name, rows in parts.items() if (rows["label"] == Label.FAKE).any()}
