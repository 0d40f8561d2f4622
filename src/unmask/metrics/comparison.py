"""Compare models on the same videos: DeLong's test, the paired bootstrap, and Holm's correction for many pairs."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, rankdata

from unmask.errors import DatasetError, list_problems
from unmask.metrics.figures import Floats, Integers, classify
from unmask.metrics.intervals import MIN_GROUPS, BootstrapOptions, bootstrap_pair, count_groups, number_groups
from unmask.types import Label

MIN_GROUPS_OF_TEST = 10
"""Number of groups of each class without which DeLong's test is left out: a variance between few groups is a guess."""

COMPARED = ("auroc", "auprc", "eer", "balanced_accuracy", "hter", "accuracy", "f1", "log_loss", "brier")
"""Metrics of a comparison."""


def compare_tables(
    first: pd.DataFrame, second: pd.DataFrame, *, thresholds: tuple[float, float], options: BootstrapOptions
) -> dict[str, Any]:
    """Compare two models on the videos that both scored.

    Args:
        first: Score table of the first model: `video_id`, `label`, `group` and `score`, NaN without a score.
        second: Score table of the second model for the same dataset.
        thresholds: Threshold of each model.
        options: Settings of the bootstrap.

    Returns:
        `num`, the number of videos scored by both; `num_left_out`, that of the others; `figures` by name with `first`,
        `second`, `difference`, and where there are enough groups `low`, `high` and `p` of the bootstrap; `delong`, the
        result of `compare_delong`, or None with fewer than `MIN_GROUPS_OF_TEST` groups of a class.

    Raises:
        DatasetError: The tables share no scored video, or disagree about a label.
    """
    scored = [table[table["score"].notna()] for table in (first, second)]
    both = scored[0].merge(scored[1], on="video_id", suffixes=("", "_second"), validate="one_to_one")
    if both.empty:
        raise DatasetError("The two score tables share no scored video. Compare models on the same dataset and split.")
    unlike = both[both["label"] != both["label_second"]]
    if len(unlike):
        named = list_problems(unlike["video_id"].astype(str))
        raise DatasetError(f"The two score tables disagree about the label of {len(unlike)} videos:\n{named}")
    labels, groups = both["label"].to_numpy(), both["group"].to_numpy()
    scores = both["score"].to_numpy(np.float64), both["score_second"].to_numpy(np.float64)
    points = [classify(labels, each, threshold=edge) for each, edge in zip(scores, thresholds, strict=True)]
    drawn = bootstrap_pair(labels, scores, groups, thresholds=thresholds, options=options)
    figures = {
        name: {
            "first": points[0][name],
            "second": points[1][name],
            "difference": points[0][name] - points[1][name],
            **drawn.get(name, {}),
        }
        for name in COMPARED
        if points[0][name] is not None and points[1][name] is not None
    }
    enough = count_groups(labels, number_groups(groups)) >= MIN_GROUPS_OF_TEST
    return {
        "num": len(both),
        "num_left_out": sum(len(table) - len(both) for table in scored),
        "figures": figures,
        "delong": compare_delong(labels, *scores, groups=groups, level=options.level) if enough else None,
    }


