"""Choose the decision on the validation split: aggregation, threshold, calibration and uncertain band."""

import logging
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from unmask.decision import AGGREGATIONS, MARGIN, Decision, log_odds
from unmask.errors import ConfigError, suggest
from unmask.metrics.figures import MIN_FALSE_POSITIVES, Floats, Integers, check_scores, weigh_classes
from unmask.metrics.scores import aggregate_scores
from unmask.types import Label

logger = logging.getLogger(__name__)

MIN_PER_CLASS = 10
"""Minimum number of scores per class for calibration."""

_LEAST_SPREAD = 1e-9


AUTO = "auto"
"""Aggregation that is chosen on the validation split."""


def choose_aggregation(
    labels: npt.ArrayLike, scores: npt.ArrayLike, videos: npt.ArrayLike, *, frames: npt.ArrayLike | None = None
) -> str:
    """Return the aggregation with the highest ROC-AUC per video; of equally good ones, the first of `AGGREGATIONS`.

    Args:
        labels: Frame labels, shape `(N,)`.
        scores: Frame scores in [0, 1], shape `(N,)`.
        videos: Video number of each frame, from 0 without gaps.
        frames: Frame number of each score within its video; None if no two are from one frame.

    Returns:
        The first of `AGGREGATIONS` if only one class is present.
    """
    truth, values = check_scores(labels, scores)
    numbers = np.asarray(videos, np.int64)
    of_videos = truth[np.unique(numbers, return_index=True)[1]]
    if not 0 < of_videos.sum() < len(of_videos):
        return AGGREGATIONS[0]
    areas = {
        name: roc_auc_score(of_videos, aggregate_scores(values, numbers, aggregation=name, frames=frames))
        for name in AGGREGATIONS
    }
    return max(areas, key=lambda name: round(float(areas[name]), 9))


CALIBRATIONS = ("platt", "temperature", "isotonic", "none")
"""Calibration of scores: slope and intercept of their log odds, the slope alone, any ascending steps, or none."""


def check_calibration(calibration: str) -> None:
    """Raise a ConfigError unless a calibration is one of `CALIBRATIONS`."""
    if calibration not in CALIBRATIONS:
        meant = suggest(calibration, CALIBRATIONS, key="calibration")
        raise ConfigError(f"Unknown calibration '{calibration}'.{meant} Choose one of: {', '.join(CALIBRATIONS)}.")


def calibrate(labels: npt.ArrayLike, scores: npt.ArrayLike, *, calibration: str = "platt") -> dict[str, Any]:
    """Fit a calibration, and return the arguments of `Decision` for it; empty if there is none.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake), shape `(N,)`.
        calibration: One of `CALIBRATIONS`.

    Raises:
        ConfigError: Unknown calibration.
    """
    check_calibration(calibration)
    if calibration == "none":
        return {}
    if calibration == "isotonic":
        return {"curve": fit_isotonic(labels, scores)}
    return {"calibration": fit_calibration(labels, scores, has_intercept=calibration == "platt")}


def fit_calibration(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, has_intercept: bool = True
) -> tuple[float, float] | None:
    """Fit a slope and intercept to the log odds of scores (Platt scaling, 1999), with equal weight for both classes.

    Platt's smoothed targets, slightly inside 0 and 1, keep the fit finite for perfectly separated classes. Without an
    intercept, the slope is the inverse of the temperature of Guo et al. (2017).

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake), shape `(N,)`.
        has_intercept: Whether to fit the intercept; otherwise it is 0.

    Returns:
        Slope and intercept for `Decision.calibration`. None if a class has fewer than `MIN_PER_CLASS` scores, or if
        higher scores do not mean more fakes.
    """
    truth = np.asarray(labels, np.int64)
    counts = {label: int((truth == label).sum()) for label in Label}
    if min(counts.values()) < MIN_PER_CLASS:
        return None
    odds = np.array([log_odds(float(score)) for score in np.asarray(scores, np.float64)])
    is_fake = truth == Label.FAKE
    targets = np.where(is_fake, 1 - 1 / (counts[Label.FAKE] + 2), 1 / (counts[Label.REAL] + 2))
    fitted = _fit_logistic(odds, targets, weigh_classes(truth), has_intercept=has_intercept)
    return fitted if fitted is not None and fitted[0] > 0 else None


