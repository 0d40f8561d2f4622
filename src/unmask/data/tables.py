"""Read and write a face dataset: crops with `dataset.json`, `videos.parquet` and `faces.parquet`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmask.data.groups import check_folds, connect, split_by_fold
from unmask.decision import count_needed
from unmask.errors import DatasetError, suggest
from unmask.faces.spec import CropSpec
from unmask.forgeries import SourceRecord, read_sources
from unmask.paths import expand_home, show_command, write_bytes, writing
from unmask.types import SPLITS, Label, MediaKind

VIDEO_COLUMNS = (
    "video_id", "path", "kind", "label", "method", "compression", "identities", "original", "group", "split", "outcome",
    "message", "frames", "faces", "fps", "width", "height", "codec", "mask",
)  # fmt: skip
FACE_COLUMNS = (
    "crop", "video_id", "frame_index", "time_seconds", "track", "box", "landmarks", "confidence", "label", "method",
    "split",
)  # fmt: skip

COPIES_FILE = "copies.csv"
"""Lists files with identical bytes."""

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
    def load(cls, root: str | Path, *, folds: int | None = None, fold: int = 0) -> "FaceDataset":
        """Read the tables of a face dataset.

        Args:
            root: Folder of the dataset.
            folds: Number of folds that replace the stored splits; None to keep these.
            fold: Fold that becomes test; the next one becomes val.

        Raises:
            ConfigError: `fold` is not one of `folds` folds.
            DatasetError: Missing, unfinished or not a face dataset, or with fewer groups than folds.
        """
        check_folds(folds, fold, key="dataset")
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
        dataset = cls(root, info, videos, faces)
        return dataset if folds is None else _split_again(dataset, folds=folds, fold=fold)

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> "FaceDataset":
        """Read the dataset that the config node `dataset` names, with its folds."""
        folds, fold = read_folds(node)
        return cls.load(node["root"], folds=folds, fold=fold)

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

    def list_methods(self, split: str) -> list[str]:
        """Return the forgery methods of a split's crops."""
        rows = self.faces[(self.faces["split"] == split) & (self.faces["label"] == Label.FAKE)]
        return sorted(map(str, rows["method"].unique()))

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


def find_deciding(faces: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether each crop shows a person who decides about the video, as in prediction.

    Args:
        faces: Rows of `faces.parquet`, or others with `video_id`, `track` and `frame_index`.
    """
    if "track" not in faces or not faces["track"].any():
        return pd.Series(True, index=faces.index)
    sizes = faces.groupby(["video_id", "track"], sort=False).size()
    num_frames = faces.groupby("video_id", sort=False)["frame_index"].nunique()
    longest = sizes.groupby(level="video_id", sort=False).max()
    needed = {name: count_needed(int(num_frames[name]), int(longest[name])) for name in longest.index}
    mine = faces.groupby(["video_id", "track"], sort=False)["track"].transform("size")
    return mine >= faces["video_id"].map(needed)


def read_folds(known: Mapping[str, Any]) -> tuple[int | None, int]:
    """Return `folds` and `fold` of a config node or of a checkpoint's provenance, which may lack them."""
    return known.get("folds"), known.get("fold", 0)


def show_folds(folds: int | None, fold: int) -> str:
    """Return the two keys of a training or an evaluation, as on a command line."""
    return f"dataset.folds={'null' if folds is None else folds} dataset.fold={fold}"


def _split_again(dataset: FaceDataset, *, folds: int, fold: int) -> FaceDataset:
    """Replace the splits of a dataset by folds of its groups, with the seed that it was prepared with.

    Identical files count as one group, even where the splits of the source separated them.
    """
    videos, copies, path = dataset.videos, list[list[int]](), dataset.root / COPIES_FILE
    if path.is_file():
        places = {name: place for place, name in enumerate(videos["video_id"])}
        listed = pd.read_csv(path, dtype={"video_id": str})
        listed = listed[listed["video_id"].isin(list(places))]
        copies = [[places[name] for name in rows] for _, rows in listed.groupby("file")["video_id"]]
    groups = connect(len(videos), ((group,) for group in videos["group"].tolist()), same=copies)
    seed = int(dataset.info.get("seed", 0))
    splits = split_by_fold(groups, videos["method"].tolist(), folds=folds, fold=fold, seed=seed, key="dataset")
    videos = videos.assign(split=splits, group=groups)
    faces = dataset.faces.assign(
        split=dataset.faces["video_id"].map(dict(zip(videos["video_id"], splits, strict=True)))
    )
    return replace(dataset, videos=videos, faces=faces, info={**dataset.info, "counts": count_rows(videos, faces)})


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


def choose_videos(
    dataset: FaceDataset, *, split: str, limit: int | None, seed: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows of a split's videos that have crops, and the number of the others by outcome.

    A higher limit adds videos to those of a lower one.

    Args:
        dataset: Face dataset.
        split: `train`, `val` or `test`.
        limit: Maximum number of videos per class, spread over its methods; None for all.
        seed: Seed of the choice.

    Raises:
        DatasetError: The split is unknown or empty.
    """
    with_crops = set(dataset.faces_of(split)["video_id"])
    promised = dataset.videos[dataset.videos["split"] == split]
    is_usable = promised["video_id"].isin(with_crops)
    counts = {str(outcome): int(count) for outcome, count in promised["outcome"][~is_usable].value_counts().items()}
    usable = promised[is_usable].sort_values("video_id", kind="stable").reset_index(drop=True)
    if limit is None:
        return usable, counts
    shuffled = usable.iloc[np.random.default_rng(seed).permutation(len(usable))]
    rank = shuffled.groupby(["label", "method"]).cumcount()
    spread = shuffled.assign(rank=rank).sort_values(["rank", "method"], kind="stable").drop(columns="rank")
    return spread.groupby("label").head(limit).sort_index().reset_index(drop=True), counts
