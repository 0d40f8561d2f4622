"""Read and write a face dataset: crops with `dataset.json`, `videos.parquet` and `faces.parquet`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.errors import DatasetError, suggest
from unmask.faces.spec import CropSpec
from unmask.forgeries import SourceRecord, read_sources
from unmask.paths import expand_home, show_command, write_bytes, writing
from unmask.types import Label, MediaKind

SPLITS = ("train", "val", "test")

VIDEO_COLUMNS = (
    "video_id", "path", "kind", "label", "method", "compression", "identities", "original", "group", "split", "outcome",
    "message", "frames", "faces", "fps", "width", "height", "codec",
)  # fmt: skip
FACE_COLUMNS = (
    "crop", "video_id", "frame_index", "time_seconds", "track", "box", "landmarks", "confidence", "label", "method",
    "split",
)  # fmt: skip

_FILES = ("dataset.json", "videos.parquet", "faces.parquet")


def _prepare(root: Path) -> str:
    return show_command("prepare.py", "source=...", f"output={root}")


@dataclass(frozen=True)
class FaceDataset:
    """A face dataset on disk, as `prepare` writes it.

    Args:
        root: Folder of the dataset. Crop paths are relative to it, or absolute for images indexed in place.
        info: Content of `dataset.json`.
        videos: One row per video that the source lists; columns `VIDEO_COLUMNS`.
        faces: One row per crop; columns `FACE_COLUMNS`.
    """

    root: Path
    info: dict[str, Any]
    videos: pd.DataFrame
    faces: pd.DataFrame

    @classmethod
    def load(cls, root: str | Path) -> "FaceDataset":
        """Read the tables of a face dataset.

        Raises:
            DatasetError: Missing, unfinished or not a face dataset.
        """
        root = Path(expand_home(str(root)))
        if not root.is_dir():
            raise DatasetError(f"No such folder: dataset.root='{root}'. Create it with: {_prepare(root)}")
        missing = [name for name in _FILES if not (root / name).is_file()]
        if missing:
            raise DatasetError(
                f"'{root}' is not a face dataset: {', '.join(missing)} missing. "
                f"Create or finish it with: {_prepare(root)}"
            )
        try:
            info = json.loads((root / "dataset.json").read_text())
            CropSpec.from_dict(info["preprocessing"])
            videos, faces = (pd.read_parquet(root / name) for name in _FILES[1:])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DatasetError(
                f"The tables of the face dataset '{root}' cannot be read: {error}. "
                f"Write them again with: {_prepare(root)}"
            ) from error
        return cls(root, info, videos, faces)

    @property
    def name(self) -> str:
        """Name of the source."""
        return str(self.info["name"])

    @property
    def sources(self) -> tuple[SourceRecord, ...]:
        """Records of the source, or of all sources if several were mixed."""
        return read_sources(self.info)

    @cached_property
    def spec(self) -> CropSpec:
        """Settings that the crops were made with."""
        return CropSpec.from_dict(self.info["preprocessing"])

    @property
    def has_videos(self) -> bool:
        """Whether the dataset contains videos, so that video-level metrics are meaningful."""
        return bool(self.videos["kind"].isin((MediaKind.VIDEO, MediaKind.FRAMES)).any())

    def faces_of(self, split: str) -> pd.DataFrame:
        """Return the rows of a split's crops, indexed from 0.

        Raises:
            DatasetError: The split is unknown or empty.
        """
        if split not in SPLITS:
            meant = suggest(split, SPLITS, key="split")
            raise DatasetError(f"Unknown split '{split}'.{meant} Choose one of: {', '.join(SPLITS)}")
        rows = self.faces[self.faces["split"] == split].reset_index(drop=True)
        if rows.empty:
            counts = self.faces["split"].value_counts().to_dict()
            raise DatasetError(
                f"No face crops in '{self.root}' for split '{split}'; crops by split: {counts or 'none'}. "
                f"Create them with: {_prepare(self.root)}"
            )
        return rows

    def check_classes(self, split: str, *, only: Label | None = None) -> None:
        """Raise a DatasetError unless a split contains crops of both classes, or of the class `only`."""
        labels = self.faces_of(split)["label"]
        for label in Label if only is None else (only,):
            if not (labels == label).any():
                other = Label(1 - label).name.lower()
                instead = ", or train on real crops alone with augmentation=sbi" if label is Label.FAKE else ""
                raise DatasetError(
                    f"Split '{split}' of '{self.root}' has only one class: {len(labels)} {other} crops and no "
                    f"{label.name.lower()} crops. Add {label.name.lower()} media to the source and rerun prepare.py"
                    f"{instead}."
                )


def write_dataset(root: Path, *, info: Mapping[str, Any], videos: pd.DataFrame, faces: pd.DataFrame) -> None:
    """Write the three files atomically; if the disk is full, the previous ones remain.

    `dataset.json` is written last, so its presence marks a complete dataset.
    """
    contents = {
        "videos.parquet": videos.to_parquet(index=False),
        "faces.parquet": faces.to_parquet(index=False),
        "dataset.json": (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    news = {name: root / f".{name}.new" for name in contents}
    with writing(root):
        try:
            for name, content in contents.items():
                write_bytes(news[name], content)
            (root / "dataset.json").unlink(missing_ok=True)
            for name, new in news.items():
                new.replace(root / name)
        finally:
            for new in news.values():
                new.unlink(missing_ok=True)


def count_rows(videos: pd.DataFrame, faces: pd.DataFrame) -> dict[str, Any]:
    """Count videos by outcome, and crops by split, label and method."""
    by_label = faces.assign(label=faces["label"].map(lambda value: Label(value).name.lower()))
    return {
        "videos": videos["outcome"].value_counts().to_dict(),
        "faces": len(faces),
        "faces_by_split": {
            split: rows["label"].value_counts().to_dict() for split, rows in by_label.groupby("split", sort=True)
        },
        "faces_by_method": faces["method"].value_counts().to_dict(),
    }
