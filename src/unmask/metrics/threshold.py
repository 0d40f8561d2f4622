"""Calibrate scores and choose the threshold on the validation split."""

import logging

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from unmask.decision import Decision, log_odds
from unmask.errors import ConfigError, suggest
from unmask.types import Label

logger = logging.getLogger(__name__)

MIN_PER_CLASS = 10
"""Minimum number of scores per class for calibration."""

_LEAST_SPREAD = 1e-9


def fit_calibration(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[float, float] | None:
    """Fit a slope and intercept to the log odds of scores (Platt scaling, 1999), with equal weight for both classes.

    Platt's smoothed targets, slightly inside 0 and 1, keep the fit finite for perfectly separated classes.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake), shape `(N,)`.

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
    weights = np.where(is_fake, 0.5 / counts[Label.FAKE], 0.5 / counts[Label.REAL])
    fitted = _fit_logistic(odds, targets, weights)
    return fitted if fitted is not None and fitted[0] > 0 else None


def _fit_logistic(
    values: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[float, float] | None:
    """Minimize the weighted cross entropy of sigmoid(slope * value + intercept), without regularization."""
    if np.ptp(values) < _LEAST_SPREAD:  # equal scores carry no information
        return None
    spread = float(values.std())
    # scikit-learn takes hard labels only, so each soft target becomes a weighted fake and a weighted real.
    shares = np.concatenate([weights * targets, weights * (1 - targets)])
    classes = np.repeat([1, 0], len(values))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=200)
    model.fit(np.tile((values - values.mean()) / spread, 2)[:, None], classes, sample_weight=shares * len(values))
    slope = float(model.coef_[0, 0]) / spread
    intercept = float(model.intercept_[0] - slope * values.mean())
    return (slope, intercept) if np.isfinite([slope, intercept]).all() else None


CRITERIA = ("balanced_accuracy", "f1", "eer")
"""Highest mean recall of both classes (Youden, 1950), highest F1 of the fakes, or equal error rates."""


def check_criterion(criterion: str) -> None:
    """Raise a ConfigError unless a criterion is one of `CRITERIA`."""
    if criterion not in CRITERIA:
        meant = suggest(criterion, CRITERIA, key="threshold_criterion")
        raise ConfigError(f"Unknown threshold_criterion '{criterion}'.{meant} Choose one of: {', '.join(CRITERIA)}.")


def choose_threshold(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, criterion: str = "balanced_accuracy", aggregation: str = "mean"
) -> Decision:
    """Choose the best threshold by a criterion, and calibrate the scores.

    All thresholds between two neighbouring scores give the same result, so the candidates are the gaps between scores.
    Of equally good gaps the widest wins, and the threshold is its middle, as far as possible from every score.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`; of videos, or of crops if the data are single images.
        scores: P(fake), shape `(N,)`.
        criterion: `balanced_accuracy`, `f1` or `eer`.
        aggregation: Aggregation of frame scores that made the scores; stored in the decision.

    Returns:
        The decision. If only one class is present: threshold 0.5 and criterion `default`, with a warning.

    Raises:
        ConfigError: Unknown criterion.
    """
    check_criterion(criterion)
    truth, values = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or not np.isfinite(values).all():
        raise ValueError(f"Expected one finite score per label, got {truth.shape} labels and {values.shape} scores.")
    if len(set(truth.tolist())) < len(Label):
        logger.warning("All %d validation scores are of one class, so the threshold stays at 0.5.", len(truth))
        return Decision(aggregation=aggregation)
    edges = np.concatenate([[0.0], np.unique(values), [1.0]])
    quality = _quality(truth, values, edges[:-1], criterion=criterion)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    gap = best[np.argmax(np.diff(edges)[best])]
    return Decision(
        threshold=float((edges[gap] + edges[gap + 1]) / 2),
        aggregation=aggregation,
        criterion=criterion,
        calibration=fit_calibration(truth, values),
    )


def _quality(
    truth: npt.NDArray[np.int64], values: npt.NDArray[np.float64], lower: npt.NDArray[np.float64], *, criterion: str
) -> npt.NDArray[np.float64]:
    """Return the criterion for a threshold inside each gap; scores above the lower edge of the gap count as fake."""
    fakes, reals = np.sort(values[truth == Label.FAKE]), np.sort(values[truth == Label.REAL])
    # The first gap starts at 0, below the lowest score, so everything counts as fake, even a score of exactly 0.
    found = len(fakes) - np.searchsorted(fakes, lower, side="right").astype(np.float64)
    alarms = len(reals) - np.searchsorted(reals, lower, side="right").astype(np.float64)
    found[0], alarms[0] = len(fakes), len(reals)
    hit_rate, alarm_rate = found / len(fakes), alarms / len(reals)
    if criterion == "f1":
        return np.asarray(2 * found / (found + alarms + len(fakes)))
    if criterion == "eer":
        return np.asarray(-np.abs(alarm_rate - (1 - hit_rate)))
    return np.asarray((hit_rate + 1 - alarm_rate) / 2)
