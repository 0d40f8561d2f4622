"""Show where a face looks fake: its map over its crop."""

import cv2
import numpy as np
import numpy.typing as npt

from unmask.faces.crop import cut_shown
from unmask.faces.spec import CropSpec
from unmask.inference.results import FaceScore
from unmask.types import Array, Picture


def spread_map(activation_map: Array, *, size: int) -> npt.NDArray[np.float32]:
    """Return a map as large as the crop, 0 where nothing speaks for fake, 1 where most does.

    Args:
        activation_map: Shape `(h, w)`.
        size: Side of the crop in pixels.
    """
    positive = np.maximum(activation_map, 0).astype(np.float32)  # as Grad-CAM: what speaks for real is left out
    peak = float(positive.max())
    large = cv2.resize(positive / peak if peak > 0 else positive, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(large, 0, 1), np.float32)


def list_heat_colours(count: int) -> list[str]:
    """Return the colours of `draw_heat` from 0 to 1, as a page writes them.

    Args:
        count: How many, at least 2.
    """
    steps = np.linspace(0, 255, count).round().astype(np.uint8)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in _colour(steps[:, None])[:, 0].tolist()]


def draw_heat(crop: Picture, activation_map: Array, *, opacity: float = 0.5) -> Picture:
    """Lay a map over a crop, in colours from blue to red.

    Args:
        crop: Square.
        activation_map: Of the crop, shape `(h, w)`.
        opacity: Of the colours, from 0 to 1.
    """
    heat = (spread_map(activation_map, size=crop.shape[0]) * 255).astype(np.uint8)
    return np.asarray(cv2.addWeighted(_colour(heat), opacity, crop, 1 - opacity, 0), dtype=np.uint8)


def _colour(heat: npt.NDArray[np.uint8]) -> Picture:
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(heat, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB), np.uint8)


def draw_face_heat(image: Picture, face: FaceScore, spec: CropSpec, *, opacity: float = 0.5) -> Picture | None:
    """Cut a face out of its frame and lay its map over it; None from a network without maps.

    Args:
        image: The frame.
        face: As predicted in it.
        spec: How crops are made.
        opacity: Of the colours, from 0 to 1.
    """
    if face.activation_map is None:
        return None
    return draw_heat(cut_shown(image, face.face, spec), face.activation_map, opacity=opacity)
