"""The values that cross from one part to another."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""RGB image, shape `(height, width, 3)`, values 0 to 255."""

Array = npt.NDArray[Any]

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the frame."""

Point = tuple[float, float]
"""x, y in pixels of the frame."""

ORIGINAL = "original"
"""The method of a video that nobody forged."""


class Label(IntEnum):
    """The only place where 0 and 1 get their meaning."""

    REAL = 0
    FAKE = 1


class MediaKind(StrEnum):
    """What a media file holds."""

    IMAGE = "image"
    VIDEO = "video"
    FRAMES = "frames"  # a video as a folder with an image for each frame


class Outcome(StrEnum):
    """What became of a video that the source promised."""

    OK = "ok"
    NO_FACE = "no_face"
    DECODE_ERROR = "decode_error"
    MISSING = "missing"


class Verdict(StrEnum):
    """What is said of a face, an image or a video."""

    REAL = "real"
    FAKE = "fake"
    UNCERTAIN = "uncertain"
    NO_FACE = "no_face"


@dataclass(frozen=True)
class Frame:
    """One still of a video, or an image (index 0, time 0).

    Args:
        image: RGB image.
        index: Position among the frames of its video, from 0.
        time_seconds: Presentation time.
    """

    image: Image
    index: int
    time_seconds: float


@dataclass(frozen=True)
class Face:
    """A detection in a frame.

    Args:
        box: x1, y1, x2, y2 in pixels; may reach beyond the frame.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth as the viewer sees them, in pixels;
            None from a detector that finds boxes only.
        confidence: Of the detector, in [0, 1].
    """

    box: Box
    landmarks: tuple[Point, ...] | None
    confidence: float


@dataclass(frozen=True)
class Video:
    """One media file, or folder of frames, that a source promises, with what is known of it.

    Args:
        video_id: Unique over all sources: dataset, method, compression and name.
        path: Where the file or folder should lie.
        label: Real or fake.
        method: How it was forged; `original` for real.
        kind: Image, video or folder of frames.
        compression: The compression of the layout (`c23`), or "".
        identities: Everyone whose face went into it.
        original: `video_id` of the video it was forged from, where known.
        split: `train`, `val` or `test` where the source says so.
        frames: Its images in order, where the source lists them; otherwise those in the folder `path` are its frames.
    """

    video_id: str
    path: Path
    label: Label
    method: str
    kind: MediaKind = MediaKind.VIDEO
    compression: str = ""
    identities: tuple[str, ...] = ()
    original: str | None = None
    split: str | None = None
    frames: tuple[Path, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether its file, its folder of frames, or one of the frames that are listed exists."""
        return any(frame.exists() for frame in self.frames) if self.frames else self.path.exists()
