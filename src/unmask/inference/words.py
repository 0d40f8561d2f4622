"""The wording of a prediction: headlines, explanations and notes, shared by command line, API and app."""

from collections.abc import Iterable, Sequence

from unmask.decision import show_score
from unmask.forgeries import warn_in_short
from unmask.inference.results import FaceResult, FrameResult, Prediction, TimeRange, find_main
from unmask.types import Verdict

VERDICTS = {
    Verdict.FAKE: "Fake",
    Verdict.REAL: "Real",
    Verdict.UNCERTAIN: "Uncertain",
    Verdict.NO_FACE: "No face found",
}


_MOST_STRETCHES = 3

_MOST_NAMES = 4

_ODD = {Verdict.FAKE: "looks forged", Verdict.UNCERTAIN: "is uncertain"}


def name_face(track: int) -> str:
    """Return the displayed name of a face: `face 1` is track 0."""
    return f"face {track + 1}"


def show_probability(probability: float | None) -> str:
    """Format a probability without claiming certainty: never 0 % or 100 %."""
    if probability is None:
        return "unknown"
    if probability < 0.01:
        return "under 1 %"
    return "over 99 %" if probability > 0.99 else f"{probability:.0%}".replace("%", " %")


def compare(score: float, threshold: float) -> str:
    """Say on which side of the threshold a score lies, with more than three digits if they would look equal."""
    side = "above" if score > threshold else "at" if score == threshold else "below"
    digits = 3
    while score != threshold and digits < 9 and f"{score:.{digits}f}" == f"{threshold:.{digits}f}":
        digits += 1
    return f"{score:.{digits}f}, {side} the threshold {threshold:.{digits}f}"


def show_seconds(seconds: float) -> str:
    """Format a duration: `4`, `2.5`, `90`."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}".removesuffix(".0")


def show_clock(seconds: float) -> str:
    """Format a time in a video as players do, such as `0:02.4`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02d}.{rest % 10}"


def show_stretches(ranges: Sequence[TimeRange], *, most: int = _MOST_STRETCHES) -> str:
    """List stretches in order of time, those with the highest scores if there are many.

    Args:
        ranges: Time ranges of a prediction.
        most: Maximum number of ranges to name.
    """
    strongest = sorted(ranges, key=lambda stretch: -stretch.score)[:most]
    named = [show_stretch(stretch) for stretch in sorted(strongest, key=lambda stretch: stretch.start_seconds)]
    more = len(ranges) - len(strongest)
    return ", ".join(named) + (f" and {more} more" if more else "")


def show_stretch(stretch: TimeRange) -> str:
    """Format the start and end of a stretch; a single frame has one time."""
    start, end = show_clock(stretch.start_seconds), show_clock(stretch.end_seconds)
    return start if start == end else f"{start} to {end}"


def show_examined(num_examined: int, num_frames: int) -> str:
    """Describe how much of a video was examined."""
    return f"examined {num_examined:,} of {num_frames:,} frames"


def entitle(prediction: Prediction) -> list[str]:
    """Return the title lines of a drawing: the headline, and a short warning about the training data if any."""
    short = warn_in_short(prediction.trained_on)
    return [prediction.headline or str(prediction.verdict), *([short] if short else [])]


def say_headline(verdict: Verdict, *, faces: Sequence[FaceResult], extent: str, subject: str = "face") -> str:
    """State the verdict and its basis in one line.

    Args:
        verdict: Verdict of the file.
        faces: All faces.
        extent: Part of a video that looks forged, such as `2 of 4 seconds`; "" for none and for images.
        subject: What a model judges: `face`, or `image` or `video` if it takes images whole.
    """
    word = VERDICTS[verdict]
    if verdict is Verdict.NO_FACE:
        return f"{word}: nothing was judged"
    if extent:
        return f"{word}{', though' if verdict is Verdict.REAL else ':'} {extent} {_look(extent)} forged"
    if verdict is Verdict.UNCERTAIN:
        return f"{word}: the score is close to the threshold"
    if verdict is Verdict.REAL:
        return _say_real(faces, subject)
    return _say_fake(faces, subject)


def _say_fake(faces: Sequence[FaceResult], subject: str) -> str:
    word = VERDICTS[Verdict.FAKE]
    if len(faces) == 1:
        return f"{word}: the {subject} looks forged"
    fake = [name_face(face.track) for face in faces if face.verdict is Verdict.FAKE and face.decides]
    if not fake:  # possible only with the aggregation frame_max
        return f"{word}: in many frames one of {len(faces)} faces looks forged"
    share = f"{len(fake)} of {len(faces)} faces"
    names = ", ".join(fake) if len(fake) <= _MOST_NAMES else f"{', '.join(fake[:_MOST_NAMES])} ..."
    return f"{word}: {share} {_look(share)} forged ({names})"


def _say_real(faces: Sequence[FaceResult], subject: str) -> str:
    fake = [name_face(face.track) for face in faces if face.verdict is Verdict.FAKE]
    if fake:
        return f"{VERDICTS[Verdict.REAL]}, though {fake[0]}, which does not decide, looks forged"
    which = f"the {subject} shows" if len(faces) == 1 else "the faces show"
    return f"{VERDICTS[Verdict.REAL]}: {which} no sign of the forgeries that this model knows"


