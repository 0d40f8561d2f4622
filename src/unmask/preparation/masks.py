"""Find the forged face of a video by its mask, which is white where the frames are forged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unmask.errors import MediaError
from unmask.media.image import MAX_PIXELS
from unmask.media.video import index_video, read_indexed
from unmask.types import Box, Face

_WHITE = 64
"""Value from which a pixel counts as forged: masks are compressed videos, so that black is not quite 0."""


@dataclass(frozen=True)
class Forged:
    """How much of each face a mask marks as forged.

    Args:
        weights: Overlap of each face with the mask in [0, 1], by frame index; None if the mask tells nothing.
        note: Sentence on a mask that tells nothing or that no face overlaps, or "".
    """

    weights: dict[int, list[float]] | None
    note: str = ""


def weigh_by_mask(
    mask: Path, faces: Mapping[int, Sequence[Face]], *, size: tuple[int, int], max_pixels: int = MAX_PIXELS
) -> Forged:
    """Measure the overlap of faces with the mask of their frame: intersection over union of box and white pixels.

    Frames after the end of a shorter mask have an overlap of 0.

    Args:
        mask: Video of masks, of any frame size.
        faces: Faces by frame index.
        size: Width and height of the frames that the faces were found in.
        max_pixels: Maximum number of pixels of a mask.

    Raises:
        MediaError: The file is missing.
    """
    if not mask.exists():
        raise MediaError(f"No such mask: '{mask}'. It decides which face is the forged one; put it back.")
    weights = {index: [0.0] * len(found) for index, found in faces.items()}
    num_marked = 0
    try:
        index = index_video(mask, max_pixels=max_pixels)
        for frame in read_indexed(index, [place for place in sorted(faces) if place < index.info.num_frames]):
            is_forged = frame.image.max(axis=2) >= _WHITE
            num_marked += bool(is_forged.any())
            weights[frame.index] = [_overlap(is_forged, face.box, size) for face in faces[frame.index]]
    except MediaError as error:
        return Forged(None, f"The largest face was taken, since its mask cannot be read: {error}")
    if not num_marked:
        return Forged(None, f"The largest face was taken, since its mask '{mask}' is black.")
    has_overlap = any(value for values in weights.values() for value in values)
    return Forged(weights, "" if has_overlap else f"No face overlaps its mask '{mask}'.")


def _overlap(is_forged: npt.NDArray[np.bool_], box: Box, size: tuple[int, int]) -> float:
    """Return the intersection over union of the white pixels and a box in a frame of another size."""
    height, width = is_forged.shape
    x1, x2 = (round(x * width / size[0]) for x in (box[0], box[2]))
    y1, y2 = (round(y * height / size[1]) for y in (box[1], box[3]))
    shared = int(is_forged[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)].sum())
    union = int(is_forged.sum()) + max(x2 - x1, 0) * max(y2 - y1, 0) - shared
    return shared / union if union else 0.0
