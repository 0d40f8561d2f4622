"""OpenCV's cascade of Haar features: needs no weights beyond OpenCV's own, and finds fewer faces than the others."""

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
        scale_factor: Step between the sizes searched; nearer to 1 is slower and finds more.
        min_neighbors: Hits that must agree on a face; more of them means fewer false alarms.
        min_size: Side of the smallest face, in pixels of the shrunk image; the cascade itself ends at 24.
        max_side: Images are shrunk until their longer side has this many pixels; they are never enlarged.
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
            # Work is spread over processes; and with threads the cascade returns its hits in any order.
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
        """Squash the number of agreeing hits into [0, 1): 0.5 at the least that is accepted. It is no probability."""
        return hits / (hits + max(self.min_neighbors, 1))


def _scaled(box: Array, scale_x: float, scale_y: float) -> Box:
    x, y, width, height = box.tolist()
    return x * scale_x, y * scale_y, (x + width) * scale_x, (y + height) * scale_y


def _cascade_file() -> Path:
    path = Path(cv2.__file__).parent / "data" / _FILE_NAME
    if not path.is_file():
        raise DetectorError(
            f"OpenCV {cv2.__version__} ships no '{_FILE_NAME}' in '{path.parent}'. "
            f"Install one that does: uv pip install 'opencv-python-headless<5'"
        )
    return path
