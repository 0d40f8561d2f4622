"""Face boxes: area, overlap, non-maximum suppression, and the decoding of RetinaFace outputs.

Both RetinaFace networks use the same anchors and output encoding (Deng et al., RetinaFace: Single-stage Dense Face
Localisation in the Wild, https://arxiv.org/abs/1905.00641). Boxes are encoded as in SSD,
https://arxiv.org/abs/1512.02325.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmask.parameters import check_number
from unmask.types import Array, Box, Face

Floats = npt.NDArray[np.float64]

_SIZES_BY_STRIDE = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2


def box_area(box: Box) -> float:
    """Return the area of a box in square pixels, 0 if it is inverted."""
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def move_face(face: Face, *, scale: tuple[float, float] = (1.0, 1.0), shift: tuple[float, float] = (0.0, 0.0)) -> Face:
    """Scale a face, then shift it: box and landmarks.

    Args:
        face: Face in pixels of a part of an image, or of a smaller image.
        scale: Factors of x and y.
        shift: Pixels along x and y.
    """

    def place(x: float, y: float) -> tuple[float, float]:
        return x * scale[0] + shift[0], y * scale[1] + shift[1]

    x1, y1, x2, y2 = face.box
    landmarks = None if face.landmarks is None else tuple(place(x, y) for x, y in face.landmarks)
    return Face(box=(*place(x1, y1), *place(x2, y2)), landmarks=landmarks, confidence=face.confidence)


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Sort faces by area, largest first, and ties from left to right, independent of the detector's order."""
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
    """Keep the best of overlapping boxes (greedy non-maximum suppression).

    Args:
        boxes: Boxes, shape `(N, 4)`.
        scores: Score of each box, shape `(N,)`.
        iou: Intersection over union with a better box above which a box is dropped.

    Returns:
        Indices of the boxes kept, best first.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T)
    areas = np.maximum(x2 - x1, 0.0) * np.maximum(y2 - y1, 0.0)
    left = np.arange(len(order))
    kept: list[int] = []
    while left.size:
        best, left = int(left[0]), left[1:]
        kept.append(int(order[best]))
        widths = np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left])
        heights = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left])
        shared = np.maximum(widths, 0.0) * np.maximum(heights, 0.0)
        unions = areas[best] + areas[left] - shared
        left = left[np.divide(shared, unions, out=np.zeros_like(shared), where=unions > 0) <= iou]
    return np.array(kept, dtype=np.intp)


@dataclass(frozen=True)
class RawFaces:
    """Outputs of a RetinaFace network for one image, one row per anchor.

    Args:
        offsets: Offsets of centre and size, shape `(N, 4)`.
        scores: Probability of a face, shape `(N,)`.
        points: Offsets of the five landmarks, shape `(N, 10)`.
    """

    offsets: Array
    scores: Array
    points: Array


def make_anchors(*, height: int, width: int) -> Floats:
    """Return centre x, centre y and side in pixels of every anchor, shape `(N, 3)`, in the networks' order.

    Args:
        height: Height of the network's input in pixels.
        width: Width of the network's input in pixels.
    """
    return np.concatenate([_level(height, width, stride, sizes) for stride, sizes in _SIZES_BY_STRIDE.items()])


def _level(height: int, width: int, stride: int, sizes: tuple[int, ...]) -> Floats:
    rows, columns = -(-height // stride), -(-width // stride)
    y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), np.array(sizes, dtype=np.float64), indexing="ij")
    return np.stack([(x + 0.5) * stride, (y + 0.5) * stride, side], axis=-1).reshape(-1, 3)


def check_thresholds(*, confidence: float, nms_iou: float) -> None:
    """Check that both thresholds of `decode_faces` are in [0, 1].

    Raises:
        ValueError: A threshold is out of range.
    """
    check_number("confidence", confidence, least=0, most=1)
    check_number("nms_iou", nms_iou, least=0, most=1)


def decode_faces(
    raw: RawFaces, anchors: Floats, *, confidence: float, nms_iou: float, scale: tuple[float, float]
) -> list[Face]:
    """Decode a network's output to faces, largest first; boxes are not clipped to the image.

    Args:
        raw: Output of the network for one image.
        anchors: Result of `make_anchors` for the network's input size.
        confidence: Minimum confidence.
        nms_iou: Intersection over union above which the less confident of two faces is dropped.
        scale: Width and height of the original image divided by those of the network's input.
    """
    chosen = np.flatnonzero(raw.scores > confidence)
    scores = raw.scores[chosen].astype(np.float64)
    centres, sides = anchors[chosen, :2], anchors[chosen, 2:]
    offsets, points = raw.offsets[chosen].astype(np.float64), raw.points[chosen].astype(np.float64).reshape(-1, 5, 2)
    middles = centres + offsets[:, :2] * _CENTRE_VARIANCE * sides
    halves = sides * np.exp(offsets[:, 2:] * _SIZE_VARIANCE) / 2
    factor = np.array(scale, dtype=np.float64)
    boxes = np.concatenate([(middles - halves) * factor, (middles + halves) * factor], axis=1)
    landmarks = (centres[:, None] + points * _CENTRE_VARIANCE * sides[:, None]) * factor
    kept = suppress(boxes, scores, iou=nms_iou)
    return largest_first(_face(boxes[i], landmarks[i], float(scores[i])) for i in kept)


def _face(box: Floats, landmarks: Floats, confidence: float) -> Face:
    x1, y1, x2, y2 = box.tolist()
    return Face(box=(x1, y1, x2, y2), landmarks=tuple((x, y) for x, y in landmarks.tolist()), confidence=confidence)
