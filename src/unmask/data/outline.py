"""The outline of a face, fitted to its five landmarks."""

from typing import Any

import numpy as np
import numpy.typing as npt

from unmask.synthetic.alignment import MEAN_FACE, apply_affine, fit_affine

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
    """Return landmarks with left and right exchanged where the picture was mirrored."""
    across, down = landmarks[1] - landmarks[0], landmarks[3] + landmarks[4] - landmarks[0] - landmarks[1]
    if across[0] * down[1] - across[1] * down[0] < 0:
        return landmarks[[1, 0, 2, 4, 3]]
    return landmarks