def fit_isotonic(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[tuple[float, float], ...] | None:
    """Fit ascending probabilities to scores (isotonic regression), with equal weight for both classes.

    They stay within Platt's targets, because a probability of 0 or 1 cannot be known from few scores.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake), shape `(N,)`.

    Returns:
        Points for `Decision.curve`. None as for `fit_calibration`.
    """
    truth, values = check_scores(labels, scores)
    counts = {label: int((truth == label).sum()) for label in Label}
    if min(counts.values()) < MIN_PER_CLASS:
        return None
    edges = {"y_min": 1 / (counts[Label.REAL] + 2), "y_max": 1 - 1 / (counts[Label.FAKE] + 2)}
    model = IsotonicRegression(**edges, out_of_bounds="clip").fit(values, truth, sample_weight=weigh_classes(truth))
    heights = np.maximum.accumulate(model.y_thresholds_)
    if np.ptp(heights) < _LEAST_SPREAD:
        return None
    return tuple(zip(model.X_thresholds_.tolist(), heights.tolist(), strict=True))


def _fit_logistic(
    values: Floats, targets: Floats, weights: Floats, *, has_intercept: bool
) -> tuple[float, float] | None:
    """Minimize the weighted cross entropy of sigmoid(slope * value + intercept), without regularization."""
    if np.ptp(values) < _LEAST_SPREAD:  # equal scores carry no information
        return None
    spread = float(values.std())
    centre = float(values.mean()) if has_intercept else 0.0
    # scikit-learn takes hard labels only, so each soft target becomes a weighted fake and a weighted real.
    shares = np.concatenate([weights * targets, weights * (1 - targets)])
    classes = np.repeat([1, 0], len(values))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=200, fit_intercept=has_intercept)
    model.fit(np.tile((values - centre) / spread, 2)[:, None], classes, sample_weight=shares * len(values))
    slope = float(model.coef_[0, 0]) / spread
    intercept = float(model.intercept_[0] - slope * centre) if has_intercept else 0.0
    return (slope, intercept) if np.isfinite([slope, intercept]).all() else None


CRITERIA = ("balanced_accuracy", "f1", "eer", "youden", "fpr_0.05")
"""Highest mean recall of both classes, highest F1 of the fakes, equal error rates, highest sum of true positive and
true negative rate (Youden, 1950: the same threshold as balanced accuracy), or most fakes found with at most 5 % of the
reals called fake; any other false positive rate does too."""

_TARGET = re.compile(r"fpr_(0?\.\d+)")


def check_criterion(criterion: str) -> None:
    """Raise a ConfigError unless a criterion is one of `CRITERIA`."""
    if criterion not in CRITERIA and find_target(criterion) is None:
        meant = suggest(criterion, CRITERIA, key="threshold_criterion")
        raise ConfigError(f"Unknown threshold_criterion '{criterion}'.{meant} Choose one of: {', '.join(CRITERIA)}.")


def find_target(criterion: str) -> float | None:
    """Return the false positive rate of a criterion such as `fpr_0.05`, or None for another one."""
    match = _TARGET.fullmatch(criterion)
    return float(match[1]) if match is not None and float(match[1]) > 0 else None


def check_uncertain_error(error: float | None) -> None:
    """Raise a ConfigError unless the target error of the uncertain band is None or a rate."""
    if error is not None and not (isinstance(error, int | float) and 0 < error < 0.5):
        raise ConfigError(f"uncertain_error={error} must be a rate above 0 and below 0.5, such as 0.02, or null.")


