"""Which of several faces decides on a verdict, and what becomes of a face that looks fake for a while only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.inference.results import FaceScore
from unmask.types import Verdict

_FACES = ("most_fake", "main")


@dataclass(frozen=True)
class Moment:
    """A face in an examined frame of a video.

    Args:
        time_seconds: Of the frame.
        score: Of the face there.
        position: Of the frame among all examined ones; those of one run follow each other.
    """

    time_seconds: float
    score: float
    position: int


@dataclass(frozen=True)
class Deciding:
    """Which tracks count for the score of the whole, which is the highest of theirs, and when a score is not enough.

    The rule for suspicious stretches: A face whose score says `real` is `uncertain` all the same where it looks
    fake for a while, since a mean over a video that was forged in part says little. That is: where at least
    `suspicious_share` of the frames it was found in score from the threshold on, or where at least `suspicious_frames`
    examined frames in a row do, over at least `suspicious_seconds`. A file whose score says `real` is `uncertain` where
    a face that decides is.

    Shorter runs are noise: if one frame in ten of a real person reaches the threshold by chance, four in a row occur in
    0.25 % of videos with 32 frames, and in 4 % if one in five does; three in a row in 3 % and 18 %. Neighbouring frames
    of a densely examined video are nearly the same image, so a blink may be several of them; it does not last a second.

    Args:
        face: `most_fake` lets all count, `main` one alone: that seen in most frames, and the largest of those.
        min_share: A track found in a smaller share of the frames with faces does not count: a false alarm of the
            detector, or a passer-by. It does if it is at least half as long as the longest: where cuts show many
            people, nobody is seen for long.
        suspicious_share: Of a face's frames; None leaves the share out of account.
        suspicious_frames: In a row; None leaves runs out of account.
        suspicious_seconds: That such a run lasts, from the middle between its first frame and the one before to the
            middle between its last frame and the one after.

    Raises:
        ConfigError: No such face, no share, or a number out of its range.
    """

    face: str = "most_fake"
    min_share: float = 0.1
    suspicious_share: float | None = 0.5
    suspicious_frames: int | None = 4
    suspicious_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.face not in _FACES:
            raise ConfigError(f"deciding.face={self.face} is none of: {', '.join(_FACES)}")
        if not 0 <= self.min_share <= 1:
            raise ConfigError(f"deciding.min_share={self.min_share} is no share of frames. Give a number from 0 to 1.")
        share, frames, seconds = self.suspicious_share, self.suspicious_frames, self.suspicious_seconds
        if share is not None and not (_is_number(share) and 0 < share <= 1):
            raise ConfigError(
                f"deciding.suspicious_share={share} is not a share of frames. Give a number above 0, 1 at most, or "
                f"null to leave it out."
            )
        if frames is not None and (not isinstance(frames, int) or isinstance(frames, bool) or frames < 1):
            raise ConfigError(
                f"deciding.suspicious_frames={frames} is not a number of frames. Give 1 or more, or null to leave it "
                f"out."
            )
        if not (_is_number(seconds) and 0 <= seconds < float("inf")):
            raise ConfigError(f"deciding.suspicious_seconds={seconds} is not a duration. Give a number from 0 on.")

    def choose(self, tracks: Mapping[int, Sequence[FaceScore]], *, num_frames: int) -> set[int]:
        """Return the numbers of the tracks that count.

        Args:
            tracks: The faces of each, by its number.
            num_frames: Frames with faces.
        """
        if not tracks:
            return set()
        if self.face == "main":
            return {max(tracks, key=lambda number: (len(tracks[number]), max(map(_area, tracks[number])), -number))}
        needed = min(self.min_share * num_frames, max(map(len, tracks.values())) / 2)
        return {number for number, faces in tracks.items() if len(faces) >= needed}

    def judge(
        self, score: float, moments: Sequence[Moment], *, times: Sequence[float], decision: Decision, margin: float
    ) -> Verdict:
        """Return the verdict of a face: that of its score, or `uncertain` by the rule for suspicious stretches.

        Args:
            score: Aggregated over its frames.
            moments: Its frames in order of time.
            times: Of all examined frames, in seconds.
            decision: Gives the threshold.
            margin: As for `Decision.verdict`.
        """
        verdict = decision.verdict(score, margin=margin)
        if verdict is Verdict.REAL and self._is_suspicious(moments, times, decision.threshold):
            return Verdict.UNCERTAIN
        return verdict

    def _is_suspicious(self, moments: Sequence[Moment], times: Sequence[float], threshold: float) -> bool:
        num_fake = sum(moment.score >= threshold for moment in moments)
        if len(moments) > 1 and self.suspicious_share is not None and num_fake >= self.suspicious_share * len(moments):
            return True
        return self.suspicious_frames is not None and any(
            len(run) >= self.suspicious_frames and measure(run, times) >= self.suspicious_seconds
            for run in find_runs(moments, threshold=threshold)
        )


def find_runs(moments: Sequence[Moment], *, threshold: float) -> Iterator[list[Moment]]:
    """Yield the longest stretches of consecutive examined frames in which a face scores as fake.

    Args:
        moments: Of a face, in order of time.
        threshold: A score from here on is fake.
    """
    fake = [moment for moment in moments if moment.score >= threshold]
    for _, run in groupby(enumerate(fake), key=lambda pair: pair[1].position - pair[0]):
        yield [moment for _, moment in run]


def measure(moments: Sequence[Moment], times: Sequence[float]) -> float:
    """Return for how many seconds some examined frames stand, each until half-way to its neighbours.

    Args:
        moments: Any frames.
        times: Of all examined frames.
    """
    edges = [times[0], *((first + second) / 2 for first, second in pairwise(times)), times[-1]] if times else []
    return sum(edges[moment.position + 1] - edges[moment.position] for moment in moments)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _area(face: FaceScore) -> float:
    x1, y1, x2, y2 = face.box
    return (x2 - x1) * (y2 - y1)
