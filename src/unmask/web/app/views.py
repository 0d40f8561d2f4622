"""What the app shows of a file: its wording, made safe, and small images kept instead of the file."""

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from unmask.decision import Decision, show_score
from unmask.faces.crop import cut_shown
from unmask.faces.spec import CropSpec
from unmask.inference.annotate import LETTERS, draw_faces
from unmask.inference.deciding import Deciding
from unmask.inference.results import UNREADABLE, FaceResult, FrameResult, Prediction
from unmask.inference.words import VERDICTS, name_face, show_clock, show_examined
from unmask.media.image import decode_jpeg, encode_jpeg
from unmask.types import Array, Box, Face, Image, MediaKind, Verdict

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
        "youden": "chosen on validation data for the highest sum of both classes' recall",
        "eer": "chosen on validation data so that both kinds of error are equally frequent",
        "given": "given by hand",
        "default": "the default, since nothing was chosen on validation data",
    }.get(decision.criterion, f"chosen on validation data by {decision.criterion}")
    if not decision.is_calibrated:
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


MAX_SIDE = 1280
"""Longer side of a kept frame, in pixels."""

MAX_FACES = 12
"""Faces per frame whose crops are kept: the most suspicious of an image, the largest of a video frame."""

MAX_FRAMES = 240
"""Frames kept of a video; of more, every second, fourth, ... and those that weighed most."""

_THUMBNAIL_SIDE = 200

_LARGE = 0.95
"""Letter size that is legible on a phone, where a frame is 350 pixels wide."""

_FEW = 4


@dataclass(frozen=True)
class FrameView:
    """A downscaled frame.

    Args:
        index: Position in the video; 0 for an image.
        jpeg: JPEG of at most `MAX_SIDE` pixels per side.
        scale: Scale relative to the original frame.
        crops: JPEGs of faces, by their position in the frame's list.
    """

    index: int
    jpeg: bytes
    scale: float
    crops: dict[int, bytes]

    @property
    def num_bytes(self) -> int:
        """Memory used."""
        return len(self.jpeg) + sum(map(len, self.crops.values()))

    @property
    def image(self) -> Image:
        """The pixels, RGB."""
        return decode_jpeg(self.jpeg, where="a kept frame")


@dataclass(frozen=True)
class Looked:
    """The result of a dropped file.

    Args:
        key: Key of the dropped file.
        sha256: Hash of the file.
        num_bytes: Size of the file.
        prediction: Prediction, whose path is the name of the dropped file.
        views: Frames kept, in order of time; empty if the file was unreadable or its images were dropped.
    """

    key: str
    sha256: str
    num_bytes: int
    prediction: Prediction
    views: tuple[FrameView, ...] = ()

    @property
    def name(self) -> str:
        """Name of the dropped file."""
        return self.prediction.path

    @cached_property
    def frames(self) -> dict[int, FrameResult]:
        """Results of the frames, by index."""
        return {frame.index: frame for frame in self.prediction.frames}

    @cached_property
    def rows(self) -> dict[int, FaceResult]:
        """Faces or persons, by number."""
        return {face.track: face for face in self.prediction.faces}

    @cached_property
    def thumbnails(self) -> dict[int, str]:
        """Each kept frame with its boxes, by index, as the data URI of a small JPEG."""
        return {view.index: _draw_thumbnail(self, view) for view in self.views}

    @property
    def num_image_bytes(self) -> int:
        """Memory used by its images, and by the thumbnails once they are drawn."""
        drawn: dict[int, str] = vars(self).get("thumbnails", {})  # the property would draw them
        return sum(view.num_bytes for view in self.views) + sum(map(len, drawn.values()))


class ViewKeeper:
    """Keeps frames of a stream, evenly thinned if they are many or large.

    Args:
        max_bytes: Memory limit; the first frame is always kept.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.views: list[FrameView] = []
        self.max_bytes = max_bytes
        self._step = 1
        self._count = 0

    def offer(self, make: Callable[[], FrameView]) -> None:
        """Keep a frame, or skip it without making it."""
        if self._count % self._step == 0:
            self.views.append(make())
            while self._is_too_much():
                self.views = self.views[::2]
                self._step *= 2
        self._count += 1

    def _is_too_much(self) -> bool:
        num_views = len(self.views)
        num_bytes = sum(view.num_bytes for view in self.views)
        return num_views > MAX_FRAMES or (num_views > 1 and num_bytes > self.max_bytes)


def make_view(image: Image, index: int, faces: Iterable[tuple[int, Face]], *, spec: CropSpec) -> FrameView:
    """Downscale a frame and crop its faces.

    Args:
        image: Decoded RGB image.
        index: Position in the video.
        faces: Faces to crop, each with its position in the frame's list.
        spec: Spec of the crops.
    """
    scale = min(MAX_SIDE / max(image.shape[:2]), 1.0)
    crops = {place: encode_jpeg(cut_shown(image, face, spec), quality=90) for place, face in faces}
    return FrameView(index, encode_jpeg(resize(image, scale), quality=88), scale, crops)


def resize(image: Image, scale: float) -> Image:
    """Downscale an image."""
    if scale >= 1:
        return image
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def mark(looked: Looked, view: FrameView) -> Image:
    """Draw this frame's boxes, numbers and scores; in large letters if there are few faces."""
    num_faces = len(looked.frames[view.index].faces)
    return _mark(looked, view, letters=_LARGE if num_faces <= _FEW else LETTERS)


def mark_small(looked: Looked, view: FrameView, *, side: int) -> Image:
    """Draw only the boxes, for a frame shown too small for letters.

    Args:
        looked: Result of the file.
        view: One of its frames.
        side: Longer side of the result, in pixels.
    """
    image = _mark(looked, view, letters=0)
    return resize(image, side / max(image.shape[:2]))


def _mark(looked: Looked, view: FrameView, *, letters: float) -> Image:
    faces = []
    for seen in looked.frames[view.index].faces:
        x1, y1, x2, y2 = (value * view.scale for value in seen.box)
        box: Box = (x1, y1, x2, y2)
        faces.append(replace(seen, box=box))
    return draw_faces(view.image, faces, letters=letters)


def _draw_thumbnail(looked: Looked, view: FrameView) -> str:
    small = mark_small(looked, view, side=_THUMBNAIL_SIDE)
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(small, quality=72)).decode()


def find_suspect(prediction: Prediction, indices: Iterable[int]) -> int | None:
    """Return the index of the most suspicious frame: the one with the highest score of a deciding face.

    Args:
        prediction: Prediction of a video.
        indices: Indices of the candidate frames.
    """
    deciding, wanted = {face.track for face in prediction.faces if face.decides}, set(indices)
    scored = [
        (face.track in deciding, face.score, -frame.index)
        for frame in prediction.frames
        if frame.index in wanted
        for face in frame.faces
    ]
    return -max(scored)[2] if scored else min(wanted, default=None)


def find_map(looked: Looked, view: FrameView, place: int) -> Array | None:
    """Return the activation map of a face, by its position in the frame's list."""
    return looked.frames[view.index].faces[place].activation_map
