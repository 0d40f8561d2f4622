"""What a face looks like, in a form small enough to keep for every face of a video: 1.3 kB.

Texture: histograms of local binary patterns in the cells of the aligned face (Ahonen, Hadid and Pietikainen, "Face
description with local binary patterns", PAMI 2006), with an offset against noise (Heikkila and Pietikainen, PAMI 2006).
Colour: histograms in HSV of the face, and of the face with its surroundings, as in colour-based tracking (Perez et al.,
ECCV 2002). Both are compared by the Bhattacharyya distance. No weights, about half a millisecond a face.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from unmask.types import Face, Picture

Appearance = npt.NDArray[np.float16]
"""Square roots of the histograms, one after another: texture, colours of the face, colours with the surroundings."""

_SIDE, _CELLS, _CODES = 48, 3, 59
_WIDE, _WIDE_SIDE = 2.0, 112
"""The surroundings reach as far as a square twice as wide as the face, seen in so many pixels."""

_TEXTURE = slice(0, _CELLS * _CELLS * _CODES)
_COLOURS = slice(_TEXTURE.stop, _TEXTURE.stop + 56)
_SURROUNDINGS = slice(_COLOURS.stop, _COLOURS.stop + 56)

_COLOUR_WEIGHT = 0.2
"""Of the colours of a face beside its texture: they tell people apart well, and change with the light."""

_COLOUR_LIMIT = 0.6
"""Light hardly changes colours more than this: what is beyond counts ten times as much."""

_PLACES = np.array([[0.32, 0.36], [0.68, 0.36], [0.36, 0.78], [0.64, 0.78]]) * _SIDE
"""Where eyes and corners of the mouth come to lie."""

_USUAL_PLACES = np.array([[0.271, 0.391], [0.723, 0.385], [0.310, 0.741], [0.695, 0.736]])
"""Where they lie in a box on average, for detectors without landmarks: measured with RetinaFace on 120 photographs."""

_OFFSET = 3
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def describe_faces(image: Picture, faces: Sequence[Face]) -> list[Appearance | None]:
    """Describe faces while their frame is at hand.

    Args:
        image: The frame.
        faces: Detections in it.

    Returns:
        The appearance of each; None where less than two pixels of it lie in the frame.
    """
    return [_describe(image, face) for face in faces]


def face_distances(some: Sequence[Appearance], others: Sequence[Appearance]) -> npt.NDArray[np.float64]:
    """Return how unlike each of some faces is to each of others, 0 to 2; see `unmask.faces.track` for what is alike.

    Args:
        some: `N` appearances.
        others: `M` appearances.

    Returns:
        Shape `(N, M)`.
    """
    first, second = np.asarray(some, np.float32), np.asarray(others, np.float32)
    colours = _bhattacharyya(first, second, _COLOURS)
    colours += 9 * np.clip(colours - _COLOUR_LIMIT, 0, None)
    return _bhattacharyya(first, second, _TEXTURE) + _COLOUR_WEIGHT * colours


def surroundings_distances(some: Sequence[Appearance], others: Sequence[Appearance]) -> npt.NDArray[np.float64]:
    """Return how unlike faces with their surroundings are in colour, 0 to 1, shape `(N, M)`."""
    return _bhattacharyya(np.asarray(some, np.float32), np.asarray(others, np.float32), _SURROUNDINGS)


def _bhattacharyya(
    some: npt.NDArray[np.float32], others: npt.NDArray[np.float32], part: slice
) -> npt.NDArray[np.float64]:
    alike = some[:, part].astype(np.float64) @ others[:, part].astype(np.float64).T
    return np.asarray(np.sqrt(np.clip(1 - alike, 0, None)))


def _describe(image: Picture, face: Face) -> Appearance | None:
    x1, y1, x2, y2 = face.box
    half = max(x2 - x1, y2 - y1) * _WIDE / 2
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(middle - half), 0, None).astype(int)
    right, bottom = np.ceil(np.minimum(middle + half, (width, height))).astype(int)
    if right - left < 2 or bottom - top < 2:
        return None
    step = max(max(right - left, bottom - top) // _WIDE_SIDE, 1)  # averaging all pixels would take four times as long
    wide = image[top:bottom:step, left:right:step]
    shrink = min(_WIDE_SIDE / max(wide.shape[:2]), 1.0)
    size = max(round(wide.shape[1] * shrink), 2), max(round(wide.shape[0] * shrink), 2)
    wide = np.asarray(cv2.resize(wide, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    scale = np.array(size) / (right - left, bottom - top)
    corner = np.array([left, top])
    inner_left, inner_top = np.clip(np.floor((np.array([x1, y1]) - corner) * scale), 0, np.array(size) - 1).astype(int)
    inner_right, inner_bottom = np.ceil((np.array([x2, y2]) - corner) * scale).astype(int)
    inner = wide[inner_top : max(inner_bottom, inner_top + 1), inner_left : max(inner_right, inner_left + 1)]
    texture = _texture(_align(wide, (_points(face) - corner) * scale))
    parts = [texture, _colours(inner), _colours(wide)]
    return np.sqrt(np.concatenate(parts)).astype(np.float16)


def _points(face: Face) -> npt.NDArray[np.float64]:
    if face.landmarks is not None:
        points = np.asarray(face.landmarks, np.float64)[[0, 1, 3, 4]]
        if np.ptp(points, axis=0).min() > 1:
            return points
    x1, y1, x2, y2 = face.box
    return np.array([x1, y1]) + _USUAL_PLACES * (x2 - x1, y2 - y1)


def _align(wide: Picture, points: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Bring a face upright to one size, by the similarity that fits its points best (Umeyama, PAMI 1991)."""
    centre, goal = points.mean(axis=0), _PLACES.mean(axis=0)
    start, end = points - centre, _PLACES - goal
    size = max(float((start**2).sum()), 1e-6)
    along = float((start * end).sum()) / size
    across = float((start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]).sum()) / size
    turn = np.array([[along, -across], [across, along]])
    matrix = np.c_[turn, goal - turn @ centre]
    grey = cv2.cvtColor(wide, cv2.COLOR_RGB2GRAY)
    face = cv2.warpAffine(grey, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.GaussianBlur(face, (0, 0), 0.8), np.uint8)


