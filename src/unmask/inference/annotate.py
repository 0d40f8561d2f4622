"""Draw verdicts: colours, boxes and heat maps on images, and videos with their faces marked."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from unmask.decision import show_score
from unmask.faces.crop import cut_shown
from unmask.faces.spec import CropSpec
from unmask.inference.results import FaceScore, FrameResult, Prediction
from unmask.inference.words import entitle
from unmask.media.encode import write_with_sound
from unmask.media.image import MAX_PIXELS
from unmask.media.streams import name_failures, name_failures_of
from unmask.media.video import index_video, read_indexed
from unmask.types import Array, Box, Frame, Image, Verdict

logger = logging.getLogger(__name__)

Colour = tuple[int, int, int]
"""RGB."""

_COLOURS: dict[Verdict, Colour] = {
    Verdict.REAL: (15, 138, 109),
    Verdict.FAKE: (214, 69, 61),
    Verdict.UNCERTAIN: (184, 115, 0),
    Verdict.NO_FACE: (92, 102, 117),
}

PERSONS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2", "#eeca3b", "#ff9da6")
"""Colours of the persons in a chart, in the order of its legend."""


def colour_of(verdict: Verdict | None) -> Colour:
    """Return the colour of a verdict; grey if there is none."""
    return _COLOURS[verdict or Verdict.NO_FACE]


def hex_of(verdict: Verdict | None) -> str:
    """Return the colour of a verdict in hexadecimal, such as `#d6453d`."""
    red, green, blue = colour_of(verdict)
    return f"#{red:02x}{green:02x}{blue:02x}"


_INK: Colour = (40, 40, 40)

LETTERS = 0.55
"""Default size of numbers and scores: about 12 pixels in an image 640 pixels wide."""


def draw_faces(
    image: Image, faces: Sequence[FaceScore], *, title: Sequence[str] = (), letters: float = LETTERS
) -> Image:
    """Return a copy with a box, number and score for each face, in the colour of its score in this frame.

    Args:
        image: RGB.
        faces: Faces of this frame.
        title: Lines for the upper left corner, shrunk if too long.
        letters: Size of the numbers and scores; 0 leaves them out.
    """
    marked = image.copy()
    unit = max(max(image.shape[:2]) / 640, 0.5)
    thickness = max(round(2 * unit), 1)
    for face in faces:
        x1, y1, x2, y2 = (round(value) for value in face.box)
        colour = colour_of(face.verdict)
        cv2.rectangle(marked, (x1, y1), (x2, y2), colour, thickness)
        if letters:
            label = f"{face.track + 1}: {show_score(face.score)}"
            _write(marked, label, (x1, y1), colour, size=letters * unit, thickness=thickness)
    bottom = 0
    for line in title:
        size = min(0.6 * unit, 0.6 * unit * image.shape[1] / _measure(line, 0.6 * unit, thickness))
        bottom = _write(marked, line, (0, bottom), _INK, size=size, thickness=thickness, is_below=True)
    return np.asarray(marked, dtype=np.uint8)


def _measure(text: str, size: float, thickness: int) -> int:
    """Return the width of a label in pixels."""
    (width, _), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    return int(width + 2 * max(base // 2, 2))


def _write(
    image: Image,
    text: str,
    corner: tuple[int, int],
    colour: Colour,
    *,
    size: float,
    thickness: int,
    is_below: bool = False,
) -> int:
    """Write on a filled label above or below a corner, moved if necessary so that it stays inside the image.

    Returns:
        Lower edge of the label.
    """
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    pad = max(base // 2, 2)
    left = min(max(corner[0], 0), max(image.shape[1] - width - 2 * pad, 0))
    bottom = max(corner[1] + is_below * (height + 2 * pad), height + 2 * pad)
    cv2.rectangle(image, (left, bottom - height - 2 * pad), (left + width + 2 * pad, bottom), colour, -1)
    place = (left + pad, bottom - pad)
    cv2.putText(
        image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), max(thickness // 2, 1), cv2.LINE_AA
    )
    return int(bottom)


def spread_map(activation_map: Array, *, size: int) -> npt.NDArray[np.float32]:
    """Return a map as large as the crop, from 0 (no evidence for fake) to 1 (most evidence).

    Args:
        activation_map: Shape `(h, w)`.
        size: Side of the crop in pixels.
    """
    positive = np.maximum(activation_map, 0).astype(np.float32)  # as in Grad-CAM, evidence for real is dropped
    peak = float(positive.max())
    large = cv2.resize(positive / peak if peak > 0 else positive, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(large, 0, 1), np.float32)


def list_heat_colours(count: int) -> list[str]:
    """Return the colours of `draw_heat` from 0 to 1, in hexadecimal.

    Args:
        count: Number of points, at least 2.
    """
    steps = np.linspace(0, 255, count).round().astype(np.uint8)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in _colour(steps[:, None])[:, 0].tolist()]


def draw_heat(crop: Image, activation_map: Array, *, opacity: float = 0.5) -> Image:
    """Lay a map over a crop, in colours from blue to red.

    Args:
        crop: Square.
        activation_map: Activation map of the crop, shape `(h, w)`.
        opacity: Opacity of the colours, from 0 to 1.
    """
    heat = (spread_map(activation_map, size=crop.shape[0]) * 255).astype(np.uint8)
    return np.asarray(cv2.addWeighted(_colour(heat), opacity, crop, 1 - opacity, 0), dtype=np.uint8)


def _colour(heat: npt.NDArray[np.uint8]) -> Image:
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(heat, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB), np.uint8)


def draw_face_heat(image: Image, face: FaceScore, spec: CropSpec, *, opacity: float = 0.5) -> Image | None:
    """Cut a face out of its frame and lay its map over it; None if the network has no maps.

    Args:
        image: The frame.
        face: Face predicted in the frame.
        spec: Crop spec.
        opacity: Opacity of the colours, from 0 to 1.
    """
    if face.activation_map is None:
        return None
    return draw_heat(cut_shown(image, face.face, spec), face.activation_map, opacity=opacity)


def write_annotated(
    path: Path, prediction: Prediction, *, max_pixels: int = MAX_PIXELS, tell: Callable[[str], None] = logger.warning
) -> Path:
    """Write a video with its faces marked in every frame, its sound kept; faces move between examined frames.

    Args:
        path: Its suffix is replaced by `.mp4`, or `.mkv` where MP4 cannot hold the sound.
        prediction: Prediction of a video.
        max_pixels: Maximum number of pixels of a frame, as in the prediction.
        tell: Function that receives a warning about lost sound.

    Returns:
        The file.

    Raises:
        MediaError: The video cannot be read once more, or FFmpeg cannot write what was made of it.
    """
    source = Path(prediction.path)
    return write_with_sound(path, _annotate(source, prediction, max_pixels=max_pixels), source=source, tell=tell)


def _annotate(source: Path, prediction: Prediction, *, max_pixels: int) -> Iterator[Frame]:
    times = [frame.time_seconds for frame in prediction.frames]
    title = entitle(prediction)
    with name_failures(source):
        index = index_video(source, max_pixels=max_pixels)
    for frame in name_failures_of(read_indexed(index, range(index.info.num_frames)), source):
        position = bisect_right(times, frame.time_seconds)
        before = prediction.frames[max(position - 1, 0)]
        after = prediction.frames[min(position, len(times) - 1)]
        faces = _between(before, after, frame.time_seconds)
        yield replace(frame, image=draw_faces(frame.image, faces, title=title))


def _between(before: FrameResult, after: FrameResult, seconds: float) -> list[FaceScore]:
    """Interpolate the faces of an examined frame and the next one, for a moment between the two.

    A face that the next one does not have stays in place; one that the next alone has comes with it, not before. Its
    score, and so its colour, is that of the frame examined last.
    """
    span = after.time_seconds - before.time_seconds
    share = min(max((seconds - before.time_seconds) / span, 0.0), 1.0) if span > 0 else 0.0
    later = {face.track: face for face in after.faces}
    return [_move(face, later.get(face.track, face), share) for face in before.faces]


def _move(first: FaceScore, last: FaceScore, share: float) -> FaceScore:
    x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(first.box, last.box, strict=True))
    box: Box = (x1, y1, x2, y2)
    return replace(first, box=box)