def say_reason(
    verdict: Verdict,
    *,
    threshold: float,
    faces: Sequence[FaceResult],
    suspicious: Sequence[TimeRange],
    subject: str = "face",
) -> str:
    """Explain in sentences with numbers how a verdict was reached, and what contradicts it.

    Args:
        verdict: Verdict of the file.
        threshold: Lowest score that is fake.
        faces: All faces.
        suspicious: Stretches in which a deciding face looks forged.
        subject: What a model judges: `face`, or `image` or `video` if it takes images whole.
    """
    main = find_main(faces)
    if main is None:
        return (
            "No face to judge was found in what was examined. That does not mean it is real: a face may be too small, "
            "turned away, covered, blurred or dark."
        )
    sentences = [f"{_name_decider(main, faces, subject)} scores {compare(main.score, threshold)}."]
    if verdict is Verdict.UNCERTAIN and not suspicious:
        sentences.append("That is too close to call.")
    elif verdict is Verdict.UNCERTAIN:
        sentences.append(f"A part of the video may be forged: above the threshold at {show_stretches(suspicious)}.")
    elif suspicious:
        sentences.append(f"Above the threshold at {show_stretches(suspicious)}.")
    sentences += say_bystanders(faces)
    return " ".join(sentences)


def say_bystanders(faces: Iterable[FaceResult]) -> list[str]:
    """Name the faces that look forged or uncertain but do not decide."""
    found = [face for face in faces if not face.decides and face.verdict in (Verdict.FAKE, Verdict.UNCERTAIN)]
    return [
        f"{name_face(face.track).capitalize()} does not decide, found in {face.num_frames} "
        f"{'frame' if face.num_frames == 1 else 'frames'}, and {_ODD[face.verdict]} with {show_score(face.score)}."
        for face in sorted(found, key=lambda face: -face.score)[:_MOST_STRETCHES]
    ]


def _look(extent: str) -> str:
    return "looks" if extent.startswith("1 of ") else "look"


def _name_decider(main: FaceResult, faces: Sequence[FaceResult], subject: str) -> str:
    deciding = sum(face.decides for face in faces)
    if len(faces) == 1:
        return f"The {subject}"
    name = name_face(main.track).capitalize()
    return f"{name}, the one of {len(faces)} that decides," if deciding == 1 else f"{name}, the most suspicious,"


SMALL_FACE = 40
"""Longer side in pixels below which a score says little; our rule of thumb."""


def note_crowd(most: int, *, max_faces: int, is_video: bool) -> list[str]:
    """Return the note on faces left out.

    Args:
        most: Highest number of faces found in a frame.
        max_faces: Maximum number of faces scored per frame.
        is_video: Whether the file is a video.
    """
    if most <= max_faces:
        return []
    found = f"Up to {most} faces were found in a frame" if is_video else f"{most} faces were found"
    return [f"{found}: only the {max_faces} largest were scored (limits.max_faces)."]


def note_frames(*, asked: int, looked_at: int, planned: int, decoded: int) -> list[str]:
    """Return the note on frames left out.

    Args:
        asked: Number of requested frames.
        looked_at: Number of frames within the limits.
        planned: Number of frames to decode, with those of a closer search.
        decoded: Number of frames decoded.
    """
    notes = []
    if looked_at < asked:
        left = f"only {looked_at:,} of them, evenly spaced, were examined (limits.max_frames)."
        notes.append(f"{asked:,} frames were asked for: {left}")
    if decoded < planned:
        notes.append(f"{planned - decoded:,} of {planned:,} frames could not be decoded.")
    return notes


def note_search(frames: Sequence[FrameResult], *, num_asked: int, num_planned: int, num_frames: int) -> list[str]:
    """Return the note on further frames searched because those asked for showed no or too few faces.

    Args:
        frames: Frames examined.
        num_asked: Frames asked for, within the limits.
        num_planned: Frames to examine, with those of a closer search.
        num_frames: Frames in the file.
    """
    num_faces = sum(bool(frame.faces) for frame in frames)
    if not num_faces:
        said = f"No face was found in the {len(frames):,} of {num_frames:,} frames examined."
        if num_planned < num_frames:
            said += " One that is seen only between them was missed: raise limits.max_search to search more."
        return [said]
    if num_planned > num_asked:
        return [
            f"Too few of the frames asked for ({num_asked:,}) show a face, so {num_planned - num_asked:,} more were "
            f"examined: {num_faces:,} of all {len(frames):,} show one."
        ]
    return []


def note_small_faces(faces: Sequence[FaceResult], *, subject: str = "face") -> list[str]:
    """Return the note on faces too small for a meaningful score.

    Args:
        faces: All of them.
        subject: What a model judges: `face`, or `image` or `video` if it takes images whole.
    """
    sides = [max(face.box[2] - face.box[0], face.box[3] - face.box[1]) for face in faces]
    small = sum(side < SMALL_FACE for side in sides)
    if not small:
        return []
    which = f"The {subject} is" if len(faces) == 1 else f"{small} of {len(faces)} faces are"
    return [f"{which} smaller than {SMALL_FACE} pixels (the smallest {min(sides):.0f}): such a score says little."]
