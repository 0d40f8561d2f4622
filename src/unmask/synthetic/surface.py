"""The head as a curved surface: where a point of the face lands in the frame, and the way back."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from unmask.synthetic.identity import Identity
from unmask.synthetic.pose import Pose

_GRID = 8
"""The way back is worked out for every eighth pixel and interpolated: it is smooth."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """A head in a frame.

    Args:
        identity: Gives the relief.
        pose: Gives the turn and the place.
        size: Side of the frame in pixels.
    """

    identity: Identity
    pose: Pose
    size: int

    @property
    def unit(self) -> float:
        """Pixels of a head unit."""
        return self.identity.scale * self.pose.zoom * self.size

    @property
    def centre(self) -> tuple[float, float]:
        """Pixel of the head's middle."""
        unit = self.identity.scale * self.size
        return self.size * 0.5 + self.pose.shift_x * unit, self.size * 0.5 + self.pose.shift_y * unit

    def project(self, points: Floats) -> Floats:
        """Return the pixels of points of the flat face, shape `(N, 2)`."""
        x, y = points.T
        z = depth(self.identity, x, y)
        x = x * np.cos(self.pose.yaw) + z * np.sin(self.pose.yaw)
        y = y * np.cos(self.pose.pitch) + z * np.sin(self.pose.pitch)
        turned = np.stack([x, y], axis=1) @ _turn(-self.pose.roll)
        return np.asarray(turned * self.unit + self.centre)

    def trace_back(self, left: int, top: int, width: int, height: int) -> tuple[Floats, Floats]:
        """Return for every pixel of a rectangle the point of the flat face, as x and y of shape `(height, width)`."""
        columns, rows = np.ceil(width / _GRID).astype(int), np.ceil(height / _GRID).astype(int)
        across = left + (np.arange(columns) + 0.5) * (width / columns)
        down = top + (np.arange(rows) + 0.5) * (height / rows)
        pixels = np.stack(np.meshgrid(across, down), axis=-1) - self.centre
        target = pixels @ _turn(self.pose.roll) / self.unit
        x, y = target[..., 0], target[..., 1]
        for _ in range(3):  # converges fast: the relief is flat against the angles
            z = depth(self.identity, x, y)
            x = (target[..., 0] - z * np.sin(self.pose.yaw)) / np.cos(self.pose.yaw)
            y = (target[..., 1] - z * np.sin(self.pose.pitch)) / np.cos(self.pose.pitch)
        return tuple(cv2.resize(axis, (width, height), interpolation=cv2.INTER_LINEAR) for axis in (x, y))


def depth(identity: Identity, x: Floats, y: Floats) -> Floats:
    """Return the relief of the head: a dome with a nose, in head units towards the viewer."""
    dome = 0.75 - 0.55 * x**2 - 0.25 * y**2
    nose = 0.16 * np.exp(-((x / 0.15) ** 2) - ((y - identity.nose_y) / 0.16) ** 2)
    return np.asarray(dome + nose)


def _turn(angle: float) -> Floats:
    """Return the matrix that turns row vectors counter-clockwise as seen on the screen, where y points down."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
