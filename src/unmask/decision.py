"""Turn scores into a verdict, with the values chosen on the validation split and stored in the checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, median
from typing import Any, Self

from unmask.errors import ConfigError, suggest
from unmask.types import Verdict

AGGREGATIONS = ("mean", "median", "max")
"""Methods to aggregate the frame scores of a video or track."""

MARGIN = 0.05
"""Default width of the `uncertain` band, as a fraction of the distance from the threshold to 0 and to 1."""


MIN_SHARE = 0.1
"""Minimum fraction of the frames with faces in which a face must be found to decide about its video."""


def count_needed(num_frames: int, longest: int, *, min_share: float = MIN_SHARE) -> float:
    """Return in how many frames a face must be found to decide about its video; others are false alarms or passers-by.

    Args:
        num_frames: Number of frames with faces.
        longest: Number of frames of the longest track. One half as long always decides, because in a video with many
            cuts and people each is seen briefly.
        min_share: Minimum fraction of the frames.
    """
    return min(min_share * num_frames, longest / 2)


def show_score(score: float | None) -> str:
    """Format a score or threshold with three decimals, None as a dash."""
    return "-" if score is None else f"{score:.3f}"


@dataclass(frozen=True)
class Decision:
    """Rule that turns the network's scores into a verdict.

    Args:
        threshold: Lowest score that counts as fake, in [0, 1].
        aggregation: Aggregation of the frame scores: `mean`, `median` or `max`.
        criterion: Criterion by which the threshold was chosen on the validation split; `default` if it was not.
        calibration: Slope and intercept that map the log odds of a score to those of a probability; None if the
            validation split was too small. See `unmask.metrics.threshold`.

    Raises:
        ConfigError: Unknown aggregation, threshold outside [0, 1], or a calibration with a slope of 0 or less.
    """

    threshold: float = 0.5
    aggregation: str = "mean"
    criterion: str = "default"
    calibration: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            choices = ", ".join(AGGREGATIONS)
            raise ConfigError(
                f"Unknown aggregation '{self.aggregation}' of frame scores."
                + suggest(self.aggregation, AGGREGATIONS, key="aggregation")
                + f" Choose one of: {choices}."
            )
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"threshold={self.threshold!r} is not a score. Set a number from 0 to 1.")
        if self.calibration is not None:
            slope, intercept = (float(value) for value in self.calibration)  # a list when read from JSON
            if not (slope > 0 and math.isfinite(slope) and math.isfinite(intercept)):
                raise ConfigError(f"Invalid calibration {self.calibration!r}: the slope must be above 0.")
            object.__setattr__(self, "calibration", (slope, intercept))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a decision from `to_dict`; keys added by later versions are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON or a checkpoint."""
        return asdict(self)

    def aggregate(self, scores: Sequence[float]) -> float:
        """Aggregate the frame scores of a video or track.

        Args:
            scores: Frame scores in [0, 1], at least one.
        """
        if len(scores) == 0:
            raise ValueError("No scores to aggregate: without a face there is no score.")
        values = [float(score) for score in scores]
        if self.aggregation == "median":
            return median(values)
        return max(values) if self.aggregation == "max" else fmean(values)

    def probability(self, score: float | None) -> float | None:
        """Return the calibrated P(fake) of a score: how often validation videos with such a score were fake.

        It assumes both classes to be equally frequent, whatever their shares in the dataset. It increases with the
        score, so files keep their order, but it need not be 0.5 at the threshold: a `fake` may have a probability below
        0.5 and a `real` above.

        Args:
            score: Network score, or None if no face was found.

        Returns:
            Probability in [0, 1], or None without a score or calibration.
        """
        if score is None or self.calibration is None:
            return None
        slope, intercept = self.calibration
        odds = slope * log_odds(score) + intercept
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))

    def verdict(self, score: float | None, *, margin: float = MARGIN) -> Verdict:
        """Return the verdict for a score.

        Args:
            score: P(fake), or None if no face was found.
            margin: Width of the `uncertain` band, as a fraction in [0, 1] of the distance from the threshold to 0 and
                to 1. Relative, because an absolute width would leave no room for `fake` near a threshold of 1.
        """
        if score is None:
            return Verdict.NO_FACE
        if self.threshold * (1 - margin) < score < self.threshold + (1 - self.threshold) * margin:
            return Verdict.UNCERTAIN
        return Verdict.FAKE if score >= self.threshold else Verdict.REAL


def log_odds(score: float) -> float:
    """Return log(p / (1 - p)) of a score, clipped to [1e-6, 1 - 1e-6] to keep it finite."""
    held = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(held / (1 - held))
