"""From scored frames to a verdict: which faces decide, when a stretch is suspicious, and the summary."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from unmask.decision import MIN_SHARE, Decision, count_needed
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
    """Rules for which faces decide, and for when a score of `real` is not enough.

    The score of a file is the highest score of its deciding faces. The mean over a partly forged video says little, so
    a face that scores as `real` becomes `uncertain` if it looks fake for a while: if at least `suspicious_share` of its
    frames reach the threshold, or at least `suspicious_frames` consecutive examined frames do over at least
    `suspicious_seconds`. A file that scores as `real` is `uncertain` if one of its deciding faces is.

    Shorter runs are noise: if one frame in ten of a real person reaches the threshold by chance, four in a row occur in
    0.25 % of videos with 32 frames, and in 4 % if one in five does; three in a row in 3 % and 18 %. Neighbouring frames
    of a densely examined video are nearly the same image, so a blink may be several of them; it does not last a second.

    Args:
        face: `most_fake` for all faces, or `main` for the one seen in most frames, the largest if there are several.
        min_share: Minimum fraction of the frames with faces in which a deciding face is found; others are false
            detections or passers-by. A track at least half as long as the longest always decides, because in a video
            with many cuts and people each is seen briefly.
        suspicious_share: Fraction of a face's frames; None disables this rule.
        suspicious_frames: Number of consecutive frames; None disables this rule.
        suspicious_seconds: Minimum duration of such a run; each frame lasts until half-way to its neighbours.

    Raises:
        ConfigError: Unknown face, or a number out of range.
    """

    face: str = "most_fake"
    min_share: float = MIN_SHARE
    suspicious_share: float | None = 0.5
    suspicious_frames: int | None = 4
    suspicious_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.face not in _FACES:
            raise ConfigError(f"deciding.face={self.face} must be one of: {', '.join(_FACES)}.")
        if not 0 <= self.min_share <= 1:
            raise ConfigError(f"deciding.min_share={self.min_share} must be a number from 0 to 1.")
        share, frames, seconds = self.suspicious_share, self.suspicious_frames, self.suspicious_seconds
        if share is not None and not (_is_number(share) and 0 < share <= 1):
            raise ConfigError(
                f"deciding.suspicious_share={share} must be a number above 0 and at most 1, or null to "
                f"disable this rule."
            )
        if frames is not None and (not isinstance(frames, int) or isinstance(frames, bool) or frames < 1):
            raise ConfigError(
                f"deciding.suspicious_frames={frames} must be an integer of at least 1, or null to disable this rule."
            )
        if not (_is_number(seconds) and 0 <= seconds < float("inf")):
            raise ConfigError(f"deciding.suspicious_seconds={seconds} must be a number of at least 0.")

    def choose(self, tracks: Mapping[int, Sequence[FaceScore]], *, num_frames: int) -> set[int]:
        """Return the numbers of the deciding tracks.

        Args:
            tracks: Faces of each track, by its number.
            num_frames: Number of frames with faces.
        """
        if not tracks:
            return set()
        if self.face == "main":
            return {max(tracks, key=lambda number: (len(tracks[number]), max(map(_area, tracks[number])), -number))}
        needed = count_needed(num_frames, max(map(len, tracks.values())), min_share=self.min_share)
        return {number for number, faces in tracks.items() if len(faces) >= needed}

    def judge(
        self, score: float, moments: Sequence[Moment], *, times: Sequence[float], decision: Decision, margin: float
    ) -> Verdict:
        """Return the verdict of a face: that of its score, or `uncertain` by the rule for suspicious stretches.

        Args:
            score: Score aggregated over its frames.
            moments: Frames of the face, in order of time.
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
        threshold: Lowest score that is fake.
    """
    fake = [moment for moment in moments if moment.score >= threshold]
    for _, run in groupby(enumerate(fake), key=lambda pair: pair[1].position - pair[0]):
        yield [moment for _, moment in run]


def measure(moments: Sequence[Moment], times: Sequence[float]) -> float:
    """Return the duration of examined frames in seconds, each lasting until half-way to its neighbours.

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
"""Minimum duration in seconds that is not shown as 0."""


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
    """Make a prediction from scored frames; its score is the highest of the deciding faces.

    For the aggregation `frame_max` it is that of all deciding faces together.

    Its verdict is that of the score, but `uncertain` if that is `real` and a deciding face is `uncertain`; see
    `Deciding`.

    Args:
        name: File name.
        kind: Image or video.
        frames: Frames in order of time, with faces numbered by track.
        decision: Threshold and aggregation.
        deciding: Rule for which faces decide.
        margin: Fraction of the way from the threshold to 0, and to 1, that is `uncertain`.
        notes: Further notes on the file.
        num_frames: Frames in the file.
        trained_on: Sources of the model's training data.
        subject: What the model judges: `face`, or `image` or `video` if it takes images whole.
    """
    faces = sum_up(frames, decision=decision, deciding=deciding, margin=margin)
    score = _score_file(frames, faces, decision)
    threshold, is_video = decision.threshold, kind is MediaKind.VIDEO
    verdict = decision.verdict(score, margin=margin)
    doubted = (Verdict.UNCERTAIN, Verdict.FAKE)  # FAKE only where the score of the file is not that of a face
    if verdict is Verdict.REAL and any(face.decides and face.verdict in doubted for face in faces):
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


