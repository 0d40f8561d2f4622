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
"""Control characters, and those that turn the direction of writing, with which `gpj.exe` can look like `exe.jpg`."""

_ADDRESS = re.compile(r"(https?|www|@)(?=[:./\w])", flags=re.IGNORECASE)

_WORD_JOINER = "\u2060"  # takes no room


def printable(text: object) -> str:
    """Replace the characters of a text that are not shown but act."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def plain(text: object) -> str:
    """Return Markdown that shows a text as it is: without marks, pictures, formulas, emoji, HTML or links."""
    unlinked = _ADDRESS.sub(lambda found: found.group() + _WORD_JOINER, printable(text))
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in unlinked)


def code(text: object) -> str:
    """Return Markdown that shows a text in one line in the type of code."""
    shown = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}"


def shorten(text: object, *, length: int = 48) -> str:
    """Cut the middle out of a long text, so that both its start and the suffix of a file stay."""
    shown = printable(text)
    head = (length - 1) // 2
    return shown if len(shown) <= length else f"{shown[:head]}…{shown[-(length - 1 - head) :]}"


NO_PROOF = (
    "A score is no proof. It says how much a face looks like the forgeries that this model was trained on. "
    "Use it to decide where to look closer, not to accuse anyone."
)


@dataclass(frozen=True)
class Saying:
    """How a verdict is shown.

    Args:
        icon: Of Material Symbols.
        word: The verdict.
        colour: Of Streamlit's palette.
    """

    icon: str
    word: str
    colour: str

    def head(self, text: str = "") -> str:
        """Return Markdown that shows a text, or the word alone, in the verdict's colour after its icon."""
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
    """Say how much of a video was examined; nothing of an image."""
    frames = prediction.frames
    if prediction.kind is not MediaKind.VIDEO or not frames:
        return ""
    said = show_examined(prediction.num_examined, prediction.num_frames).capitalize()
    if len(frames) == 1:
        return f"{said}, at {show_clock(frames[0].time_seconds)}."
    span = f"from {show_clock(frames[0].time_seconds)} to {show_clock(frames[-1].time_seconds)}"
    return f"{said}, {span}. Nothing is known between them."


def explain_no_stretch(prediction: Prediction) -> str:
    """Say of a video without a suspicious stretch whether faces that do not decide reach the threshold.

    Args:
        prediction: Of a video in which no face that decides reaches it.
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
    others = f", and {len(peaks) - 1} more such" if len(peaks) > 1 else ""
    return (
        "none. No face that decides reaches the threshold in an examined frame. One that does not decide does: "
        f"{name_face(track)}, with {show_score(score)} at {show_clock(seconds)}{others}."
    )


def explain_contradiction(prediction: Prediction) -> str:
    """Say what it means if verdict and probability point to different sides; nothing where they agree."""
    probability = prediction.probability
    if probability is None or prediction.verdict not in (Verdict.REAL, Verdict.FAKE):
        return ""
    is_fake = prediction.verdict is Verdict.FAKE
    if is_fake == (probability >= 0.5):
        return ""
    return (
        f"The verdict is {'fake' if is_fake else 'real'}, but the calibrated probability leans to "
        f"{'real' if is_fake else 'fake'}: this score lies between the threshold and the point where the calibration "
        "takes both for equally likely."
    )


def say_who_decides(deciding: Deciding) -> str:
    """Say whose score is that of a file."""
    return "the person seen most often" if deciding.face == "main" else "the most suspicious person"


def explain_numbers(decision: Decision, deciding: Deciding, *, num_frames: int, margin: float) -> str:
    """Say what score, threshold and probability are, as Markdown."""
    chosen = {
        "balanced_accuracy": "chosen on validation data so that real and fake are recognised equally well on average",
        "f1": "chosen on validation data for the highest F1 of the fakes",
        "eer": "chosen on validation data so that both kinds of error are equally frequent",
        "given": "given by hand",
    }.get(decision.criterion, "the default, since nothing was chosen on validation data")
    if decision.calibration is None:
        chance = (
            "**Probability** is unknown for this model: its scores were not calibrated against known outcomes. "
            "A score of 0.9 does *not* mean “90 % fake”; only its place above or below the threshold counts."
        )
    else:
        chance = (
            "**Probability** is calibrated on validation data: of 100 faces with such a score, about that many were "
            "fakes there, real and fake counted as equally frequent. It holds for material like the validation data, "
            "and only for that."
        )
    return "\n\n".join(
        [
            "**Score** runs from 0 to 1: how strongly the network takes the face for a forgery. Of a video it is the "
            f"{decision.aggregation} over up to {num_frames} frames of each person, and {say_who_decides(deciding)} "
            "decides.",
            f"**Threshold** {show_score(decision.threshold)}: a score from here on is called fake; {chosen}.",
            chance,
            f"**Uncertain** is a score near the threshold, within {margin:.0%} of the way from it to 0 or to 1; and a "
            "video whose score is that of a real one, though a face in it looks forged for a while.",
            "**No face found** means that nothing was judged. It does not mean “real”.",
            f"**Remember**: {NO_PROOF}",
        ]
    )
