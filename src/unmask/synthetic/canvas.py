"""Draw anti-aliased shapes in head units, at sub-pixel positions."""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from unmask.types import Array

_SHIFT = 4
"""Fractional bits of OpenCV's fixed-point coordinates: motion is smooth to a sixteenth of a pixel."""

Points = npt.NDArray[np.float64]
"""Points in head units, shape `(N, 2)`."""


@dataclass(frozen=True)
class Canvas:
    """An image with a coordinate system in head units.

    Args:
        image: uint8, of one or three channels; drawn upon in place.
        unit: Pixels of a head unit.
        origin: Pixel of the point (0, 0) as x, y.
    """

    image: Array
    unit: float
    origin: tuple[float, float]

    def mask(self) -> Self:
        """Return an empty canvas of one channel with the same coordinates."""
        return type(self)(np.zeros(self.image.shape[:2], np.uint8), self.unit, self.origin)

    def cut(self, centre: tuple[float, float], reach: tuple[float, float]) -> Self:
        """Return the part around a point as a canvas that shares its pixels."""
        x, y = (axis * self.unit + start for axis, start in zip(centre, self.origin, strict=True))
        width, height = (axis * self.unit + 2 for axis in reach)
        left, top = max(0, int(x - width)), max(0, int(y - height))
        part = self.image[top : int(y + height) + 1, left : int(x + width) + 1]
        return type(self)(part, self.unit, (self.origin[0] - left, self.origin[1] - top))

    def polygon(self, points: Points, colour: float | tuple[float, ...] = 255) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.image, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(
        self, points: Points, colour: float | tuple[float, ...] = 255, *, width: float, closed: bool = False
    ) -> None:
        """Draw a line through points, at least one pixel wide."""
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.image, [self._fixed(points)], closed, colour, thickness, cv2.LINE_AA, _SHIFT)

    def strands(self, lines: list[Points], colour: float | tuple[float, ...]) -> None:
        """Draw many thin lines of one colour."""
        cv2.polylines(self.image, [self._fixed(line) for line in lines], False, colour, 1, cv2.LINE_AA, _SHIFT)

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], colour: float | tuple[float, ...] = 255
    ) -> None:
        """Fill an upright ellipse."""
        x, y = self._fixed(np.array([centre]))[0]
        axes = tuple(round(radius * self.unit * (1 << _SHIFT)) for radius in radii)
        cv2.ellipse(self.image, (int(x), int(y)), axes, 0, 0, 360, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def _fixed(self, points: Points) -> npt.NDArray[np.int32]:
        # OpenCV counts from pixel centres.
        pixels = points * self.unit + self.origin - 0.5
        return np.round(pixels * (1 << _SHIFT)).astype(np.int32)
