"""OpenCV's Haar cascade: needs no download, but finds fewer faces than the other detectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from unmask.errors import DetectorError
from unmask.faces.boxes import largest_first
from unmask.faces.detector import MOST, check_max_side, shrink
from unmask.parameters import check_number, check_whole
from unmask.paths import hash_file
from unmask.types import Array, Box, Face, Image

_FILE_NAME = "haarcascade_frontalface_default.xml"


class HaarCascade:
    """Find frontal faces, without landmarks (Viola and Jones, 2001).

    Args:
        scale_factor: Ratio between consecutive search sizes; closer to 1 is slower and finds more faces.
        min_neighbors: Minimum number of overlapping hits per face; higher means fewer false alarms.
        min_size: Minimum side of a face, in pixels of the downscaled image; the cascade itself stops at 24.
        max_side: Maximum longer side in pixels; larger images are downscaled before detection.
    """

    name = "haar"

    def __init__(
        self, *, scale_factor: float = 1.1, min_neighbors: int = 5, min_size: int = 30, max_side: int = 640
    ) -> None:
        check_number("scale_factor", scale_factor, least=1.01, most=10)
        check_whole("min_neighbors", min_neighbors, least=0, most=MOST)
        check_whole("min_size", min_size, least=1, most=MOST)
        check_max_side(max_side)
        self.scale_factor = scale_factor
        self.min_neighbors = min_neighbors
        self.min_size = min_size
        self.max_side = max_side
        self._cascade: Any = None

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the cascade file that OpenCV ships."""
        return hash_file(_cascade_file())

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, largest area first."""
        return [self._detect_one(image) for image in images]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cascade": None}

    def _detect_one(self, image: Image) -> list[Face]:
        if self._cascade is None:
            # Processes run in parallel instead, and with threads the order of hits would be random.
            cv2.setNumThreads(1)
            self._cascade = cv2.CascadeClassifier(str(_cascade_file()))
        small, (scale_x, scale_y) = shrink(image, max_side=self.max_side)
        boxes, hits = self._cascade.detectMultiScale2(
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
            scaleFactor=self.scale_factor,
            minNeighbors=self.min_neighbors,
            minSize=(self.min_size, self.min_size),
        )
        return largest_first(
            Face(
                box=_scaled(box, scale_x, scale_y),
                landmarks=None,
                confidence=self._confidence(int(number)),
            )
            for box, number in zip(boxes, hits, strict=True)
        )

    def _confidence(self, hits: int) -> float:
        """Map the number of hits to [0, 1), with 0.5 for the minimum accepted; this is not a probability."""
        return hits / (hits + max(self.min_neighbors, 1))


def _scaled(box: Array, scale_x: float, scale_y: float) -> Box:
    x, y, width, height = box.tolist()
    return x * scale_x, y * scale_y, (x + width) * scale_x, (y + height) * scale_y


def _cascade_file() -> Path:
    path = Path(cv2.__file__).parent / "data" / _FILE_NAME
    if not path.is_file():
        raise DetectorError(
            f"OpenCV {cv2.__version__} does not include '{_FILE_NAME}' in '{path.parent}'. "
            f"Install a version that does: uv pip install 'opencv-python-headless<5'"
        )
    return path
