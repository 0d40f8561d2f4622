"""Confidence intervals of metrics: a stratified bootstrap over groups.

The unit of resampling is the group (videos of one person or origin), never the frame or the video: scores within a
group depend on each other, and resampling them one by one makes intervals far too narrow.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import norm, t

from unmask.errors import ConfigError
from unmask.metrics.figures import (
    FALSE_POSITIVE_RATES,
    NUM_BINS,
    PARTIAL_AUC_LIMIT,
    Figures,
    Floats,
    Integers,
    check_scores,
    find_bins,
)
from unmask.types import Label

MAX_LEVELS = 2**15
"""Number of distinct scores up to which the bootstrap is exact; more, as of frames, are ranked into so many levels."""

MIN_DRAWS = 100
"""Smallest number of draws: 2.5 % of them make the bound of a 95 % interval."""

MIN_GROUPS = 2
"""Number of groups of each class without which there is no interval."""

_AT_ONCE = 8
"""Number of draws made together: few enough for the cache of a processor."""

Draws = dict[str, Floats]
Counts = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BootstrapOptions:
    """Settings of the bootstrap.

    Args:
        draws: Number of draws; 0 for no intervals.
        seed: Seed of the draws.
        level: Share of intervals that hold the true value, such as 0.95.

    Raises:
        ConfigError: Too few draws, or a level that is not between 0 and 1.
    """

    draws: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.draws < MIN_DRAWS and self.draws != 0:
            raise ConfigError(
                f"bootstrap.draws={self.draws} is not enough for an interval. Set at least {MIN_DRAWS}, or 0 for no "
                f"intervals."
            )
        if not 0 < self.level < 1:
            raise ConfigError(f"bootstrap.level={self.level} must lie between 0 and 1, such as 0.95.")


def find_intervals(
    figures: Figures,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    threshold: float,
    options: BootstrapOptions,
) -> dict[str, dict[str, float]]:
    """Return confidence intervals of metrics by a stratified bootstrap over groups.

    A draw takes as many groups as there are, with replacement, apart for groups with reals only, with fakes only and
    with both. The bounds are percentiles of the draws, moved outwards for few groups as a t distribution asks for
    (Hesterberg, 2015).

    Args:
        figures: Result of `unmask.metrics.figures.classify` for these scores.
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake) in [0, 1], shape `(N,)`.
        groups: Group of each score, shape `(N,)`.
        threshold: Lowest score that counts as fake.
        options: Number of draws, seed and level.

    Returns:
        `value`, `low` and `high` by name of the metric; a metric without an interval is left out.
    """
    codes = number_groups(groups)
    table = _Table.build(labels, scores, codes, threshold=threshold)
    num_groups = count_groups(labels, codes)
    if num_groups < MIN_GROUPS or not options.draws:
        return {}
    (drawn,) = _bootstrap([table], options)
    bounds = {name: _bound(values, num_groups, options.level) for name, values in drawn.items()}
    return {
        name: {"value": float(figures[name]), "low": float(low), "high": float(high)}
        for name, (low, high) in bounds.items()
        if figures.get(name) is not None and math.isfinite(low)
    }


def bootstrap_pair(
    labels: npt.ArrayLike,
    scores: tuple[npt.ArrayLike, npt.ArrayLike],
    groups: npt.ArrayLike,
    *,
    thresholds: tuple[float, float],
    options: BootstrapOptions,
) -> dict[str, dict[str, float]]:
    """Compare the metrics of two models on the same videos: both are measured on each draw of groups.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake) of the first and of the second model, shape `(N,)` each.
        groups: Group of each video, shape `(N,)`.
        thresholds: Threshold of each model.
        options: Number of draws, seed and level.

    Returns:
        By name of the metric, the bounds `low` and `high` of the difference, first less second, and the two-sided `p`:
        twice the share of draws on the other side of 0, and at least 1 / (draws + 1). Empty with too few groups.
    """
    codes = number_groups(groups)
    num_groups = count_groups(labels, codes)
    if num_groups < MIN_GROUPS or not options.draws:
        return {}
    tables = [
        _Table.build(labels, each, codes, threshold=threshold)
        for each, threshold in zip(scores, thresholds, strict=True)
    ]
    first, second = _bootstrap(tables, options)
    found = {}
    for name in first:
        differences = (first[name] - second[name])[np.isfinite(first[name] - second[name])]
        low, high = _bound(differences, num_groups, options.level)
        if math.isfinite(low):
            beyond = min((differences <= 0).sum(), (differences >= 0).sum())
            p = min(1.0, 2 * (int(beyond) + 1) / (len(differences) + 1))
            found[name] = {"low": low, "high": high, "p": p}
    return found


def explain_intervals(figures: Figures, labels: npt.ArrayLike, groups: npt.ArrayLike) -> list[str]:
    """Return what a reader of the intervals must know: too few groups, or a metric without any error.

    Args:
        figures: Metrics of the scores, with `auroc`.
        labels: 0 real, 1 fake, shape `(N,)`.
        groups: Group of each score, shape `(N,)`.
    """
    num = count_groups(labels, number_groups(groups))
    if num < MIN_GROUPS:
        return [f"There are no confidence intervals: they need at least {MIN_GROUPS} groups of each class, not {num}."]
    notes = [f"The confidence intervals rest on only {num} groups of a class, and are rough."] if num < 20 else []
    if figures.get("auroc") == 1:
        notes.append(
            f"Every fake scores higher than every real one, so the draws cannot differ and the interval of ROC-AUC is "
            f"a point. By the rule of three, error rates up to {min(3 / num, 1):.1%} are compatible with {num} groups."
        )
    return notes


def number_groups(groups: npt.ArrayLike) -> Integers:
    """Return the number of each group, from 0 without gaps; rows without a group are groups of their own."""
    codes = np.array(pd.factorize(np.asarray(groups, dtype=object))[0], np.int64)
    alone = codes < 0
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
    return codes


def count_groups(labels: npt.ArrayLike, codes: Integers) -> int:
    """Return the number of groups of the class, of those present, that has fewest."""
    truth = np.asarray(labels, np.int64)
    return min((len(np.unique(codes[truth == label])) for label in set(truth.tolist())), default=0)


@dataclass(frozen=True)
class _Table:
    """Scores summed up by group, so that a draw is a matrix product.

    Args:
        reals: Number of real scores by level, highest scores first, and group; sparse, shape `(levels, groups)`.
        fakes: The same for fakes.
        sums: Sums over each group: counts of the confusion matrix, losses and gaps by bin; sparse, shape
            `(sums, groups)`.
        strata: Groups with the same classes, as arrays of numbers.
    """

    reals: Any
    fakes: Any
    sums: Any
    strata: tuple[Integers, ...]

    @classmethod
    def build(cls, labels: npt.ArrayLike, scores: npt.ArrayLike, codes: Integers, *, threshold: float) -> "_Table":
        truth, values = check_scores(labels, scores)
        num_groups = int(codes.max(initial=-1)) + 1
        _, levels = np.unique(-values, return_inverse=True)
        num_levels = int(levels.max(initial=-1)) + 1
        if num_levels > MAX_LEVELS:
            levels, num_levels = levels * MAX_LEVELS // num_levels, MAX_LEVELS
        shape = (num_levels, num_groups)
        of_class = [
            csr_array((np.ones(mask.sum(), np.int32), (levels[mask], codes[mask])), shape=shape)
            for mask in (truth == label for label in Label)
        ]
        has = [np.bincount(codes, truth == label, num_groups) > 0 for label in Label]
        kinds = has[Label.REAL] + 2 * has[Label.FAKE]
        strata = tuple(np.flatnonzero(kinds == kind) for kind in np.unique(kinds))
        sums = csr_array(_sum_up(truth, values, codes, threshold))
        return cls(of_class[Label.REAL], of_class[Label.FAKE], sums, strata)

    def measure(self, counts: Counts) -> Draws:
        """Return the metrics of draws.

        Args:
            counts: How often each group was drawn, shape `(groups, draws)`.
        """
        sums = self.sums @ counts
        real_as_real, real_as_fake, fake_as_real, fake_as_fake = sums[:4]
        num_real, num_fake = real_as_real + real_as_fake, fake_as_real + fake_as_fake
        num = num_real + num_fake
        with np.errstate(divide="ignore", invalid="ignore"):
            specificity, recall = real_as_real / num_real, fake_as_fake / num_fake
            called_fake, called_real = real_as_fake + fake_as_fake, real_as_real + fake_as_real
            sizes = num_real * num_fake * called_fake * called_real
            agreement = real_as_real * fake_as_fake - real_as_fake * fake_as_real
            drawn = {
                "accuracy": (real_as_real + fake_as_fake) / num,
                "balanced_accuracy": (specificity + recall) / 2,
                "precision": fake_as_fake / called_fake,
                "recall": recall,
                "specificity": specificity,
                "f1": 2 * fake_as_fake / (num_fake + called_fake),
                "mcc": np.where(sizes > 0, agreement / np.sqrt(sizes), 0.0),
                "hter": 1 - (specificity + recall) / 2,
                "log_loss": sums[4] / num,
                "brier": sums[5] / num,
                "ece": np.abs(sums[6:]).sum(axis=0) / num,
            }
        if not self.reals.nnz or not self.fakes.nnz:
            return drawn
        levels = (np.ascontiguousarray((part @ counts).T) for part in (self.reals, self.fakes))
        curves = [_measure_curve(reals, fakes) for reals, fakes in zip(*levels, strict=True)]
        return drawn | {name: np.array([curve[name] for curve in curves]) for name in curves[0]}


def _sum_up(truth: Integers, values: Floats, codes: Integers, threshold: float) -> Floats:
    is_fake, called = truth == Label.FAKE, values >= threshold
    held = np.clip(values, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)  # as scikit-learn does
    columns = [
        ~is_fake & ~called,
        ~is_fake & called,
        is_fake & ~called,
        is_fake & called,
        -np.where(is_fake, np.log(held), np.log1p(-held)),
        (values - truth) ** 2,
    ]
    num_groups = int(codes.max(initial=-1)) + 1
    gaps = np.bincount(codes * NUM_BINS + find_bins(values), values - truth, num_groups * NUM_BINS)
    sums = [np.bincount(codes, column, num_groups) for column in columns]
    return np.concatenate([np.stack(sums), gaps.reshape(num_groups, NUM_BINS).T])


def _measure_curve(reals: Counts, fakes: Counts) -> dict[str, float]:
    """Return the metrics over all thresholds of a draw.

    Args:
        reals: Number of real scores at each level, highest scores first, shape `(levels,)`.
        fakes: The same for fakes.
    """
    false, true = reals.cumsum(dtype=np.int32), fakes.cumsum(dtype=np.int32)
    num_real, num_fake = int(false[-1]), int(true[-1])
    widths, heights = reals.astype(np.float64), (2 * true - fakes).astype(np.float64)
    precision = true.astype(np.float32) / np.maximum(false + true, 1).astype(np.float32)
    figures = {
        "auroc": float(np.einsum("i,i->", widths, heights)) / (2 * num_real * num_fake),
        "auprc": float(np.einsum("i,i->", fakes, precision, dtype=np.float64)) / num_fake,
        "eer": _find_equal_error_rate(false, true),
    }
    for rate in FALSE_POSITIVE_RATES:
        end = np.searchsorted(false, np.int32(rate * num_real + 1e-9), side="right")
        figures[f"tpr_at_fpr_{rate}"] = int(true[end - 1]) / num_fake if end else 0.0
    limit = PARTIAL_AUC_LIMIT * num_real
    end = np.searchsorted(false, np.int32(limit + 1e-9), side="right")
    start, height = (int(false[end - 1]), int(true[end - 1])) if end else (0, 0)
    slope = int(fakes[end]) / int(reals[end]) if end < len(reals) else 0.0
    rest = limit - start
    area = float(np.einsum("i,i->", widths[:end], heights[:end])) / 2 + rest * (height + slope * rest / 2)
    least = PARTIAL_AUC_LIMIT**2 / 2
    within = (area / (num_real * num_fake) - least) / (PARTIAL_AUC_LIMIT - least)
    return figures | {f"pauc_{PARTIAL_AUC_LIMIT}": (1 + within) / 2}


def _find_equal_error_rate(false: Counts, true: Counts) -> float:
    """Return what `unmask.metrics.figures.find_equal_error_rate` does, of counts and without rates of all points."""
    num_real, num_fake = int(false[-1]), int(true[-1])
    after = bisect_left(range(len(false)), 1.0, key=lambda at: int(false[at]) / num_real + int(true[at]) / num_fake)
    points = [(int(false[at]), int(true[at])) if at >= 0 else (0, 0) for at in (after - 1, after)]
    (left, low), (right, high) = ((false / num_real, false / num_real + true / num_fake - 1) for false, true in points)
    return left - low / (high - low) * (right - left)


def _bootstrap(tables: Sequence[_Table], options: BootstrapOptions) -> list[Draws]:
    """Return the metrics of all draws, which are the same for all tables."""
    parts: list[list[Draws]] = [[] for _ in tables]
    for counts in _draw_counts(tables[0], options):
        for table, found in zip(tables, parts, strict=True):
            found.append(table.measure(counts))
    return [{name: np.concatenate([part[name] for part in found]) for name in found[0]} for found in parts]


def _draw_counts(table: _Table, options: BootstrapOptions) -> Iterator[Counts]:
    """Yield how often each group was drawn, shape `(groups, draws)`, for a few draws at a time."""
    rng = np.random.default_rng(options.seed)
    for start in range(0, options.draws, _AT_ONCE):
        counts = np.zeros((min(_AT_ONCE, options.draws - start), table.sums.shape[1]), np.int32)
        for row in counts:
            for stratum in table.strata:
                row[stratum] = np.bincount(rng.integers(len(stratum), size=len(stratum)), minlength=len(stratum))
        yield np.ascontiguousarray(counts.T)


def _bound(values: Floats, num_groups: int, level: float) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return math.nan, math.nan
    tail = float(norm.cdf(t.ppf((1 - level) / 2, num_groups - 1) * math.sqrt(num_groups / (num_groups - 1))))
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
