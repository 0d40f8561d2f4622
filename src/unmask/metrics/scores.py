"""Metrics of score tables: per frame, per track, per video and per method."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unmask.data.tables import find_deciding
from unmask.decision import CONFIDENT_FAKE, CONFIDENT_REAL, Decision, check_aggregation, find_top, many_confident
from unmask.metrics.figures import Figures, Floats, Integers, classify, describe_verdicts, ratio_of
from unmask.metrics.intervals import BootstrapOptions as BootstrapOptions  # noqa: PLC0414 (its callers have many imports)
from unmask.metrics.intervals import explain_intervals, find_intervals
from unmask.types import Label

logger = logging.getLogger(__name__)


def aggregate_scores(
    scores: npt.ArrayLike, videos: npt.ArrayLike, *, aggregation: str, frames: npt.ArrayLike | None = None
) -> Floats:
    """Aggregate the frame scores of each video, as `Decision.aggregate` does for one.

    Args:
        scores: Frame scores in [0, 1], shape `(N,)`.
        videos: Video number of each frame, from 0 without gaps, shape `(N,)`.
        aggregation: See `unmask.decision.AGGREGATIONS`.
        frames: Frame number of each score within its video, for `frame_max`; None if no two are from one frame.

    Returns:
        Score per video, shape `(num_videos,)`.

    Raises:
        ConfigError: Unknown aggregation.
    """
    check_aggregation(aggregation)
    values, numbers = np.asarray(scores, np.float64), np.asarray(videos, np.int64)
    if aggregation == "frame_max" and frames is not None:
        values, numbers = _highest_per_frame(values, numbers, np.asarray(frames, np.int64))
    order = np.lexsort((values, numbers))
    values, numbers = values[order], numbers[order]
    counts = np.bincount(numbers)
    ends = counts.cumsum()
    starts = ends - counts
    if aggregation in ("max", "median"):
        low, high = (
            (starts + (counts - 1) // 2, starts + counts // 2) if aggregation == "median" else (ends - 1, ends - 1)
        )
        middle: Floats = (values[low] + values[high]) / 2
        return middle
    top = find_top(aggregation)
    if top is not None:
        keep = np.arange(len(values)) >= np.repeat(ends - top, counts)
    elif aggregation == "confident":
        keep = _pick_confident(values, numbers, counts)
    else:
        keep = np.ones(len(values), bool)
    return np.bincount(numbers, values * keep) / np.bincount(numbers, keep)


def _highest_per_frame(values: Floats, videos: Integers, frames: Integers) -> tuple[Floats, Integers]:
    order = np.lexsort((values, frames, videos))
    values, videos, frames = values[order], videos[order], frames[order]
    is_last = np.append((np.diff(videos) != 0) | (np.diff(frames) != 0), True)
    return values[is_last], videos[is_last]


def _pick_confident(values: Floats, videos: Integers, counts: Integers) -> npt.NDArray[np.bool_]:
    is_fake, is_real = values > CONFIDENT_FAKE, values < CONFIDENT_REAL
    needed = np.array([many_confident(num) for num in range(int(counts.max(initial=0)) + 1)])
    by_fakes = np.bincount(videos, is_fake) > needed[counts]
    by_reals = ~by_fakes & (np.bincount(videos, is_real) > 0.9 * counts)
    keep: npt.NDArray[np.bool_] = np.where(by_fakes[videos], is_fake, np.where(by_reals[videos], is_real, True))
    return keep


def aggregate_videos(frames: pd.DataFrame, *, decision: Decision, by: Sequence[str] = ("video_id",)) -> pd.DataFrame:
    """Aggregate the frame scores of each video; of several people, the one with the highest score decides.

    With `faces.keep=all` a video has several tracks. As in prediction, the scores of each are aggregated, and those of
    passers-by and false alarms do not count. `frame_max` takes the highest face of each frame, of whatever person.

    Videos are told apart by `video_id`, never by file name: in FaceForensics++, four methods share the name `000_003`.
    `unmask.metrics.collection.aggregate_videos` does the same for tensors during training.

    Args:
        frames: One row per crop with `video_id`, `label`, `method` and `score`; and `track` and `frame_index` if videos
            have several tracks, `frame_index` also for the aggregation `frame_max`.
        decision: Decision whose aggregation is used.
        by: Columns that tell the units apart: `video_id`, and `track` too for a row per track.

    Returns:
        One row per video with the columns `by`, `label`, `method`, `score` and `num_crops`, in order of first
        appearance.
    """
    deciding = frames if "track" in by else frames[find_deciding(frames)]
    apart = "track" in frames and "track" not in by and decision.aggregation != "frame_max"
    units = deciding.groupby([*by, "track"] if apart else list(by), sort=False, dropna=False)
    numbers = units.ngroup().to_numpy(np.int64)
    _, first = np.unique(numbers, return_index=True)
    indices = deciding["frame_index"] if decision.aggregation == "frame_max" and "frame_index" in frames else None
    scores = aggregate_scores(deciding["score"], numbers, aggregation=decision.aggregation, frames=indices)
    people = deciding.iloc[first][list(by)].assign(score=scores)
    grouped = frames.groupby(list(by), sort=False, dropna=False)
    rows = grouped[["label", "method"]].first()
    highest = people.groupby(list(by), sort=False, dropna=False)["score"].max()
    return rows.assign(score=highest, num_crops=grouped.size()).reset_index()


def figures_of(
    frames: pd.DataFrame,
    *,
    decision: Decision,
    groups: Mapping[str, Any] | None = None,
    bootstrap: BootstrapOptions | None = None,
) -> dict[str, Any]:
    """Compute metrics per frame, per track, per video and per method from a table of scores.

    They are under `frame`, `track` (if the table tells tracks apart), `video` and `by_method`. Each method's fakes are
    compared with all reals. If a class is missing, the areas are None and a warning is logged.

    Args:
        frames: One row per crop with `video_id`, `label`, `method` and `score`, optionally `track` and `frame_index`.
        decision: Threshold, aggregation, calibration and margin.
        groups: Group of each video by its `video_id`; a video that it lacks is a group of its own.
        bootstrap: Settings of the confidence intervals, which `find_intervals` adds as `intervals` per frame, track and
            video, and per video of each method; None for no intervals.
    """
    videos = aggregate_videos(frames, decision=decision)
    present = {int(label) for label in frames["label"].unique()}
    for label in Label:
        if len(frames) and int(label) not in present:
            logger.warning(
                "No %s crops among the %d scored, so ROC-AUC and PR-AUC are undefined.",
                label.name.lower(),
                len(frames),
            )
    methods = sorted(set(frames.loc[frames["label"] == Label.FAKE, "method"]))
    tables = {"frame": frames, "video": videos}
    if "track" in frames:
        tables["track"] = aggregate_videos(frames, decision=decision, by=("video_id", "track"))
    figures = {level: measure(rows, decision, groups, bootstrap) for level, rows in tables.items()}
    figures["video"] |= describe_verdicts(videos["label"], videos["score"], decision=decision)
    by_method = {
        method: {
            "frame": measure(_against_reals(frames, method), decision),
            "video": measure(_against_reals(videos, method), decision, groups, bootstrap),
        }
        for method in methods
    }
    return figures | {"by_method": by_method}


def flatten_figures(frames: pd.DataFrame, *, decision: Decision) -> dict[str, Any]:
    """Compute the main metrics per video and per frame for one row of a table; None where undefined.

    Args:
        frames: One row per crop with `video_id`, `label`, `method` and `score`; may be empty.
        decision: Threshold and aggregation.
    """
    videos = aggregate_videos(frames, decision=decision) if len(frames) else frames
    per_video, per_frame = measure(videos, decision), measure(frames, decision)
    return {
        "num_real": per_video["num_real"],
        "num_fake": per_video["num_fake"],
        **{f"video_{key}": per_video[key] for key in ("auroc", "accuracy", "balanced_accuracy")},
        **{f"frame_{key}": per_frame[key] for key in ("auroc", "accuracy")},
    }


def coverage_of(videos: pd.DataFrame) -> dict[str, Any]:
    """Count the videos of a split, and those among them that have a score.

    Args:
        videos: One row per video with `label`, `method`, `outcome` and `score` (NaN without a score).
    """
    scored = videos["score"].notna()
    return {
        "num_videos": len(videos),
        "num_scored": int(scored.sum()),
        "ratio": ratio_of(int(scored.sum()), len(videos)),
        "outcomes": {str(key): int(count) for key, count in videos["outcome"].value_counts().items()},
        "by_method": {
            str(method): {"num_videos": len(rows), "num_scored": int(rows["score"].notna().sum())}
            for method, rows in videos.groupby("method")
        },
    }


def measure(
    rows: pd.DataFrame,
    decision: Decision,
    groups: Mapping[str, Any] | None = None,
    bootstrap: BootstrapOptions | None = None,
) -> Figures:
    """Return the metrics of a table of scores, with their intervals unless there are no draws.

    Args:
        rows: One row per score with `video_id`, `label` and `score`.
        decision: Decision with the threshold.
        groups: Group of each video by its `video_id`; a video that it lacks is a group of its own.
        bootstrap: Settings of the confidence intervals; None for no intervals.
    """
    labels, scores = rows["label"].to_numpy(np.int64), rows["score"].to_numpy(np.float64)
    figures = classify(labels, scores, threshold=decision.threshold)
    if bootstrap is None or not bootstrap.draws:
        return figures
    known = rows["video_id"].map(dict(groups or {}))
    own = known.where(known.notna(), "video " + rows["video_id"].astype(str))
    return figures | {
        "intervals": find_intervals(figures, labels, scores, own, threshold=decision.threshold, options=bootstrap),
        "interval_notes": explain_intervals(figures, labels, own),
    }


def _against_reals(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    return rows[(rows["method"] == method) | (rows["label"] == Label.REAL)]
