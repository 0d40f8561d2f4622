"""Whether an image is a scene rather than a face crop, for models that take images whole (`detector=none`)."""

from collections.abc import Sequence

import cv2
import numpy as np

from unmask.errors import DetectorError
from unmask.faces.detector import Detector
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet, has_mobilenet_weights
from unmask.types import Face, Picture

_SIDE, _BORDER = 240, 40
"""Images are brought to this longer side, enlarged too, with a border: a face is found even where it fills the crop."""

_MAX_ASPECT = 1.6
"""Longer over shorter side. Crops are square, and portraits of public datasets at most 3:2."""

_LEAST = 100
"""In an image whose longer side has fewer pixels a face may escape the detector, and its shape alone tells."""

_MIN_SHARE = 1 / 3
"""Of the image's longer side that a face takes. In a crop of margin 1.3 it takes 0.77, in FFHQ's portraits 0.5."""

_RIVAL = 0.6
"""A second face of this share of the first one's side is a second subject, a smaller one somebody in the background."""


class SceneCheck:
    """Tells scenes from face crops by their shape, and by the small RetinaFace where its weights are on this machine.

    Nothing is fetched for it: without the weights, or with damaged ones, the shape alone tells.

    Args:
        detector: None for that RetinaFace.
    """

    def __init__(self, detector: Detector | None = None) -> None:
        self._detector = detector
        self._is_open = detector is not None

    def explain(self, image: Picture) -> str | None:
        """Say why an image looks like a scene; None where it looks like a face crop.

        Args:
            image: RGB pixels.
        """
        height, width = image.shape[:2]
        if max(height, width) > _MAX_ASPECT * min(height, width):
            return f"it has {width} x {height} pixels, far from square"
        faces = self._find(image) if max(height, width) >= _LEAST else None
        if faces is None:
            return None
        if not faces:
            return "no face is found in it"
        sides = [max(face.box[2] - face.box[0], face.box[3] - face.box[1]) for face in faces]
        rivals = sum(side >= _RIVAL * max(sides) for side in sides)
        if rivals > 1:
            return f"{rivals} faces of like size are found in it"
        share = max(sides) / _SIDE
        return f"its face takes {share:.0%} of its longer side" if share < _MIN_SHARE else None

    def _find(self, image: Picture) -> list[Face] | None:
        if not self._is_open:
            self._is_open = True
            self._detector = RetinaFaceMobileNet() if has_mobilenet_weights() else None
        if self._detector is None:
            return None
        scale = _SIDE / max(image.shape[:2])
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        framed = np.pad(small, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), constant_values=128)
        try:
            return self._detector.detect([framed])[0]
        except DetectorError:
            self._detector = None
            return None


def note_scene(reasons: Sequence[str | None], *, is_video: bool) -> list[str]:
    """Say that a model which takes images whole was given a scene.

    Args:
        reasons: Of `SceneCheck.explain`, for the image, or for the frames of a video that were checked.
        is_video: Whether they are of a video.
    """
    found = [reason for reason in reasons if reason is not None]
    if 2 * len(found) <= len(reasons):
        return []
    where = f"{len(found)} of the {len(reasons)} frames checked look" if is_video else "this one looks"
    return [
        f"The model takes images whole, as it was trained (detector=none), and {where} like a scene rather than a face "
        f"crop: {found[0]}. If its training images were crops, the score says little: cut the face out first, or use "
        f"a model that was trained with a detector."
    ]
