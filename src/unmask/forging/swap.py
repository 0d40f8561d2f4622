"""Forge faces: four pixel operations named after the families of manipulation that they imitate.

They take any two frames and their five landmarks, drawn or photographed. What betrays the results is what betrays
their namesakes: seams, colours that do not fit, a decoder's low resolution, the texture of its upsampling. None of them
learns anything, and none is as good as its namesake.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from unmask.types import Array, Image, Point

Matrix = npt.NDArray[np.float64]
"""Affine transform of column vectors, shape `(2, 3)`."""

MEAN_FACE: tuple[Point, ...] = ((-0.3, -0.07), (0.3, -0.07), (0.0, 0.27), (-0.245, 0.57), (0.245, 0.57))
"""Where the landmarks of an average face lie, in head units: ears at x = -0.7 and 0.7, crown at y = -1, chin at 1."""

_STIFFNESS = 0.1
"""Weight of the similarity: five points in a face seen from the side lie nearly on a line and would shear it wildly."""


def fit_affine(source: Sequence[Point], target: Sequence[Point]) -> Matrix:
    """Return the affine transform that takes one set of landmarks to another with the least squared error.

    It is drawn towards the best similarity (Umeyama, "Least-squares estimation of transformation parameters between two
    point patterns", 1991), the more so where the points do not determine an affine one.

    Args:
        source: Points.
        target: As many points.
    """
    here, there = np.asarray(source, float), np.asarray(target, float)
    x, y = here - here.mean(axis=0), there - there.mean(axis=0)
    spread = float((x**2).sum())
    real, imaginary = float((x * y).sum()) / spread, float((x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]).sum()) / spread
    similarity = np.array([[real, imaginary], [-imaginary, real]])
    ridge = _STIFFNESS * spread * np.eye(2)
    linear = np.linalg.solve(x.T @ x + ridge, x.T @ y + ridge @ similarity).T
    return np.column_stack([linear, there.mean(axis=0) - linear @ here.mean(axis=0)])


def apply_affine(matrix: Matrix, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the images of points of shape `(N, 2)`."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


Points = npt.NDArray[np.float64]

_WIDTH, _CHIN = 0.66, 0.95
_BROWS, _FOREHEAD = 0.36, 0.75
"""How far the outline reaches from the eye line of an average face, in head units (see `MEAN_FACE`)."""


def fit_outline(
    landmarks: npt.NDArray[np.floating[Any]], *, with_forehead: bool = True, num_points: int = 48
) -> Points:
    """Return the convex outline of a face as a polygon of shape `(num_points, 2)`, in the unit of the landmarks.

    It stands for the hull of 81 landmarks, or without the forehead for that of the common 68, which end at the brows.

    Args:
        landmarks: Left eye, right eye, nose, left and right corner of the mouth as the viewer sees them.
        with_forehead: Up to the hair, or to the brows only.
        num_points: Corners of the polygon.
    """
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    x, y = np.cos(angles), np.sin(angles)
    top = _FOREHEAD if with_forehead else _BROWS
    # A power below 1 makes a fuller shape than an ellipse; jaws are narrower than that, brows flatter.
    upper = np.sign(y) * np.abs(y) ** 0.8 * top
    hull = np.stack([np.sign(x) * np.abs(x) ** 0.9 * _WIDTH, np.where(y > 0, y * _CHIN, upper)], axis=1)
    points = [(float(x), float(y)) for x, y in landmarks]
    return apply_affine(fit_affine(MEAN_FACE, points), hull)


def order_landmarks(landmarks: Points) -> Points:
    """Return landmarks with left and right exchanged where the image was mirrored."""
    across, down = landmarks[1] - landmarks[0], landmarks[3] + landmarks[4] - landmarks[0] - landmarks[1]
    if across[0] * down[1] - across[1] * down[0] < 0:
        return landmarks[[1, 0, 2, 4, 3]]
    return landmarks


Floats = npt.NDArray[np.float32]

_SOFT, _HARD = 0.06, 0.025
"""Width of a seam in head units: learned masks are soft, rendered ones hard."""

_COLOUR_TRANSFER = 0.6
"""Share of the difference in colour that the transfer makes up for."""

_CODE_SIDE = 32
"""Side of the face that the Deepfakes autoencoder reproduces, in its own pixels."""

_RENDERED_SIDE = 48
"""Side of the region that the Face2Face renderer draws, in the pixels of its face model's texture."""

_DECODED_SIDE = 40
"""Side of the mouth region that the NeuralTextures decoder writes, in its own pixels."""

_CHECKERBOARD = 0.07
"""Gain by which a transposed convolution favours the pixels it covers twice."""


@dataclass(frozen=True)
class Portrait:
    """A frame and the five landmarks of the face in it.

    Args:
        image: RGB image.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth as the viewer sees them, in pixels.
    """

    image: Image
    landmarks: Sequence[Point]


@dataclass(frozen=True)
class Forgery:
    """A forged frame.

    Args:
        image: RGB image.
        mask: How much of every pixel is forged, 0 to 255, uint8 of shape `(height, width)`.
    """

    image: Image
    mask: Array


Forger = Callable[[Portrait, Portrait], Forgery]


def swap_face(target: Portrait, donor: Portrait) -> Forgery:
    """Lay the donor's face over the target's, as FaceSwap does: warped, in its colours, with a feathered hull."""
    patch = _Patch.around(target, [_face_hull()], feather=_HARD)
    return patch.blend(patch.match_colours(patch.warp(donor)))


def swap_face_decoded(target: Portrait, donor: Portrait) -> Forgery:
    """Swap through a bottleneck, as Deepfakes does: an autoencoder gives the donor's face back small and smooth."""
    patch = _Patch.around(target, [_face_hull()], feather=_SOFT)
    return patch.blend(patch.match_colours(_coarsen(patch.warp(donor), side=_CODE_SIDE)))


def transfer_expression(target: Portrait, donor: Portrait) -> Forgery:
    """Give the target the donor's eyes and mouth, as Face2Face does with an expression."""
    eyes = [_ellipse((side * 0.3, -0.07), (0.2, 0.13)) for side in (-1, 1)]
    patch = _Patch.around(target, [*eyes, _mouth_hull()], feather=_HARD)
    return patch.blend(patch.match_colours(_coarsen(patch.warp(donor), side=_RENDERED_SIDE)))


def resynthesise_mouth(target: Portrait, donor: Portrait) -> Forgery:
    """Write the target's mouth region anew with the donor's movement, as NeuralTextures does with a decoder."""
    patch = _Patch.around(target, [_mouth_hull()], feather=_SOFT)
    return patch.blend(_decode(patch.match_colours(patch.warp(donor))))


FORGERS: Mapping[str, Forger] = {
    "Deepfakes": swap_face_decoded,
    "Face2Face": transfer_expression,
    "FaceSwap": swap_face,
    "NeuralTextures": resynthesise_mouth,
}
"""The forging function of every method."""


@dataclass(frozen=True)
class _Patch:
    """The part of the target's frame that is forged.

    Args:
        target: The whole frame.
        left: First column.
        top: First row.
        weight: Share of the forged face, float32 in 0..1, of the patch's shape.
    """

    target: Portrait
    left: int
    top: int
    weight: Floats

    @classmethod
    def around(cls, target: Portrait, hulls: Sequence[npt.NDArray[np.float64]], *, feather: float) -> Self:
        """Find the patch that holds polygons given in head units, and feather them."""
        fit = fit_affine(MEAN_FACE, target.landmarks)
        unit = float(np.sqrt(abs(np.linalg.det(fit[:, :2]))))
        polygons = [apply_affine(fit, hull) for hull in hulls]
        corners, margin = np.concatenate(polygons), 2 * feather * unit + 1
        height, width = target.image.shape[:2]
        left, top = (max(0, int(axis)) for axis in corners.min(axis=0) - margin)
        right, bottom = np.minimum(corners.max(axis=0) + margin + 1, (width, height)).astype(int)
        weight = np.zeros((max(1, bottom - top), max(1, right - left)), np.uint8)
        for polygon in polygons:
            fixed = np.round((polygon - (left, top) - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(weight, [fixed], 255, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(weight, (0, 0), max(feather * unit / 2, 0.5))
        return cls(target, left, top, soft.astype(np.float32) / 255)

    @property
    def _window(self) -> tuple[slice, slice]:
        height, width = self.weight.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def warp(self, donor: Portrait) -> Image:
        """Return the donor's face where the target's is, of the patch's size."""
        matrix: Matrix = fit_affine(donor.landmarks, self.target.landmarks)
        matrix[:, 2] -= (self.left, self.top)
        height, width = self.weight.shape
        face = cv2.warpAffine(
            donor.image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(face, np.uint8)

    def match_colours(self, face: Image) -> Image:
        """Move a face towards the target's mean and contrast in every channel.

        After Reinhard et al., "Color transfer between images" (2001), in RGB and not all the way.
        """
        core = (self.weight > 0.5).astype(np.uint8)
        mean, deviation = (values.ravel() for values in cv2.meanStdDev(face, mask=core))
        goal, goal_deviation = (values.ravel() for values in cv2.meanStdDev(self.target.image[self._window], mask=core))
        gain = 1 + _COLOUR_TRANSFER * (np.clip(goal_deviation / np.maximum(deviation, 1), 0.6, 1.6) - 1)
        wanted = mean + _COLOUR_TRANSFER * (goal - mean)
        values = np.arange(256)[:, None]
        table = np.clip((values - mean) * gain + wanted, 0, 255).round().astype(np.uint8)
        return np.asarray(cv2.LUT(face, table[None]), np.uint8)

    def blend(self, face: Image) -> Forgery:
        """Lay a face of the patch's size into the frame."""
        image = self.target.image.copy()
        below = np.ascontiguousarray(image[self._window])
        image[self._window] = cv2.blendLinear(face, below, self.weight, 1 - self.weight)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[self._window] = np.round(self.weight * 255)
        return Forgery(image, mask)


def _coarsen(face: Image, *, side: int) -> Image:
    """Take an image through a smaller one whose longer side is given."""
    height, width = face.shape[:2]
    share = side / max(height, width)
    small = max(1, round(width * share)), max(1, round(height * share))
    code = cv2.resize(face, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(code, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _decode(face: Image) -> Image:
    """Write an image as a decoder does whose last layers are transposed convolutions of stride 2 and kernel 3.

    Such a layer covers every other pixel twice, and training evens this out only in part (Odena et al.,
    "Deconvolution and Checkerboard Artifacts", 2016).
    """
    height, width = face.shape[:2]
    share = _DECODED_SIDE / max(height, width)
    columns, rows = (max(4, round(side * share) // 4 * 4) for side in (width, height))
    code = cv2.resize(face, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    written = cv2.resize(code, (columns, rows), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    phase = np.indices((rows, columns))
    for stride in (1, 2):
        twice = (phase // stride % 2).sum(axis=0) - 1
        written *= (1 + _CHECKERBOARD * twice)[..., None]
    shown = cv2.resize(written, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(shown, 0, 255), np.uint8)


def _face_hull() -> npt.NDArray[np.float64]:
    """From above the brows to the chin, inside the outline."""
    return _ellipse((0, 0.24), (0.58, 0.62), power=0.85)


def _mouth_hull() -> npt.NDArray[np.float64]:
    return _ellipse((0, 0.6), (0.38, 0.24))


def _ellipse(centre: tuple[float, float], radii: tuple[float, float], *, power: float = 1.0) -> npt.NDArray[np.float64]:
    """Return an ellipse, or with a power below 1 a fuller shape, as a polygon in head units."""
    angles = np.linspace(0, 2 * np.pi, 41)[:-1]
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(np.sign(circle) * np.abs(circle) ** power * radii + centre)
