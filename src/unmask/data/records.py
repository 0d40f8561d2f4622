"""The journal of an unfinished prepare: one JSON line per finished video, so that no video is worked on twice."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from unmask.data.prepare_video import VideoRecord
from unmask.types import Outcome, Video
from unmask.writing import writing

logger = logging.getLogger(__name__)


class Journal:
    """Remember finished videos in `<root>/prepare.jsonl`.

    Args:
        path: The file; need not exist.
        spec_hash: Of the crop spec: records made under another one are not used.
    """

    def __init__(self, path: Path, *, spec_hash: str) -> None:
        self.path = path
        self.spec_hash = spec_hash

    def read(self, videos: list[Video]) -> dict[str, VideoRecord]:
        """Return the records of videos whose file and crop spec are still the same, by `video_id`.

        Videos that were missing are tried again. A line cut off by an interruption is passed over.
        """
        if not self.path.is_file():
            return {}
        wanted = {video.video_id: video for video in videos}
        records: dict[str, VideoRecord] = {}
        for line in self.path.read_text().splitlines():
            try:
                entry: dict[str, Any] = json.loads(line)
            except ValueError:
                logger.warning("An unfinished line of '%s' is passed over; its video is done again.", self.path)
                continue
            video = wanted.get(entry["record"]["video_id"])
            if video is None:
                continue
            records.pop(video.video_id, None)  # whatever the key: the crops on disk are those of the last line
            if entry["key"] == self._key(video):
                records[video.video_id] = VideoRecord.from_dict(entry["record"])
        return {name: record for name, record in records.items() if record.outcome != Outcome.MISSING}

    def has_changed(self, video: Video) -> bool:
        """Tell whether the file of a finished video is there and is another one than it was."""
        return self.path.is_file() and video.is_there and video.video_id not in self.read([video])

    def append(self, video: Video, record: VideoRecord) -> None:
        """Add a finished video; the line is on disk when this returns.

        Raises:
            OutputError: The disk is full, or the folder cannot be written to.
        """
        line = json.dumps({"key": self._key(video), "record": record.to_dict()}) + "\n"
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                size = file.tell()
                if size:
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line  # behind one that was cut off
                content = line.encode()
                try:
                    while content:
                        content = content[file.write(content) :]
                except OSError:
                    file.truncate(size)  # a full disk takes part of it
                    raise

    def _key(self, video: Video) -> list[Any]:
        if not video.is_there:
            return [self.spec_hash, str(video.path), 0, 0]
        status = video.path.stat()
        return [self.spec_hash, str(video.path), status.st_size, status.st_mtime_ns]
