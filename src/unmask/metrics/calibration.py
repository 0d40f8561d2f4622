"""Fit on the validation split what turns scores into probabilities."""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from unmask.decision import log_odds
from unmask.types import Label

MIN_PER_CLASS = 10
"""Fewer scores of a class than this say too little of how often such scores are fakes."""

_LEAST_SPREAD = 1e-9


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
    """Minimise the weighted cross entropy of sigmoid(slope * value + intercept), without a penalty."""
    if np.ptp(values) < _LEAST_SPREAD:  # scores that are all alike say nothing
        return None
    spread = float(values.std())
    # A target between 0 and 1 is a share of a fake and the rest of a real.
    shares = np.concatenate([weights * targets, weights * (1 - targets)])
    classes = np.repeat([1, 0], len(values))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=200)
    model.fit(np.tile((values - values.mean()) / spread, 2)[:, None], classes, sample_weight=shares * len(values))
    slope = float(model.coef_[0, 0]) / spread
    intercept = float(model.intercept_[0] - slope * values.mean())
    return (slope, intercept) if np.isfinite([slope, intercept]).all() else None
