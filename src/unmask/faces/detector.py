"""What a face detector offers, and what all of them do before they look."""

from collections.abc import Sequence
from typing import Protocol

import cv2

from unmask.parameters import check_whole
from unmask.types import Face, Picture

MOST = 1_000_000
"""The largest value of a detector's option that a `CropSpec` takes; told here by the option's own key."""


class Detector(Protocol):
    """Finds faces. Constructors only check and store, so that a detector can be sent to processes before it loads."""

    @property
    def name(self) -> str:
        """The name of its config, `detector=<name>`."""
        ...

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of its weights; part of the preprocessing spec."""
        ...

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Return the faces of each picture, largest area first.

        Boxes and landmarks are in pixels of the picture as given, and boxes are not clipped to it. A picture's faces do
        not depend on the pictures beside it.
        """
        ...


def no_detector() -> None:
    """Stand in for a detector where pictures are crops already (`detector=none`)."""


def check_max_side(max_side: int) -> None:
    """Raise unless pictures of this longer side can hold a face.

    Raises:
        ValueError: They cannot.
    """
    check_whole("max_side", max_side, least=16, most=MOST)


def shrink(image: Picture, *, max_side: int) -> tuple[Picture, tuple[float, float]]:
    """Shrink a picture until its longer side fits; never enlarge it.

    Args:
        image: RGB picture.
        max_side: Longest side in pixels.

    Returns:
        The picture, and the width and height of the original over its own.
    """
    height, width = image.shape[:2]
    ratio = max_side / max(height, width)
    if ratio >= 1:
        return image, (1.0, 1.0)
    size = max(round(width * ratio), 1), max(round(height * ratio), 1)
    small: Picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small, (width / size[0], height / size[1])