def compare_all(
    tables: Mapping[str, pd.DataFrame], *, thresholds: Mapping[str, float], options: BootstrapOptions
) -> list[dict[str, Any]]:
    """Compare every pair of models, with p values corrected for the number of pairs.

    Args:
        tables: Score table of each model by name; see `compare_tables`.
        thresholds: Threshold of each model by name.
        options: Settings of the bootstrap.

    Returns:
        The result of `compare_tables` for each pair, with the names `first` and `second`, and with `p_holm` beside `p`
        in `delong` and in each of `figures`.

    Raises:
        DatasetError: Two tables share no scored video, or disagree about a label.
    """
    pairs = [
        {"first": one, "second": other}
        | compare_tables(tables[one], tables[other], thresholds=(thresholds[one], thresholds[other]), options=options)
        for one, other in combinations(tables, 2)
    ]
    families = [[pair["delong"] for pair in pairs]]
    families += [[pair["figures"].get(name) for pair in pairs] for name in COMPARED]
    for family in families:
        tests = [test for test in family if test is not None and "p" in test]
        for test, corrected in zip(tests, correct_holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = corrected
    return pairs


def delong(labels: npt.ArrayLike, scores: npt.ArrayLike, *, groups: npt.ArrayLike | None = None) -> tuple[Any, Any]:
    """Return ROC-AUCs and their covariance (DeLong et al., 1988), in the time of sorting (Sun and Xu, 2014).

    Args:
        labels: 0 real, 1 fake, shape `(N,)`, with at least two of each.
        scores: Scores of one or more models, shape `(N,)` or `(models, N)`.
        groups: Group of each score, for the covariance of clustered data (Obuchowski, 1997); None if all are
            independent.

    Returns:
        Areas, shape `(models,)`, and covariance, shape `(models, models)`.
    """
    truth, values = np.asarray(labels, np.int64), np.atleast_2d(np.asarray(scores, np.float64))
    is_fake = truth == Label.FAKE
    num_fake, num_real = int(is_fake.sum()), int((~is_fake).sum())
    if min(num_fake, num_real) < MIN_GROUPS or not np.isfinite(values).all():
        raise ValueError(f"Expected finite scores, and at least 2 of each class: {num_real} real, {num_fake} fake.")
    ranks = rankdata(values, axis=1)
    placed = np.empty_like(values)  # the share of the other class that a score is on the right side of
    placed[:, is_fake] = (ranks[:, is_fake] - rankdata(values[:, is_fake], axis=1)) / num_real
    placed[:, ~is_fake] = 1 - (ranks[:, ~is_fake] - rankdata(values[:, ~is_fake], axis=1)) / num_fake
    areas = placed[:, is_fake].mean(axis=1)
    codes = np.arange(len(truth)) if groups is None else number_groups(groups)
    covariance = np.zeros((len(values), len(values)))
    sums = [_sum_by_group((placed - areas[:, None]) * mask / mask.sum(), codes) for mask in (~is_fake, is_fake)]
    sizes = [len(np.unique(codes[mask])) for mask in (~is_fake, is_fake)]
    for part, size in zip(sums, sizes, strict=True):
        covariance += part @ part.T * size / max(size - 1, 1)
    mixed, num_groups = sums[0] @ sums[1].T, int(codes.max()) + 1
    covariance += (mixed + mixed.T) * num_groups / max(num_groups - 1, 1)
    return areas, covariance


def _sum_by_group(values: Floats, codes: Integers) -> Floats:
    return np.stack([np.bincount(codes, row) for row in values])


def find_delong_interval(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, groups: npt.ArrayLike | None = None, level: float = 0.95
) -> dict[str, float] | None:
    """Return ROC-AUC as `value` with its interval from `low` to `high`, symmetric in the log odds.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: Scores, shape `(N,)`.
        groups: Group of each score; None if all are independent.
        level: Share of intervals that hold the true value.

    Returns:
        None if the variance is 0, as for an area of 0 or 1.
    """
    areas, covariance = delong(labels, scores, groups=groups)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if not 0 < area < 1 or variance <= 0:
        return None
    odds, width = math.log(area / (1 - area)), norm.ppf((1 + level) / 2) * math.sqrt(variance) / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-edge)) for edge in (odds - width, odds + width))
    return {"value": area, "low": low, "high": high}


def compare_delong(
    labels: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> dict[str, float | None]:
    """Test whether two models have the same ROC-AUC on the same videos.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        first: Scores of the first model, shape `(N,)`.
        second: Scores of the second model.
        groups: Group of each score; None if all are independent.
        level: Level of the interval.

    Returns:
        `difference` of the areas, first less second, with `low` and `high`, `z` and the two-sided `p`; the last two are
        None where both rank the videos alike.
    """
    areas, covariance = delong(labels, np.stack([np.asarray(first), np.asarray(second)]), groups=groups)
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = math.sqrt(max(variance, 0.0))
    width = float(norm.ppf((1 + level) / 2)) * error
    z = difference / error if error > 1e-12 else None
    p = None if z is None else float(2 * norm.sf(abs(z)))
    return {"difference": difference, "low": difference - width, "high": difference + width, "z": z, "p": p}


def correct_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected for their number (Holm, 1979); None stays None and does not count."""
    known = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[at] = highest
    return corrected
