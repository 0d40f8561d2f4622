"""How scores become a verdict: the values chosen on the validation split and stored in the checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, median
from typing import Any, Self

from unmask.errors import ConfigError, suggest
from unmask.types import Verdict

AGGREGATIONS = ("mean", "median", "max")
"""Ways to make one score of a video or track from the scores of its frames."""

MARGIN = 0.05
"""Default share of the way from the threshold to 0, and to 1, that is `uncertain`."""


def show_score(score: float | None) -> str:
    """Write a score or threshold: three decimals everywhere, a dash where there is none."""
    return "-" if score is None else f"{score:.3f}"


@dataclass(frozen=True)
class Decision:
    """What turns the network's scores into one verdict.

    Args:
        threshold: A score from here on is fake.
        aggregation: `mean`, `median` or `max` of the frame scores.
        criterion: What the threshold is best at on the validation split; `default` where nothing was chosen.
        calibration: Slope and intercept that turn the log odds of a score into those of a probability; None where too
            little was validated. See `unmask.metrics.threshold`.

    Raises:
        ConfigError: For another aggregation, a threshold outside [0, 1], or a calibration that turns scores around.
    """

    threshold: float = 0.5
    aggregation: str = "mean"
    criterion: str = "default"
    calibration: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            choices = ", ".join(AGGREGATIONS)
            raise ConfigError(
                f"No aggregation '{self.aggregation}' of frame scores."
                + suggest(self.aggregation, AGGREGATIONS, key="aggregation")
                + f" Choose one of: {choices}."
            )
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"The threshold {self.threshold!r} is no score. Give a number from 0 to 1.")
        if self.calibration is not None:
            slope, intercept = (float(value) for value in self.calibration)  # JSON makes a list of them
            if not (slope > 0 and math.isfinite(slope) and math.isfinite(intercept)):
                raise ConfigError(f"The calibration {self.calibration!r} is none: its slope must be above 0.")
            object.__setattr__(self, "calibration", (slope, intercept))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a decision from `to_dict`; keys that a later version added are passed over."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON and for a checkpoint."""
        return asdict(self)

    def aggregate(self, scores: Sequence[float]) -> float:
        """Make one score of the frame scores of a video or track.

        Args:
            scores: At least one, in [0, 1].
        """
        if len(scores) == 0:
            raise ValueError("No scores to aggregate: what has no face has no score.")
        values = [float(score) for score in scores]
        if self.aggregation == "median":
            return median(values)
        return max(values) if self.aggregation == "max" else fmean(values)

    def probability(self, score: float | None) -> float | None:
        """Return the calibrated P(fake) of a score: how often such scores were fakes among the validation videos.

        Both classes are taken to be equally frequent, whatever their shares in the dataset. It rises with the score,
        so it puts files in the same order; but it need not be 0.5 at the threshold, so a `fake` may have less than 0.5
        and a `real` more.

        Args:
            score: P(fake) as the network says, or None where no face was found.

        Returns:
            None where there is no score or no calibration.
        """
        if score is None or self.calibration is None:
            return None
        slope, intercept = self.calibration
        odds = slope * log_odds(score) + intercept
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))

    def verdict(self, score: float | None, *, margin: float = MARGIN) -> Verdict:
        """Say what a score means.

        Args:
            score: P(fake), or None where no face was found.
            margin: How much of the way from the threshold to 0, and to 1, is `uncertain`; from 0 to 1. A share of the
                way, not a distance, since a threshold near 1 would otherwise leave no room for `fake`.
        """
        if score is None:
            return Verdict.NO_FACE
        if self.threshold * (1 - margin) < score < self.threshold + (1 - self.threshold) * margin:
            return Verdict.UNCERTAIN
        return Verdict.FAKE if score >= self.threshold else Verdict.REAL


def log_odds(score: float) -> float:
    """Return log(p / (1 - p)) of a score, cut at a millionth so that 0 and 1 have one too."""
    held = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(held / (1 - held))
