"""Choose the threshold on the validation split. Nothing is ever chosen on the test split."""

import logging

import numpy as np
import numpy.typing as npt

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.metrics.calibration import fit_calibration
from unmask.names import suggest
from unmask.types import Label

CRITERIA = ("balanced_accuracy", "f1", "eer")
"""Highest mean of both classes' recall (Youden, 1950), highest F1 of the fakes, or equal rates of both errors."""

logger = logging.getLogger(__name__)


def check_criterion(criterion: str) -> None:
    """Raise a ConfigError unless a criterion is one of `CRITERIA`."""
    if criterion not in CRITERIA:
        meant = suggest(criterion, CRITERIA, key="threshold_criterion")
        raise ConfigError(f"No threshold criterion '{criterion}'.{meant} Choose one of: {', '.join(CRITERIA)}.")


def choose_threshold(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, criterion: str = "balanced_accuracy", aggregation: str = "mean"
) -> Decision:
    """Choose the threshold that is best at a criterion, and calibrate the scores.

    Every threshold between two neighbouring scores decides alike, so the candidates are the gaps between them. Where
    several gaps are equally good the widest wins, and the threshold is its middle: the farthest from every score seen.

    Args:
        labels: 0 real, 1 fake, shape `(N,)`; of videos, or of crops where there are no videos.
        scores: P(fake), shape `(N,)`.
        criterion: `balanced_accuracy`, `f1` or `eer`.
        aggregation: How the scores were made of frame scores; stored in the decision.

    Returns:
        The decision; with threshold 0.5 and criterion `default`, after a warning, where only one class is present.

    Raises:
        ConfigError: For another criterion.
    """
    check_criterion(criterion)
    truth, values = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or not np.isfinite(values).all():
        raise ValueError(f"Expected one finite score per label, got {truth.shape} labels and {values.shape} scores.")
    if len(set(truth.tolist())) < len(Label):
        logger.warning("The %d validation scores are of one class only: the threshold stays at 0.5.", len(truth))
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
    """Quality of a threshold inside each gap; a score is called fake if it lies above the gap's lower edge."""
    fakes, reals = np.sort(values[truth == Label.FAKE]), np.sort(values[truth == Label.REAL])
    # The first gap reaches from 0 to the lowest score: there everything is called fake, a score of exactly 0 included.
    found = len(fakes) - np.searchsorted(fakes, lower, side="right").astype(np.float64)
    alarms = len(reals) - np.searchsorted(reals, lower, side="right").astype(np.float64)
    found[0], alarms[0] = len(fakes), len(reals)
    hit_rate, alarm_rate = found / len(fakes), alarms / len(reals)
    if criterion == "f1":
        return np.asarray(2 * found / (found + alarms + len(fakes)))
    if criterion == "eer":
        return np.asarray(-np.abs(alarm_rate - (1 - hit_rate)))
    return np.asarray((hit_rate + 1 - alarm_rate) / 2)
