"""From the scores of frames to what is said of each person, and of which parts of a video."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from unmask.decision import Decision
from unmask.faces.track import Look, link_tracks
from unmask.forgeries import SourceRecord
from unmask.inference.deciding import Deciding, Moment, measure
from unmask.inference.notes import note_small_faces
from unmask.inference.results import FaceResult, FaceScore, FrameResult, Prediction, TimeRange, find_main
from unmask.inference.words import say_headline, say_reason, show_seconds
from unmask.types import MediaKind, Verdict

NUM_KEY_FRAMES = 5

_FEW_SECONDS = 2.0
"""A shorter video is told in frames."""

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
) -> Prediction:
    """Make a prediction of scored frames: its score is that of the most fake face that decides.

    Its verdict is that of the score; but `uncertain` where that is `real` and a face that decides is not, by the rule
    of `Deciding`.

    Args:
        name: Of the file.
        kind: Picture or video.
        frames: In order of time, faces numbered by their track.
        decision: Threshold and aggregation.
        deciding: Which faces decide.
        margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
        notes: What is known of the file beside the frames.
        num_frames: Frames in the file.
        trained_on: What the model was trained on.
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
        notes=(*notes, *note_small_faces(faces)),
        probability=decision.probability(score),
        num_examined=len(frames),
        num_frames=num_frames,
        headline=say_headline(verdict, faces=faces, extent=extent),
        reason=say_reason(verdict, threshold=threshold, faces=faces, suspicious=suspicious),
        trained_on=tuple(trained_on),
    )


def _judge_faces(frames: Iterable[FrameResult], *, decision: Decision, margin: float) -> Iterable[FrameResult]:
    """Give every face the verdict of its own score, which is its colour in this frame."""
    for frame in frames:
        faces = (replace(face, verdict=decision.verdict(face.score, margin=margin)) for face in frame.faces)
        yield replace(frame, faces=tuple(faces))


def measure_extent(frames: Sequence[FrameResult], suspicious: Sequence[TimeRange]) -> str:
    """Say how much of a video lies in suspicious stretches, such as `2 of 4 seconds`; of a short one `3 of 6 frames`.

    Args:
        frames: All that were examined, in order of time.
        suspicious: Of `find_ranges`.
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
        deciding: Which faces decide.
        margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
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
    """List the stretches of a video in which a face that decides scores as fake in every frame looked at.

    Args:
        frames: In order of time.
        faces: Of `sum_up`.
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
        faces: Of `sum_up`.
        threshold: A score from here on is fake.
        limit: How many at most.

    Returns:
        Their `index`, the weightiest first.
    """
    main = find_main(faces)
    if main is None:
        return ()
    side = 1 if main.score >= threshold or main.verdict is Verdict.UNCERTAIN else -1
    scored = [(face.score, frame.index) for frame in frames for face in frame.faces if face.track == main.track]
    return tuple(index for _, index in sorted(scored, key=lambda pair: (-side * pair[0], pair[1]))[:limit])
