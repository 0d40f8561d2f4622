"""Fit faces onto each other by their five landmarks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unmask.types import Point

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
