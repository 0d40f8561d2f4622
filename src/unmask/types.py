"""Types shared by all packages: images, frames, faces, videos, labels and verdicts."""

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
"""Method of a real video."""

SPLITS = ("train", "val", "test")


class Label(IntEnum):
    """Class label; the only definition of 0 and 1."""

    REAL = 0
    FAKE = 1


class MediaKind(StrEnum):
    """Kind of a media file."""

    IMAGE = "image"
    VIDEO = "video"
    FRAMES = "frames"  # a video stored as a folder with one image per frame


class Outcome(StrEnum):
    """Result of preparing a video that the source lists."""

    OK = "ok"
    NO_FACE = "no_face"
    DECODE_ERROR = "decode_error"
    MISSING = "missing"


class Verdict(StrEnum):
    """Verdict on a face, an image or a video."""

    REAL = "real"
    FAKE = "fake"
    UNCERTAIN = "uncertain"
    NO_FACE = "no_face"


@dataclass(frozen=True)
class Frame:
    """One still of a video, or an image (index 0, time 0).

    Args:
        image: RGB image.
        index: Index in its video, from 0.
        time_seconds: Presentation time in seconds.
    """

    image: Image
    index: int
    time_seconds: float


@dataclass(frozen=True)
class Face:
    """A detection in a frame.

    Args:
        box: x1, y1, x2, y2 in pixels; may extend beyond the frame.
        landmarks: Left eye, right eye, nose, left and right mouth corner as the viewer sees them, in pixels; None
            from a detector that finds boxes only.
        confidence: Detector confidence in [0, 1].
    """

    box: Box
    landmarks: tuple[Point, ...] | None
    confidence: float


@dataclass(frozen=True)
class Video:
    """One media file or folder of frames of a source, with its metadata.

    Args:
        video_id: ID unique across all sources: dataset, method, compression and name.
        path: Expected location of the file or folder.
        label: Real or fake.
        method: Forgery method; `original` for real videos.
        kind: Image, video or folder of frames.
        compression: Compression level of the layout (`c23`), or "".
        identities: People whose faces appear in or went into the video.
        original: `video_id` of the video it was forged from, if known.
        split: `train`, `val` or `test` if the source defines it.
        frames: Frame files in order if the source lists them; if empty, the images in the folder `path`.
        mask: Video whose frames are white where those of this video are forged, if the source has one.
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
    mask: Path | None = None

    @property
    def is_there(self) -> bool:
        """Whether the file, the folder, or at least one listed frame exists."""
        return any(frame.exists() for frame in self.frames) if self.frames else self.path.exists()
