"""Fit on the validation split what turns scores into probabilities."""

import numpy as np
import numpy.typing as npt

from unmask.decision import log_odds
from unmask.types import Label

MIN_PER_CLASS = 10
"""Fewer scores of a class than this say too little of how often such scores are fakes."""


def fit_calibration(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[float, float] | None:
    """Fit slope and intercept on the log odds of scores (Platt, 1999, with his targets), both classes weighed alike.

    Platt's targets lie a little inside 0 and 1, so that classes which do not overlap still have a finite fit.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`.
        scores: P(fake), shape `(N,)`.

    Returns:
        Slope and intercept, for `Decision.calibration`; None where a class has fewer than `MIN_PER_CLASS` scores, or
        where higher scores are not more often fakes.
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
    """Minimise the weighted cross entropy of sigmoid(slope * value + intercept) with Newton's method, halving steps."""
    spread = float(values.std()) or 1.0
    design = np.stack([(values - values.mean()) / spread, np.ones_like(values)], axis=1)

    def loss(point: npt.NDArray[np.float64]) -> float:
        odds = design @ point
        return float(weights @ (np.logaddexp(0, odds) - targets * odds))

    point = np.zeros(2)
    for _ in range(100):
        chances = 1 / (1 + np.exp(-(design @ point)))
        gradient = design.T @ (weights * (chances - targets))
        curvature = (design * (weights * chances * (1 - chances))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(point - step) > loss(point) and np.abs(step).max() > 1e-10:
            step = step / 2
        point = point - step
        if np.abs(step).max() < 1e-8:
            break
    slope = float(point[0]) / spread
    intercept = float(point[1] - slope * values.mean())
    return (slope, intercept) if np.isfinite([slope, intercept]).all() else None
