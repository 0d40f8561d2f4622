"""What prepare records of each video, the journal that keeps it, and the tables made of it."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS
from unmask.errors import ConfigError, DatasetError, list_problems, names_limit
from unmask.faces.spec import CropSpec
from unmask.paths import show_command, write_bytes, writing
from unmask.types import Label, MediaKind, Outcome, Video

JOURNAL_FILE = "prepare.jsonl"

MERGED_FILE = "prepare.json"
"""Note of the shards that a dataset was merged of; see `unmask.preparation.shards`."""

SHARD_FILES = "prepare.*-of-*.json*"
"""Pattern of the files in which shards record their settings and finished videos; see `unmask.preparation.shards`."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


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
        crops: Crops in order of time, one per frame and track.
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


def name_crop(video: Video, index: int, track: int, spec: CropSpec) -> str:
    """Return the path of a crop in its dataset."""
    return f"crops/{video.video_id}/{index:06d}_{track}{spec.suffix}"


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


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the videos of a source.

    Args:
        number: Number of the part, from 1.
        count: Number of parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a shard such as `2/5`.

        Raises:
            ConfigError: It has another form, or is not one of the parts.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), flags=re.ASCII)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(
                f"shard='{text}' is not a part of a whole. Write shard=2/5 for the second of five shards."
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """Name in the names of its files, such as `2-of-5`."""
        return f"{self.number}-of-{self.count}"

    def take(self, items: Sequence[T]) -> list[T]:
        """Return every `count`-th item: parts differ by one item at most, and each has its share of every method."""
        return list(items[self.number - 1 :: self.count])

    def take_videos(self, videos: Sequence[Video], spec: CropSpec) -> list[Video]:
        """Return the videos of the part; forgeries that reuse the boxes of an original are in the part of that one."""
        there = {video.video_id for video in videos}
        units = [
            str(video.original) if is_guided(video, spec) and video.original in there else video.video_id
            for video in videos
        ]
        taken = set(self.take(list(dict.fromkeys(units))))
        return [video for video, unit in zip(videos, units, strict=True) if unit in taken]


def is_guided(video: Video, spec: CropSpec) -> bool:
    """Return whether a video is a forgery of a known original whose boxes it should reuse."""
    return spec.boxes == "from_original" and video.label == Label.FAKE and video.original is not None


class Journal:
    """Journal of finished videos, one JSON line each, from which an interrupted run resumes.

    Args:
        path: Journal file, such as `<root>/prepare.jsonl`; need not exist.
        spec: Crop spec; records with another hash are ignored.
        videos: All videos, of which forgeries may reuse the boxes of others; a change of these counts as theirs.
        older: Journal of the same folder that is read first, but not written.
    """

    def __init__(self, path: Path, *, spec: CropSpec, videos: Sequence[Video] = (), older: Path | None = None) -> None:
        self.path = path
        self.spec = spec
        self.older = older
        self._videos = videos
        by_id = {video.video_id: video for video in videos}
        self._originals = {
            video.video_id: by_id[str(video.original)]
            for video in videos
            if is_guided(video, spec) and video.original in by_id
        }

    def read_finished(self) -> dict[str, VideoRecord]:
        """Return the records of all videos without those over a limit, and without forgeries of these, to try again."""
        records = self.read(self._videos)
        over = {name for name, record in records.items() if names_limit(record.message)}
        over |= {name for name, original in self._originals.items() if original.video_id in over}
        return {name: record for name, record in records.items() if name not in over}

    def read(self, videos: Sequence[Video]) -> dict[str, VideoRecord]:
        """Return the records, by `video_id`, of videos whose file and crop spec have not changed.

        Omits missing videos, so that they are retried, and skips a line truncated by an interruption.
        """
        wanted = {video.video_id: video for video in videos}
        records: dict[str, VideoRecord] = {}
        for entry in self._read_entries():
            video = wanted.get(entry["record"]["video_id"])
            if video is None:
                continue
            records.pop(video.video_id, None)  # the crops on disk belong to the last line, whatever its key
            if entry["key"] == self._key(video):
                records[video.video_id] = VideoRecord.from_dict(entry["record"])
        return {name: record for name, record in records.items() if record.outcome != Outcome.MISSING}

    def check_spec(self) -> None:
        """Raise a DatasetError if the journal records crops made with another spec, which shards cannot replace."""
        if any(entry["key"][0] != self.spec.hash for entry in self._read_entries()):
            raise DatasetError(
                f"'{self.path.parent}' has crops made with other settings, as '{self.path}' records. Choose another "
                f"output, or delete that file to replace the crops."
            )

    def _read_entries(self) -> Iterator[dict[str, Any]]:
        for path in (self.older, self.path):
            if path is None or not path.is_file():
                continue
            for line in path.read_text().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    logger.warning("Skipped a truncated line of '%s'; its video will be processed again.", path)

    def has_changed(self, video: Video) -> bool:
        """Return whether the file of a finished video exists but has changed since."""
        return self.path.is_file() and video.is_there and video.video_id not in self.read([video])

    def append(self, video: Video, record: VideoRecord) -> None:
        """Append a finished video to the file, unbuffered.

        Raises:
            OutputError: The disk is full, or the folder is not writable.
        """
        line = self._write_line(video, record)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                size = file.tell()
                if size:
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line  # after a truncated line
                content = line.encode()
                try:
                    while content:
                        content = content[file.write(content) :]
                except OSError:
                    file.truncate(size)  # drop what a full disk accepted of the line
                    raise

    def rewrite(self, videos: Sequence[Video], records: Mapping[str, VideoRecord]) -> None:
        """Replace the file with one line per video, atomically."""
        lines = (self._write_line(video, records[video.video_id]) for video in videos)
        write_bytes(self.path, "".join(lines).encode())

    def _write_line(self, video: Video, record: VideoRecord) -> str:
        return json.dumps({"key": self._key(video), "record": record.to_dict()}) + "\n"

    def _key(self, video: Video) -> list[Any]:
        key = [self.spec.hash, *(_stamp(video.path) if video.is_there else [str(video.path), 0, 0])]
        if video.mask is not None and video.mask.exists() and video.is_there:
            key += _stamp(video.mask)
        original = self._originals.get(video.video_id)
        if original is not None:
            key += _stamp(original.path) if original.is_there else [str(original.path), 0, 0]
        return key


def _stamp(path: Path) -> list[Any]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def start_anew(root: Path) -> None:
    """Forget the shards that a dataset was merged of; raise a DatasetError if it has some that are not merged yet."""
    names = [path.name for path in sorted(root.glob(SHARD_FILES))]
    if names:
        raise DatasetError(
            f"'{root}' has shards that are not merged yet:\n{list_problems(names)}\nMerge them with: "
            f"{show_command('prepare.py', 'task=merge', f'output={root}')} - or choose another output, or delete these "
            f"files to prepare their videos again."
        )
    (root / MERGED_FILE).unlink(missing_ok=True)


def read_video(row: Mapping[Any, Any]) -> Video:
    """Rebuild a video from its row of `videos.parquet`; which frames of a folder are its own is not recorded."""
    identities = row["identities"] if row["identities"] is not None else ()
    return Video(
        video_id=row["video_id"], path=Path(row["path"]), label=Label(int(row["label"])), method=row["method"],
        kind=MediaKind(row["kind"]), compression=row["compression"] or "", identities=tuple(identities),
        original=row["original"], split=row["split"],
        mask=Path(row["mask"]) if isinstance(row.get("mask"), str) else None,  # older tables have no such column
    )  # fmt: skip


def read_record(row: Mapping[Any, Any], faces: pd.DataFrame) -> VideoRecord:
    """Rebuild a record from the row of its video and those of its crops."""
    names = [field.name for field in fields(VideoRecord) if field.name in row and field.name not in ("crops", "faces")]
    values = {name: _to_plain(row[name]) for name in names}
    crops = tuple(read_crop(face) for face in faces.to_dict("records"))
    return VideoRecord(**{**values, "outcome": Outcome(values["outcome"]), "crops": crops})


def read_crop(face: Mapping[Any, Any]) -> CropRow:
    """Rebuild a crop row from its row of `faces.parquet`."""
    values = {field.name: _to_plain(face[field.name]) for field in fields(CropRow) if field.name in face}
    flat = values["landmarks"]
    values["landmarks"] = None if flat is None else tuple(zip(flat[::2], flat[1::2], strict=True))
    return CropRow(**{**values, "box": tuple(values["box"])})


def _to_plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
