"""Mark faces in a picture."""

from collections.abc import Sequence

import cv2
import numpy as np

from unmask.inference.results import FaceResult
from unmask.types import Picture, Verdict

COLOURS = {Verdict.REAL: (15, 138, 109), Verdict.FAKE: (214, 69, 61), Verdict.UNCERTAIN: (202, 138, 4)}
"""RGB."""


def draw_faces(image: Picture, faces: Sequence[FaceResult], *, title: str = "") -> Picture:
    """Return a copy with a box, number and score for each face, in the colour of its verdict.

    Args:
        image: RGB.
        faces: To mark.
        title: Written in the upper left corner.
    """
    marked = image.copy()
    unit = max(max(image.shape[:2]) / 640, 0.5)
    thickness = max(round(2 * unit), 1)
    for face in faces:
        x1, y1, x2, y2 = (round(value) for value in face.box)
        colour = COLOURS[face.verdict]
        cv2.rectangle(marked, (x1, y1), (x2, y2), colour, thickness)
        _write(marked, f"{face.track}: {face.score:.2f}", (x1, y1), colour, size=0.55 * unit, thickness=thickness)
    if title:
        _write(marked, title, (0, 0), (40, 40, 40), size=0.7 * unit, thickness=thickness)
    return np.asarray(marked, dtype=np.uint8)


def _write(
    image: Picture, text: str, corner: tuple[int, int], colour: tuple[int, int, int], *, size: float, thickness: int
) -> None:
    """Write on a filled label above a corner, moved into the picture where it would leave it."""
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    pad = max(base // 2, 2)
    left = min(max(corner[0], 0), max(image.shape[1] - width - 2 * pad, 0))
    bottom = max(corner[1], height + 2 * pad)
    cv2.rectangle(image, (left, bottom - height - 2 * pad), (left + width + 2 * pad, bottom), colour, -1)
    place = (left + pad, bottom - pad)
    cv2.putText(
        image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), max(thickness // 2, 1), cv2.LINE_AA
    )
