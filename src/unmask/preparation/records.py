"""What prepare records of each video, and the tables made of that."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS
from unmask.errors import DatasetError, list_problems
from unmask.types import Outcome, Video


@dataclass(frozen=True)
class CropRow:
    """A crop of a video: the columns of `faces.parquet` that are specific to the crop."""

    crop: str
    frame_index: int
    time_seconds: float
    track: int
    box: tuple[float, ...]
    landmarks: tuple[tuple[float, ...], ...] | None
    confidence: float


@dataclass(frozen=True)
class VideoRecord:
    """The result of preparing one video.

    Args:
        video_id: ID of the video.
        outcome: `ok` if the video has crops, otherwise the reason why not.
        message: Error text, notes on content that was approximated or omitted, or "".
        frames: Number of frames searched for faces.
        fps: Frame rate in frames per second; 0 for an image or a folder of frames.
        width: Width in pixels.
        height: Height in pixels.
        codec: FFmpeg codec name, or the file extension of an image or frame.
        crops: One crop per frame with a face.
    """

    video_id: str
    outcome: Outcome
    message: str = ""
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    codec: str = ""
    crops: tuple[CropRow, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for one line of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VideoRecord":
        """Rebuild a record from `to_dict`."""
        crops = tuple(CropRow(**crop) for crop in values["crops"])
        return cls(**{**values, "outcome": Outcome(values["outcome"]), "crops": crops})


def build_tables(
    videos: Sequence[Video], records: Sequence[VideoRecord], groups: Sequence[int], splits: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the tables of videos and of crops.

    Args:
        videos: Videos of the source.
        records: Record of each video.
        groups: Group of each video.
        splits: Split of each video.
    """
    video_rows, face_rows = [], []
    for video, record, group, split in zip(videos, records, groups, splits, strict=True):
        row = {
            "video_id": video.video_id, "path": str(video.path), "kind": str(video.kind), "label": int(video.label),
            "method": video.method, "compression": video.compression, "identities": list(video.identities),
            "original": video.original, "group": group, "split": split, "outcome": str(record.outcome),
            "message": record.message, "frames": record.frames, "faces": len(record.crops), "fps": record.fps,
            "width": record.width, "height": record.height, "codec": record.codec,
            "mask": None if video.mask is None else str(video.mask),
        }  # fmt: skip
        video_rows.append(row)
        face_rows += [
            {
                "crop": crop.crop, "video_id": video.video_id, "frame_index": crop.frame_index,
                "time_seconds": crop.time_seconds, "track": crop.track, "box": list(crop.box),
                "landmarks": None if crop.landmarks is None else [value for point in crop.landmarks for value in point],
                "confidence": crop.confidence, "label": int(video.label), "method": video.method, "split": split,
            }
            for crop in record.crops
        ]  # fmt: skip
    return pd.DataFrame(video_rows, columns=list(VIDEO_COLUMNS)), pd.DataFrame(face_rows, columns=list(FACE_COLUMNS))


def check_usable(records: Sequence[VideoRecord], *, source: str) -> None:
    """Raise a DatasetError unless a video has crops."""
    if any(record.outcome == Outcome.OK for record in records):
        return
    problems = (f"{record.video_id}: {record.outcome}: {record.message}" for record in records)
    raise DatasetError(
        f"None of the {len(records)} videos of source '{source}' can be used:\n{list_problems(problems)}"
    )
