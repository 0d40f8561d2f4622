"""Turn scores into a verdict, with the values chosen on the validation split and stored in the checkpoint."""

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, median
from typing import Any, Self

from unmask.errors import ConfigError, suggest
from unmask.types import Verdict

AGGREGATIONS = ("mean", "median", "max", "top_5", "frame_max", "confident")
"""Methods to aggregate the frame scores of a video or track.

`top_5` is the mean of the five highest scores; any other number does too. `frame_max` takes the highest score of each
frame, over all its faces, and then their mean. `confident` is the strategy of the winner of the DFDC (2020): the mean
of the scores above 0.8 if they are many, of those below 0.2 if nearly all are, and of all scores otherwise.
"""

CONFIDENT_FAKE, CONFIDENT_REAL = 0.8, 0.2
"""Scores beyond these are confident for the aggregation `confident`."""

MARGIN = 0.05
"""Default width of the `uncertain` band, as a fraction of the distance from the threshold to 0 and to 1."""

_TOP = re.compile(r"top_([1-9]\d*)")


def check_aggregation(aggregation: str, *, more: Sequence[str] = ()) -> None:
    """Raise a ConfigError for an unknown aggregation.

    Args:
        aggregation: Name such as `mean`.
        more: Other names that are accepted.
    """
    known = (*AGGREGATIONS, *more)
    if aggregation not in known and find_top(aggregation) is None:
        raise ConfigError(
            f"Unknown aggregation '{aggregation}' of frame scores."
            + suggest(aggregation, known, key="aggregation")
            + f" Choose one of: {', '.join(known)}."
        )


def find_top(aggregation: str) -> int | None:
    """Return k of the aggregation `top_k`, or None for another one."""
    match = _TOP.fullmatch(aggregation)
    return None if match is None else int(match[1])


def many_confident(num: int) -> int:
    """Return the number of scores above `CONFIDENT_FAKE`, out of `num`, that decide if they are more than that."""
    return max(int(num / 2.5), 11)


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
        aggregation: Aggregation of the frame scores; see `AGGREGATIONS`.
        criterion: Criterion by which the threshold was chosen on the validation split; `default` if it was not.
        calibration: Slope and intercept that map the log odds of a score to those of a probability; None if the
            validation split was too small, or the calibration is another. See `unmask.metrics.threshold`.
        curve: Scores and their probabilities, both ascending, between which lines are drawn (isotonic calibration);
            None for another calibration.
        margin: Width of the `uncertain` band, as a fraction in [0, 1] of the distance from the threshold to 0 and to 1.

    Raises:
        ConfigError: Unknown aggregation, threshold or margin outside [0, 1], or an invalid calibration.
    """

    threshold: float = 0.5
    aggregation: str = "mean"
    criterion: str = "default"
    calibration: tuple[float, float] | None = None
    curve: tuple[tuple[float, float], ...] | None = None
    margin: float = MARGIN

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"threshold={self.threshold!r} is not a score. Set a number from 0 to 1.")
        if not 0.0 <= self.margin <= 1.0:
            raise ConfigError(f"margin={self.margin!r} is not a fraction. Set a number from 0 to 1.")
        if self.calibration is not None:
            slope, intercept = (float(value) for value in self.calibration)  # a list when read from JSON
            if not (slope > 0 and math.isfinite(slope) and math.isfinite(intercept)):
                raise ConfigError(f"Invalid calibration {self.calibration!r}: the slope must be above 0.")
            object.__setattr__(self, "calibration", (slope, intercept))
        if self.curve is not None:
            points = tuple((float(score), float(probability)) for score, probability in self.curve)
            is_valid = all(0 <= value <= 1 for point in points for value in point)
            if (
                not points
                or not is_valid
                or any(list(values) != sorted(values) for values in zip(*points, strict=True))
            ):
                raise ConfigError("Invalid calibration curve: scores and probabilities must ascend from 0 to 1.")
            object.__setattr__(self, "curve", points)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a decision from `to_dict`; keys added by later versions are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON or a checkpoint."""
        return asdict(self)

    @property
    def is_calibrated(self) -> bool:
        """Whether scores have a probability."""
        return self.calibration is not None or self.curve is not None

    def aggregate(self, scores: Sequence[float], frames: Sequence[int] | None = None) -> float:
        """Aggregate the frame scores of a video or track.

        `unmask.metrics.scores.aggregate_scores` does the same for many videos at once.

        Args:
            scores: Frame scores in [0, 1], at least one.
            frames: Frame of each score, for `frame_max`; None if no two are from one frame.
        """
        if len(scores) == 0:
            raise ValueError("No scores to aggregate: without a face there is no score.")
        values = [float(score) for score in scores]
        top = find_top(self.aggregation)
        if top is not None:
            return fmean(sorted(values)[-top:])
        if self.aggregation == "frame_max" and frames is not None:
            highest: dict[int, float] = {}
            for frame, value in zip(frames, values, strict=True):
                highest[frame] = max(value, highest.get(frame, 0.0))
            return fmean(highest.values())
        if self.aggregation == "confident":
            return fmean(_pick_confident(values))
        if self.aggregation == "median":
            return median(values)
        return max(values) if self.aggregation == "max" else fmean(values)

    def probability(self, score: float | None) -> float | None:
        """Return the calibrated P(fake) of a score: how often validation videos with such a score were fake.

        It assumes both classes to be equally frequent, whatever their shares in the dataset. It never falls with a
        higher score, so files keep their order, but it need not be 0.5 at the threshold: a `fake` may have a
        probability below 0.5 and a `real` above.

        Args:
            score: Network score, or None if no face was found.

        Returns:
            Probability in [0, 1], or None without a score or calibration.
        """
        if score is None:
            return None
        if self.curve is not None:
            return _interpolate(self.curve, score)
        if self.calibration is None:
            return None
        slope, intercept = self.calibration
        odds = slope * log_odds(score) + intercept
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))

    def verdict(self, score: float | None, *, margin: float | None = None) -> Verdict:
        """Return the verdict for a score.

        Args:
            score: P(fake), or None if no face was found.
            margin: Width of the `uncertain` band, as a fraction in [0, 1] of the distance from the threshold to 0 and
                to 1; None for the decision's own. Relative, because an absolute width would leave no room for `fake`
                near a threshold of 1.
        """
        if score is None:
            return Verdict.NO_FACE
        width = self.margin if margin is None else margin
        if self.threshold * (1 - width) < score < self.threshold + (1 - self.threshold) * width:
            return Verdict.UNCERTAIN
        return Verdict.FAKE if score >= self.threshold else Verdict.REAL


def _pick_confident(values: list[float]) -> list[float]:
    fake = [value for value in values if value > CONFIDENT_FAKE]
    if len(fake) > many_confident(len(values)):
        return fake
    real = [value for value in values if value < CONFIDENT_REAL]
    return real if len(real) > 0.9 * len(values) else values


def _interpolate(curve: tuple[tuple[float, float], ...], score: float) -> float:
    after = bisect_right(curve, score, key=lambda point: point[0])
    if after in (0, len(curve)):
        return curve[min(after, len(curve) - 1)][1]
    (left, low), (right, high) = curve[after - 1], curve[after]
    return low + (high - low) * (score - left) / (right - left)


def log_odds(score: float) -> float:
    """Return log(p / (1 - p)) of a score, clipped to [1e-6, 1 - 1e-6] to keep it finite."""
    held = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(held / (1 - held))
