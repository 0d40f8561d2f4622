"""The rows of the tables, of what became of each video."""

from collections.abc import Sequence

import pandas as pd

from unmask.data.prepare_video import VideoRecord
from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS
from unmask.types import Video


def build_tables(
    videos: Sequence[Video], records: Sequence[VideoRecord], groups: Sequence[int], splits: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row for every video and a row for every crop.

    Args:
        videos: Of the source.
        records: Of each video.
        groups: Of each video.
        splits: Of each video.
    """
    video_rows, face_rows = [], []
    for video, record, group, split in zip(videos, records, groups, splits, strict=True):
        row = {
            "video_id": video.video_id, "path": str(video.path), "kind": str(video.kind), "label": int(video.label),
            "method": video.method, "compression": video.compression, "identities": list(video.identities),
            "original": video.original, "group": group, "split": split, "outcome": str(record.outcome),
            "message": record.message, "frames": record.frames, "faces": len(record.crops), "fps": record.fps,
            "width": record.width, "height": record.height, "codec": record.codec,
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