def _score_file(frames: Sequence[FrameResult], faces: Sequence[FaceResult], decision: Decision) -> float | None:
    """Return the highest score of the deciding faces; for the aggregation `frame_max`, they are aggregated together."""
    deciding = {face.track: face.score for face in faces if face.decides}
    if decision.aggregation != "frame_max" or not deciding:
        return max(deciding.values(), default=None)
    found = [(face.score, frame.index) for frame in frames for face in frame.faces if face.track in deciding]
    return decision.aggregate([score for score, _ in found], [index for _, index in found])


def _judge_faces(frames: Iterable[FrameResult], *, decision: Decision, margin: float) -> Iterable[FrameResult]:
    """Set the verdict of each face to that of its score in this frame, which is also its colour."""
    for frame in frames:
        faces = (replace(face, verdict=decision.verdict(face.score, margin=margin)) for face in frame.faces)
        yield replace(frame, faces=tuple(faces))


def measure_extent(frames: Sequence[FrameResult], suspicious: Sequence[TimeRange]) -> str:
    """Describe how much of a video is suspicious, such as `2 of 4 seconds`; or `3 of 6 frames` for a short video.

    Args:
        frames: All examined frames, in order of time.
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
    """Number the faces by person.

    Args:
        frames: Frames in order of time.
        looks: Appearance of each face; None to tell people apart by position only.
    """
    tracks = link_tracks([[face.face for face in frame.faces] for frame in frames], looks=looks)
    return [
        replace(frame, faces=tuple(replace(face, track=track) for face, track in zip(frame.faces, some, strict=True)))
        for frame, some in zip(frames, tracks, strict=True)
    ]


def sum_up(frames: Sequence[FrameResult], *, decision: Decision, deciding: Deciding, margin: float) -> list[FaceResult]:
    """Summarize the faces of each track in one row.

    Args:
        frames: Frames in order of time.
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
    """List the stretches of a video in which a deciding face scores as fake in every examined frame.

    Args:
        frames: Frames in order of time.
        faces: Faces from `sum_up`.
        threshold: Lowest score that is fake.
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
    """List the key frames: those of the main person that lie farthest on the side of the verdict.

    For an uncertain person these are the frames with the highest scores.

    Args:
        frames: Frames in order of time.
        faces: Faces from `sum_up`.
        threshold: Lowest score that is fake.
        limit: Maximum number.

    Returns:
        Frame indices, most important first.
    """
    main = find_main(faces)
    if main is None:
        return ()
    side = 1 if main.score >= threshold or main.verdict is Verdict.UNCERTAIN else -1
    scored = [(face.score, frame.index) for frame in frames for face in frame.faces if face.track == main.track]
    return tuple(index for _, index in sorted(scored, key=lambda pair: (-side * pair[0], pair[1]))[:limit])