def choose_threshold(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    criterion: str = "balanced_accuracy",
    aggregation: str = "mean",
    calibration: str = "platt",
    uncertain_error: float | None = None,
) -> Decision:
    """Choose the best threshold by a criterion, calibrate the scores, and set the width of the uncertain band.

    All thresholds between two neighbouring scores give the same result, so the candidates are the gaps between scores.
    Of equally good gaps the widest wins, and the threshold is its middle, as far as possible from every score.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`; of videos, or of crops if the data are single images.
        scores: P(fake), shape `(N,)`.
        criterion: One of `CRITERIA`.
        aggregation: Aggregation of frame scores that made the scores; stored in the decision.
        calibration: One of `CALIBRATIONS`.
        uncertain_error: Error rate that the scores outside the uncertain band reach; see `find_margin`. None keeps the
            default margin.

    Returns:
        The decision. If only one class is present: threshold 0.5 and criterion `default`, with a warning.

    Raises:
        ConfigError: Unknown criterion or calibration, or an invalid error rate.
    """
    check_criterion(criterion)
    check_calibration(calibration)
    check_uncertain_error(uncertain_error)
    truth, values = check_scores(labels, scores)
    if len(set(truth.tolist())) < len(Label):
        logger.warning("All %d validation scores are of one class, so the threshold stays at 0.5.", len(truth))
        return Decision(aggregation=aggregation)
    target, num_real = find_target(criterion), int((truth == Label.REAL).sum())
    if target is not None and target * num_real < MIN_FALSE_POSITIVES:
        logger.warning(
            "threshold_criterion=%s rests on %d real validation scores; it takes %d to know such a rate.",
            criterion, num_real, round(MIN_FALSE_POSITIVES / target),
        )  # fmt: skip
    edges = np.concatenate([[0.0], np.unique(values), [1.0]])
    quality = _quality(truth, values, edges[:-1], criterion=criterion)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    gap = best[np.argmax(np.diff(edges)[best])]
    threshold = float((edges[gap] + edges[gap + 1]) / 2)
    margin = None if uncertain_error is None else find_margin(truth, values, threshold=threshold, error=uncertain_error)
    return Decision(
        threshold=threshold,
        aggregation=aggregation,
        criterion=criterion,
        margin=MARGIN if margin is None else margin,
        **calibrate(truth, values, calibration=calibration),
    )


MIN_DECIDED = 0.1
"""Share of the scores, with both classes weighted equally, that must stay outside the uncertain band."""


def find_margin(labels: npt.ArrayLike, scores: npt.ArrayLike, *, threshold: float, error: float) -> float | None:
    """Return the narrowest margin of a decision beyond which scores reach an error rate, both classes weighted alike.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`, with both present.
        scores: P(fake), shape `(N,)`.
        threshold: Threshold of the decision.
        error: Error rate to reach.

    Returns:
        None, with a warning, if no margin reaches it that leaves at least `MIN_DECIDED` of the scores decided.
    """
    truth, values = check_scores(labels, scores)
    is_fake = values >= threshold
    reach = np.where(is_fake, 1 - threshold, threshold)
    distance = np.abs(values - threshold) / np.where(reach > 0, reach, 1)
    order = np.argsort(distance, kind="stable")
    distance, weights = distance[order], weigh_classes(truth)[order]
    wrong = weights * ((is_fake != (truth == Label.FAKE))[order])
    # From each score outwards: what is decided if the margin ends just inside it.
    decided, errors = weights[::-1].cumsum()[::-1], wrong[::-1].cumsum()[::-1]
    is_first = np.append(True, np.diff(distance) > 0)
    good = np.flatnonzero(is_first & (decided >= MIN_DECIDED) & (errors <= error * decided + 1e-12))
    if len(good) == 0:
        logger.warning("No uncertain band reaches uncertain_error=%g on the validation split.", error)
        return None
    inside = distance[good[0] - 1] if good[0] else 0.0
    return float((inside + distance[good[0]]) / 2) if good[0] else 0.0


def _quality(truth: Integers, values: Floats, lower: Floats, *, criterion: str) -> Floats:
    """Return the criterion for a threshold inside each gap; scores above the lower edge of the gap count as fake."""
    fakes, reals = np.sort(values[truth == Label.FAKE]), np.sort(values[truth == Label.REAL])
    # The first gap starts at 0, below the lowest score, so everything counts as fake, even a score of exactly 0.
    found = len(fakes) - np.searchsorted(fakes, lower, side="right").astype(np.float64)
    alarms = len(reals) - np.searchsorted(reals, lower, side="right").astype(np.float64)
    found[0], alarms[0] = len(fakes), len(reals)
    hit_rate, alarm_rate = found / len(fakes), alarms / len(reals)
    if criterion == "f1":
        return np.asarray(2 * found / (found + alarms + len(fakes)))
    target = find_target(criterion)
    if target is not None:
        return np.where(alarm_rate <= target + 1e-12, hit_rate, -1.0)
    if criterion == "eer":
        return np.asarray(-np.abs(alarm_rate - (1 - hit_rate)))
    return np.asarray((hit_rate + 1 - alarm_rate) / 2)
