"""The pixels of what a caller gives as a picture: a file, or an array."""

from pathlib import Path

import numpy as np

from unmask.errors import MediaError
from unmask.inference.limits import Limits
from unmask.media.picture import Still, read_still
from unmask.types import Picture


def take_picture(image: str | Path | Picture, *, name: str, limits: Limits) -> Still:
    """Read a picture file, or check that an array is a picture.

    Args:
        image: A file, or RGB pixels: uint8 of shape `(height, width, 3)`.
        name: What messages call it.
        limits: A file with more pixels, or that asks for more work, is refused.

    Raises:
        MediaError: It is no picture.
    """
    if not isinstance(image, np.ndarray):
        return read_still(Path(image), name=name, max_pixels=limits.max_pixels, bounds=limits.bounds)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        called = f" '{name}'" if name else ""
        raise MediaError(
            f"The array{called} of {image.dtype} and shape {image.shape} is no picture. Give RGB pixels: uint8 "
            f"of shape (height, width, 3)."
        )
    return Still(image)
