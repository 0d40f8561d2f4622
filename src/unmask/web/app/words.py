"""What a verdict means, in plain words."""

from dataclasses import dataclass

from unmask.decision import Decision
from unmask.inference.deciding import Deciding
from unmask.inference.results import Prediction
from unmask.inference.words import show_clock
from unmask.types import MediaKind, Verdict

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

    @property
    def heading(self) -> str:
        """Markdown: icon and word in colour."""
        return f":{self.colour}[{self.icon} {self.word}]"


SAYINGS = {
    Verdict.FAKE: Saying(":material/warning:", "Fake", "red"),
    Verdict.REAL: Saying(":material/check_circle:", "Real", "green"),
    Verdict.UNCERTAIN: Saying(":material/help:", "Uncertain", "orange"),
    Verdict.NO_FACE: Saying(":material/face_retouching_off:", "No face found", "gray"),
}

UNREADABLE = Saying(":material/broken_image:", "Cannot be read", "gray")


def say(prediction: Prediction) -> Saying:
    """Return how the verdict of a file is shown."""
    return UNREADABLE if prediction.verdict is None else SAYINGS[prediction.verdict]


def explain(prediction: Prediction, *, margin: float) -> str:
    """Say in a sentence or two how the verdict came about.

    Args:
        prediction: Of a file that was read.
        margin: Of the predictor.
    """
    score, threshold = prediction.score, prediction.threshold
    thing = "video" if prediction.kind is MediaKind.VIDEO else "picture"
    if score is None:
        return (
            f"The detector found no face in this {thing}, so nothing was judged. That does not mean it is real: "
            "the face may be too small, turned away, covered or dark."
        )
    who = _name_decider(prediction, thing)
    if prediction.verdict is Verdict.UNCERTAIN:
        low, high = threshold * (1 - margin), threshold + (1 - threshold) * margin
        if score <= low:  # by the rule for suspicious stretches
            return f"{prediction.headline}. {prediction.reason}"
        return (
            f"{who} scores {score:.3f}, too near to the threshold {threshold:.3f} to call: between {low:.3f} and "
            f"{high:.3f} this app does not decide. Read it as “not known”."
        )
    if prediction.verdict is Verdict.FAKE:
        return f"{who} scores {score:.3f}, above the threshold {threshold:.3f}: it looks like a forgery to this model."
    return (
        f"{who} scores {score:.3f}, below the threshold {threshold:.3f}: this model sees no forgery of the kinds it "
        "knows. One of another kind may look real to it."
    )


def explain_coverage(prediction: Prediction) -> str:
    """Say how much of a video was looked at; nothing of a picture."""
    frames = prediction.frames
    if prediction.kind is not MediaKind.VIDEO or not frames:
        return ""
    if len(frames) == 1:
        return f"One frame was looked at, at {show_clock(frames[0].time_seconds)}."
    span = f"from {show_clock(frames[0].time_seconds)} to {show_clock(frames[-1].time_seconds)}"
    return f"{len(frames):,} frames {span} were looked at. Nothing between them was."


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
        return "none. No face scored in the frames looked at reaches the threshold."
    track = max(peaks, key=lambda track: peaks[track][0])
    score, seconds = peaks[track]
    others = f", and {len(peaks) - 1} more such" if len(peaks) > 1 else ""
    return (
        "none. No face that decides reaches the threshold in a frame looked at. One that does not decide does: "
        f"face {track}, with {score:.2f} at {show_clock(seconds)}{others}."
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
        f"The verdict says {'fake' if is_fake else 'real'}, the probability rather {'real' if is_fake else 'fake'}: "
        "the threshold does not lie where the calibration takes both for equally likely, and this score lies between "
        "the two. Read it as “not known”."
    )


def _name_decider(prediction: Prediction, thing: str) -> str:
    deciding = [face for face in prediction.faces if face.decides]
    if len(prediction.faces) == 1:
        return f"The face in this {thing}"
    main = max(deciding, key=lambda face: face.score)
    if len(deciding) == 1:
        return f"Face {main.track}, the one of {len(prediction.faces)} faces that decides,"
    those = "faces" if len(deciding) == len(prediction.faces) else "faces that decide"
    return f"The most suspicious of {len(deciding)} {those}, face {main.track},"


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
            f"**Threshold** {decision.threshold:.4f}: a score from here on is called fake; {chosen}.",
            chance,
            f"**Uncertain** is a score near the threshold: within {margin:.0%} of the way from it to 0 or to 1.",
            "**No face found** means that nothing was judged. It does not mean “real”.",
            f"**Remember**: {NO_PROOF}",
        ]
    )
