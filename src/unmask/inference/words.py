"""The words and numbers in which a prediction is told, the same for the command line, the service and the app."""

from collections.abc import Iterable, Sequence

from unmask.decision import show_score
from unmask.forgeries import warn_in_short
from unmask.inference.results import FaceResult, Prediction, TimeRange, find_main
from unmask.types import Verdict

VERDICTS = {
    Verdict.FAKE: "Fake",
    Verdict.REAL: "Real",
    Verdict.UNCERTAIN: "Uncertain",
    Verdict.NO_FACE: "No face found",
}

UNREADABLE = "Cannot be read"

_MOST_STRETCHES = 3

_MOST_NAMES = 4

_ODD = {Verdict.FAKE: "looks forged", Verdict.UNCERTAIN: "is uncertain"}


def name_face(track: int) -> str:
    """Return what people call a face: `face 1` is track 0."""
    return f"face {track + 1}"


def show_probability(probability: float | None) -> str:
    """Write a probability without claiming certainty: never 0 % and never 100 %."""
    if probability is None:
        return "unknown"
    if probability < 0.01:
        return "under 1 %"
    return "over 99 %" if probability > 0.99 else f"{probability:.0%}".replace("%", " %")


def compare(score: float, threshold: float) -> str:
    """Say on which side of the threshold a score lies; with more digits where three would make them equal."""
    side = "above" if score > threshold else "at" if score == threshold else "below"
    digits = 3
    while score != threshold and digits < 9 and f"{score:.{digits}f}" == f"{threshold:.{digits}f}":
        digits += 1
    return f"{score:.{digits}f}, {side} the threshold {threshold:.{digits}f}"


def show_seconds(seconds: float) -> str:
    """Write a duration: `4`, `2.5`, `90`."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}".removesuffix(".0")


def show_clock(seconds: float) -> str:
    """Write a moment of a video as its player does, such as `0:02.4`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest // 10:02d}.{rest % 10}"


def show_stretches(ranges: Sequence[TimeRange], *, most: int = _MOST_STRETCHES) -> str:
    """List stretches in order of time, those with the highest scores if there are many.

    Args:
        ranges: Of a prediction.
        most: How many are named.
    """
    strongest = sorted(ranges, key=lambda stretch: -stretch.score)[:most]
    named = [show_stretch(stretch) for stretch in sorted(strongest, key=lambda stretch: stretch.start_seconds)]
    more = len(ranges) - len(strongest)
    return ", ".join(named) + (f" and {more} more" if more else "")


def show_stretch(stretch: TimeRange) -> str:
    """Write when a stretch begins and ends; one frame alone has one moment."""
    start, end = show_clock(stretch.start_seconds), show_clock(stretch.end_seconds)
    return start if start == end else f"{start} to {end}"


def show_examined(num_examined: int, num_frames: int) -> str:
    """Say how much of a video was examined."""
    return f"examined {num_examined:,} of {num_frames:,} frames"


def entitle(prediction: Prediction) -> list[str]:
    """Return the lines that head a drawing: the headline, and what the model was trained on where that is doubtful."""
    short = warn_in_short(prediction.trained_on)
    return [prediction.headline or str(prediction.verdict), *([short] if short else [])]


def say_headline(verdict: Verdict, *, faces: Sequence[FaceResult], extent: str) -> str:
    """Say the verdict and what it rests on in one line.

    Args:
        verdict: Of the file.
        faces: All of them.
        extent: How much of a video looks forged, such as `2 of 4 seconds`; "" where nothing does, and of an image.
    """
    word = VERDICTS[verdict]
    if verdict is Verdict.NO_FACE:
        return f"{word}: nothing was judged"
    if extent:
        return f"{word}{', though' if verdict is Verdict.REAL else ':'} {extent} {_look(extent)} forged"
    if verdict is Verdict.UNCERTAIN:
        return f"{word}: the score is close to the threshold"
    if verdict is Verdict.REAL:
        return _say_real(faces)
    if len(faces) == 1:
        return f"{word}: the face looks forged"
    fake = [name_face(face.track) for face in faces if face.verdict is Verdict.FAKE and face.decides]
    share = f"{len(fake)} of {len(faces)} faces"
    names = ", ".join(fake) if len(fake) <= _MOST_NAMES else f"{', '.join(fake[:_MOST_NAMES])} ..."
    return f"{word}: {share} {_look(share)} forged ({names})"


def _say_real(faces: Sequence[FaceResult]) -> str:
    fake = [name_face(face.track) for face in faces if face.verdict is Verdict.FAKE]
    if fake:
        return f"{VERDICTS[Verdict.REAL]}, though {fake[0]}, which does not decide, looks forged"
    which = "the face shows" if len(faces) == 1 else "the faces show"
    return f"{VERDICTS[Verdict.REAL]}: {which} no sign of the forgeries that this model knows"


def say_reason(
    verdict: Verdict,
    *,
    threshold: float,
    faces: Sequence[FaceResult],
    suspicious: Sequence[TimeRange],
) -> str:
    """Say in sentences with numbers how a verdict came about, and what speaks against it.

    Args:
        verdict: Of the file.
        threshold: A score from here on is fake.
        faces: All of them.
        suspicious: Stretches in which a face that decides looks forged.
    """
    main = find_main(faces)
    if main is None:
        return (
            "No face was found in what was examined. That does not mean it is real: a face may be too small, turned "
            "away, covered or dark."
        )
    sentences = [f"{_name_decider(main, faces)} scores {compare(main.score, threshold)}."]
    if verdict is Verdict.UNCERTAIN and not suspicious:
        sentences.append("That is too close to call.")
    elif verdict is Verdict.UNCERTAIN:
        sentences.append(f"A part of the video may be forged: above the threshold at {show_stretches(suspicious)}.")
    elif suspicious:
        sentences.append(f"Above the threshold at {show_stretches(suspicious)}.")
    sentences += say_bystanders(faces)
    return " ".join(sentences)


def say_bystanders(faces: Iterable[FaceResult]) -> list[str]:
    """Say which faces look forged, or may be in part, although they do not decide."""
    found = [face for face in faces if not face.decides and face.verdict in (Verdict.FAKE, Verdict.UNCERTAIN)]
    return [
        f"{name_face(face.track).capitalize()} does not decide, found in {face.num_frames} "
        f"{'frame' if face.num_frames == 1 else 'frames'}, and {_ODD[face.verdict]} with {show_score(face.score)}."
        for face in sorted(found, key=lambda face: -face.score)[:_MOST_STRETCHES]
    ]


def _look(extent: str) -> str:
    return "looks" if extent.startswith("1 of ") else "look"


def _name_decider(main: FaceResult, faces: Sequence[FaceResult]) -> str:
    deciding = sum(face.decides for face in faces)
    if len(faces) == 1:
        return "The face"
    name = name_face(main.track).capitalize()
    return f"{name}, the one of {len(faces)} that decides," if deciding == 1 else f"{name}, the most suspicious,"
