"""The app's wording: verdicts, explanations, and user text made safe to show."""

import re
from dataclasses import dataclass

from unmask.decision import Decision, show_score
from unmask.inference.deciding import Deciding
from unmask.inference.results import Prediction
from unmask.inference.words import UNREADABLE, VERDICTS, name_face, show_clock, show_examined
from unmask.types import MediaKind, Verdict

_SPECIAL = "\\`*_[]{}()$:~#<>|!&"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that reverse the writing direction, which can make `gpj.exe` look like `exe.jpg`."""

_ADDRESS = re.compile(r"(https?|www|@)(?=[:./\w])", flags=re.IGNORECASE)

_WORD_JOINER = "\u2060"  # zero width


def printable(text: object) -> str:
    """Replace invisible control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def plain(text: object) -> str:
    """Return Markdown that shows a text literally: no markup, images, formulas, emoji, HTML or links."""
    unlinked = _ADDRESS.sub(lambda found: found.group() + _WORD_JOINER, printable(text))
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in unlinked)


def code(text: object) -> str:
    """Return Markdown that shows a text as inline code."""
    shown = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}"


def shorten(text: object, *, length: int = 48) -> str:
    """Elide the middle of a long text, so that its start and a file suffix remain."""
    shown = printable(text)
    head = (length - 1) // 2
    return shown if len(shown) <= length else f"{shown[:head]}…{shown[-(length - 1 - head) :]}"


NO_PROOF = (
    "A score is not proof. It says how much a face looks like the forgeries that this model was trained on. "
    "Use it to decide where to look closer, not to accuse anyone."
)


@dataclass(frozen=True)
class Saying:
    """How a verdict is shown.

    Args:
        icon: Icon from Material Symbols.
        word: The verdict in words.
        colour: Colour of Streamlit's palette.
    """

    icon: str
    word: str
    colour: str

    def head(self, text: str = "") -> str:
        """Return Markdown with the icon and a text, or else the word, in the verdict's colour."""
        return f":{self.colour}[{self.icon} {plain(text or self.word)}]"


SAYINGS = {
    Verdict.FAKE: Saying(":material/warning:", VERDICTS[Verdict.FAKE], "red"),
    Verdict.REAL: Saying(":material/check_circle:", VERDICTS[Verdict.REAL], "green"),
    Verdict.UNCERTAIN: Saying(":material/help:", VERDICTS[Verdict.UNCERTAIN], "orange"),
    Verdict.NO_FACE: Saying(":material/face_retouching_off:", VERDICTS[Verdict.NO_FACE], "gray"),
}

UNREAD = Saying(":material/broken_image:", UNREADABLE, "gray")


def say(prediction: Prediction) -> Saying:
    """Return how the verdict of a file is shown."""
    return UNREAD if prediction.verdict is None else SAYINGS[prediction.verdict]


def explain_coverage(prediction: Prediction) -> str:
    """Say how much of a video was examined; empty for an image."""
    frames = prediction.frames
    if prediction.kind is not MediaKind.VIDEO or not frames:
        return ""
    said = show_examined(prediction.num_examined, prediction.num_frames).capitalize()
    if len(frames) == 1:
        return f"{said}, at {show_clock(frames[0].time_seconds)}."
    span = f"from {show_clock(frames[0].time_seconds)} to {show_clock(frames[-1].time_seconds)}"
    return f"{said}, {span}. Frames between them are unknown."


def explain_no_stretch(prediction: Prediction) -> str:
    """Say whether faces that do not decide reach the threshold, in a video without a suspicious stretch.

    Args:
        prediction: Prediction of a video in which no deciding face reaches the threshold.
    """
    deciding = {face.track for face in prediction.faces if face.decides}
    peaks: dict[int, tuple[float, float]] = {}
    for frame in prediction.frames:
        for face in frame.faces:
            if face.track not in deciding and face.score >= prediction.threshold:
                peaks[face.track] = max(peaks.get(face.track, (0.0, 0.0)), (face.score, frame.time_seconds))
    if not peaks:
        return "none. No face in the examined frames reaches the threshold."
    track = max(peaks, key=lambda track: peaks[track][0])
    score, seconds = peaks[track]
    others = f", and {len(peaks) - 1} more" if len(peaks) > 1 else ""
    return (
        "none. No deciding face reaches the threshold in an examined frame. A face that does not decide does: "
        f"{name_face(track)}, with {show_score(score)} at {show_clock(seconds)}{others}."
    )


def explain_contradiction(prediction: Prediction) -> str:
    """Explain a verdict and probability that disagree; empty if they agree."""
    probability = prediction.probability
    if probability is None or prediction.verdict not in (Verdict.REAL, Verdict.FAKE):
        return ""
    is_fake = prediction.verdict is Verdict.FAKE
    if is_fake == (probability >= 0.5):
        return ""
    return (
        f"The verdict is {'fake' if is_fake else 'real'}, but the calibrated probability leans to "
        f"{'real' if is_fake else 'fake'}: the score lies between the threshold and the "
        "point that the calibration puts at 50 %."
    )


def say_who_decides(deciding: Deciding) -> str:
    """Name the person whose score is that of the file."""
    return "the person seen most often" if deciding.face == "main" else "the most suspicious person"


def explain_numbers(decision: Decision, deciding: Deciding, *, num_frames: int, margin: float) -> str:
    """Explain score, threshold and probability in Markdown."""
    chosen = {
        "balanced_accuracy": "chosen on validation data for the highest balanced accuracy",
        "f1": "chosen on validation data for the highest F1 of the fakes",
        "eer": "chosen on validation data so that both kinds of error are equally frequent",
        "given": "given by hand",
    }.get(decision.criterion, "the default, since nothing was chosen on validation data")
    if decision.calibration is None:
        chance = (
            "**Probability** is unknown for this model: its scores were not calibrated against known outcomes. "
            "A score of 0.9 does *not* mean “90 % fake”; it only matters whether it is above or below the threshold."
        )
    else:
        chance = (
            "**Probability** is calibrated on validation data: of 100 faces with such a score, about that many were "
            "fakes there, with real and fake equally frequent. It holds only for material like the validation data."
        )
    return "\n\n".join(
        [
            "**Score**, from 0 to 1: how strongly the network takes the face for a forgery. For a video it is the "
            f"{decision.aggregation} over up to {num_frames} frames per person, and {say_who_decides(deciding)} "
            "decides.",
            f"**Threshold** {show_score(decision.threshold)}: scores at or above it are fake; {chosen}.",
            chance,
            f"**Uncertain**: a score near the threshold, within {margin:.0%} of the way from it to 0 or to 1; or a "
            "video that scores as real although a face in it looks forged for a while.",
            "**No face found**: nothing was judged. It does not mean “real”.",
            f"**Remember**: {NO_PROOF}",
        ]
    )
