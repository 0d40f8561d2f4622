"""Mark faces in an image."""

from collections.abc import Sequence

import cv2
import numpy as np

from unmask.decision import show_score
from unmask.inference.colours import Colour, colour_of
from unmask.inference.results import FaceScore
from unmask.types import Picture

_INK: Colour = (40, 40, 40)

LETTERS = 0.55
"""Size of the numbers and scores where not asked for otherwise: about 12 pixels in an image 640 pixels wide."""


def draw_faces(
    image: Picture, faces: Sequence[FaceScore], *, title: Sequence[str] = (), letters: float = LETTERS
) -> Picture:
    """Return a copy with a box, number and score for each face, in the colour of its score in this frame.

    Args:
        image: RGB.
        faces: Those of this frame.
        title: Lines for the upper left corner, shrunk where they would be too long.
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
    """Return how wide a label is, in pixels."""
    (width, _), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    return int(width + 2 * max(base // 2, 2))


def _write(
    image: Picture,
    text: str,
    corner: tuple[int, int],
    colour: Colour,
    *,
    size: float,
    thickness: int,
    is_below: bool = False,
) -> int:
    """Write on a filled label above or below a corner, moved into the image where it would leave it.

    Returns:
        Where the label ends.
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
