"""A detector: another of the cascades that OpenCV ships."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from unmask.types import Face

Image = npt.NDArray[np.uint8]


class AlternativeCascade:
    """Find frontal faces with OpenCV's `haarcascade_frontalface_alt2`, without landmarks.

    Args:
        min_size: Side of the smallest face in pixels.
    """

    name = "alternative_cascade"

    def __init__(self, *, min_size: int = 40) -> None:
        self.min_size = min_size
        self._file = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
        self._cascade: Any = None

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the cascade: prediction refuses to run with another one."""
        return hashlib.sha256(self._file.read_bytes()).hexdigest()

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each RGB image, largest first."""
        return [self._detect_one(image) for image in images]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cascade": None}  # a cascade cannot be sent to another process

    def _detect_one(self, image: Image) -> list[Face]:
        if self._cascade is None:
            cv2.setNumThreads(1)
            self._cascade = cv2.CascadeClassifier(str(self._file))
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes = self._cascade.detectMultiScale(gray, minSize=(self.min_size, self.min_size))
        found = [Face((float(x), float(y), float(x + w), float(y + h)), None, 1.0) for x, y, w, h in boxes]
        return sorted(found, key=lambda face: face.box[2] - face.box[0], reverse=True)
