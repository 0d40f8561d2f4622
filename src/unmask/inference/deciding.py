"""From scored frames to a verdict: which face decides, what a suspicious stretch counts, and the summary."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.faces.track import Look, link_tracks
from unmask.forgeries import SourceRecord
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction, TimeRange, find_main
from unmask.inference.words import note_small_faces, say_headline, say_reason, show_seconds
from unmask.types import MediaKind, Verdict

_FACES = ("most_fake", "main")


@dataclass(frozen=True)
class Moment:
    """A face in an examined frame of a video.

    Args:
        time_seconds: Time of the frame.
        score: Score of the face in the frame.
        position: Position of the frame among all examined frames; positions of a run are consecutive.
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
            times: Times of all examined frames, in seconds.
            decision: Decision with the threshold.
            margin: Margin of `Decision.verdict`.
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
        moments: Moments of a face, in order of time.
        threshold: A score from here on is fake.
    """
    fake = [moment for moment in moments if moment.score >= threshold]
    for _, run in groupby(enumerate(fake), key=lambda pair: pair[1].position - pair[0]):
        yield [moment for _, moment in run]


def measure(moments: Sequence[Moment], times: Sequence[float]) -> float:
    """Return for how many seconds some examined frames stand, each until half-way to its neighbours.

    Args:
        moments: Any frames.
        times: Times of all examined frames, in seconds.
    """
    edges = [times[0], *((first + second) / 2 for first, second in pairwise(times)), times[-1]] if times else []
    return sum(edges[moment.position + 1] - edges[moment.position] for moment in moments)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _area(face: FaceScore) -> float:
    x1, y1, x2, y2 = face.box
    return (x2 - x1) * (y2 - y1)


NUM_KEY_FRAMES = 5

_FEW_SECONDS = 2.0
"""Shorter videos are described in frames instead of seconds."""

_SHORTEST_TOLD = 0.1
"""Seconds; less would be told as none."""


def conclude(
    name: str,
    kind: MediaKind,
    frames: Sequence[FrameResult],
    *,
    decision: Decision,
    deciding: Deciding,
    margin: float,
    notes: Sequence[str],
    num_frames: int = 1,
    trained_on: Sequence[SourceRecord] = (),
    subject: str = "face",
) -> Prediction:
    """Make a prediction of scored frames: its score is that of the most fake face that decides.

    Its verdict is that of the score; but `uncertain` where that is `real` and a face that decides is not, by the rule
    of `Deciding`.

    Args:
        name: File name.
        kind: Image or video.
        frames: In order of time, faces numbered by their track.
        decision: Threshold and aggregation.
        deciding: Rule for which faces decide.
        margin: Fraction of the way from the threshold to 0, and to 1, that is `uncertain`.
        notes: Notes on the file beside those on its frames.
        num_frames: Frames in the file.
        trained_on: Sources of the model's training data.
        subject: What the model judges: `face`, or `image` or `video` if it takes images whole.
    """
    faces = sum_up(frames, decision=decision, deciding=deciding, margin=margin)
    score = max((face.score for face in faces if face.decides), default=None)
    threshold, is_video = decision.threshold, kind is MediaKind.VIDEO
    verdict = decision.verdict(score, margin=margin)
    if verdict is Verdict.REAL and any(face.decides and face.verdict is Verdict.UNCERTAIN for face in faces):
        verdict = Verdict.UNCERTAIN
    suspicious = find_ranges(frames, faces, threshold=threshold) if is_video else ()
    extent = measure_extent(frames, suspicious) if suspicious else ""
    return Prediction(
        name,
        kind,
        verdict,
        score,
        threshold,
        tuple(faces),
        tuple(_judge_faces(frames, decision=decision, margin=margin)),
        suspicious=suspicious,
        key_frames=find_key_frames(frames, faces, threshold=threshold) if is_video else (),
        notes=(*notes, *note_small_faces(faces, subject=subject)),
        probability=decision.probability(score),
        num_examined=len(frames),
        num_frames=num_frames,
        headline=say_headline(verdict, faces=faces, extent=extent, subject=subject),
        reason=say_reason(verdict, threshold=threshold, faces=faces, suspicious=suspicious, subject=subject),
        trained_on=tuple(trained_on),
    )


def _judge_faces(frames: Iterable[FrameResult], *, decision: Decision, margin: float) -> Iterable[FrameResult]:
    """Give every face the verdict of its own score, which is its colour in this frame."""
    for frame in frames:
        faces = (replace(face, verdict=decision.verdict(face.score, margin=margin)) for face in frame.faces)
        yield replace(frame, faces=tuple(faces))


def measure_extent(frames: Sequence[FrameResult], suspicious: Sequence[TimeRange]) -> str:
    """Describe how much of a video is suspicious, such as `2 of 4 seconds`; of a short one `3 of 6 frames`.

    Args:
        frames: All that were examined, in order of time.
        suspicious: Time ranges from `find_ranges`.
    """
    times = [frame.time_seconds for frame in frames]
    ends = [(stretch.start_seconds, stretch.end_seconds) for stretch in suspicious]
    inside = [at for at, time in enumerate(times) if any(start <= time <= end for start, end in ends)]
    seconds, whole = measure([Moment(times[at], 1.0, at) for at in inside], times), times[-1] - times[0]
    if whole < _FEW_SECONDS or seconds < _SHORTEST_TOLD:
        return f"{len(inside):,} of {len(frames):,} examined frames"
    return f"{show_seconds(seconds)} of {show_seconds(whole)} seconds"


def number_tracks(frames: Sequence[FrameResult], *, looks: Sequence[Sequence[Look]] | None = None) -> list[FrameResult]:
    """Give every face the number of the person it belongs to.

    Args:
        frames: In order of time.
        looks: The appearance of each of their faces; None to tell people apart by position alone.
    """
    tracks = link_tracks([[face.face for face in frame.faces] for frame in frames], looks=looks)
    return [
        replace(frame, faces=tuple(replace(face, track=track) for face, track in zip(frame.faces, some, strict=True)))
        for frame, some in zip(frames, tracks, strict=True)
    ]


def sum_up(frames: Sequence[FrameResult], *, decision: Decision, deciding: Deciding, margin: float) -> list[FaceResult]:
    """Make one row of each track's faces.

    Args:
        frames: In order of time.
        decision: Threshold and aggregation.
        deciding: Rule for which faces decide.
        margin: Fraction of the way from the threshold to 0, and to 1, that is `uncertain`.
    """
    tracks: dict[int, list[FaceScore]] = {}
    moments: dict[int, list[Moment]] = {}
    for position, frame in enumerate(frames):
        for face in frame.faces:
            tracks.setdefault(face.track, []).append(face)
            moments.setdefault(face.track, []).append(Moment(frame.time_seconds, face.score, position))
    times = [frame.time_seconds for frame in frames]
    chosen = deciding.choose(tracks, num_frames=sum(bool(frame.faces) for frame in frames))
    rows = []
    for number, faces in sorted(tracks.items()):
        clearest = max(faces, key=lambda face: face.confidence)
        score = decision.aggregate([face.score for face in faces])
        verdict = deciding.judge(score, moments[number], times=times, decision=decision, margin=margin)
        decides = number in chosen
        rows.append(FaceResult(number, clearest.box, clearest.confidence, score, verdict, len(faces), decides))
    return rows


def find_ranges(
    frames: Sequence[FrameResult], faces: Sequence[FaceResult], *, threshold: float
) -> tuple[TimeRange, ...]:
    """List the stretches of a video in which a face that decides scores as fake in every examined frame.

    Args:
        frames: In order of time.
        faces: Faces from `sum_up`.
        threshold: A score from here on is fake.
    """
    deciding = {face.track for face in faces if face.decides}
    ranges: list[TimeRange] = []
    is_open = False
    for frame in frames:
        score = max((face.score for face in frame.faces if face.track in deciding), default=-1.0)
        if score < threshold:
            is_open = False
            continue
        before = ranges.pop() if is_open else TimeRange(frame.time_seconds, frame.time_seconds, score)
        ranges.append(TimeRange(before.start_seconds, frame.time_seconds, max(before.score, score)))
        is_open = True
    return tuple(ranges)


def find_key_frames(
    frames: Sequence[FrameResult], faces: Sequence[FaceResult], *, threshold: float, limit: int = NUM_KEY_FRAMES
) -> tuple[int, ...]:
    """List the frames that weighed most in the result: of the person it is about, those farthest on the verdict's side.

    Of an uncertain person they are the most fake ones: those to look at.

    Args:
        frames: In order of time.
        faces: Faces from `sum_up`.
        threshold: A score from here on is fake.
        limit: Maximum number.

    Returns:
        Their `index`, the weightiest first.
    """
    main = find_main(faces)
    if main is None:
        return ()
    side = 1 if main.score >= threshold or main.verdict is Verdict.UNCERTAIN else -1
    scored = [(face.score, frame.index) for frame in frames for face in frame.faces if face.track == main.track]
    return tuple(index for _, index in sorted(scored, key=lambda pair: (-side * pair[0], pair[1]))[:limit])
