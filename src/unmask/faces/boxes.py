"""Areas, overlaps and suppression of boxes."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from unmask.types import Box, Face

Floats = npt.NDArray[np.float64]


def box_area(box: Box) -> float:
    """Return the area of a box in square pixels, 0 where it is inside out."""
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Sort faces by area, largest first, ties from left to right, so that the order never depends on the detector's."""
    return sorted(faces, key=lambda face: (-box_area(face.box), face.box))


def overlaps(box: Floats, others: Floats) -> Floats:
    """Return the intersection over union of one box with many.

    Args:
        box: x1, y1, x2, y2, shape `(4,)`.
        others: Shape `(N, 4)`.
    """
    corner = np.maximum(box[:2], others[:, :2])
    sides = np.clip(np.minimum(box[2:], others[:, 2:]) - corner, 0.0, None)
    shared = sides[:, 0] * sides[:, 1]
    areas = np.prod(np.clip(others[:, 2:] - others[:, :2], 0.0, None), axis=1)
    union = float(np.prod(np.clip(box[2:] - box[:2], 0.0, None))) + areas - shared
    shares: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return shares


def suppress(boxes: Floats, scores: Floats, *, iou: float) -> npt.NDArray[np.intp]:
    """Keep the best of the boxes that overlap (greedy non-maximum suppression).

    Args:
        boxes: Shape `(N, 4)`.
        scores: Shape `(N,)`.
        iou: Boxes that overlap a better one by more than this are dropped.

    Returns:
        Indices of the boxes kept, best first.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[overlaps(boxes[best], boxes[order]) <= iou]
    return np.array(kept, dtype=np.intp)