def _texture(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the share of each uniform pattern in each cell, 1 over all cells."""
    least = np.maximum(face[1:-1, 1:-1], _OFFSET) - _OFFSET
    codes = np.zeros(least.shape, np.uint8)
    for bit, (down, right) in enumerate(_NEIGHBOURS):
        neighbour = face[1 + down : _SIDE - 1 + down, 1 + right : _SIDE - 1 + right]
        codes |= (neighbour >= least).astype(np.uint8) << bit
    cells = np.arange(_SIDE - 2) * _CELLS // (_SIDE - 2)
    places = (cells[:, None] * _CELLS + cells[None, :]) * _CODES + _UNIFORM[codes]
    counts = np.bincount(places.ravel(), minlength=_CELLS * _CELLS * _CODES)
    return np.asarray(counts / counts.sum())


def _list_uniform() -> npt.NDArray[np.intp]:
    """Number the patterns with at most two changes between 0 and 1 around the circle; all others share the last."""
    turned = [(code >> 1) | (code & 1) << 7 for code in range(256)]
    uniform = [code for code in range(256) if (code ^ turned[code]).bit_count() <= 2]
    numbers = np.full(256, len(uniform), np.intp)
    numbers[uniform] = np.arange(len(uniform))
    return numbers


_UNIFORM = _list_uniform()


def _colours(part: Picture) -> npt.NDArray[np.float64]:
    """Return a histogram of hue and saturation beside one of value, 1 in all."""
    hsv = cv2.cvtColor(part, cv2.COLOR_RGB2HSV)
    hues = cv2.calcHist([hsv], [0, 1], None, [12, 4], [0, 180, 0, 256]).ravel()
    values = cv2.calcHist([hsv], [2], None, [8], [0, 256]).ravel()
    return np.asarray(np.concatenate([0.6 * hues, 0.4 * values]) / (part.shape[0] * part.shape[1]), np.float64)
