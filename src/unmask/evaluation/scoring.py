"""Score the crops of a split with a checkpoint that fits them; scores that exist are not computed again."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from unmask.data.audit import find_usable_crops
from unmask.data.dataset import FaceCrops
from unmask.data.tables import FaceDataset, read_folds, show_folds
from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.faces.spec import check_same_crops
from unmask.metrics.scores import aggregate_videos
from unmask.models.checkpoint import Checkpoint, choose_device, score_crops
from unmask.paths import hash_file, write_bytes
from unmask.processes import describe_loader
from unmask.tracking.provenance import digest_table

logger = logging.getLogger(__name__)

FRAME_COLUMNS = [
    "video_id", "crop", "frame_index", "track", "label", "method", "score", "face_size", "confidence", "brightness"
]  # fmt: skip
VIDEO_COLUMNS = [
    "video_id", "path", "label", "method", "compression", "group", "split", "outcome", "num_crops", "score",
    "face_size", "confidence", "brightness",
]  # fmt: skip
MEASURED = ["face_size", "confidence", "brightness"]
"""Properties of a crop by which results are broken down; a video has the median of its crops."""


@dataclass(frozen=True)
class ScoreStore:
    """Score tables that later calls reuse, in a folder named after all that the scores depend on.

    Args:
        folder: Folder of the tables.
    """

    folder: Path

    @classmethod
    def open(cls, parent: Path, model: Checkpoint, dataset: FaceDataset, **settings: Any) -> "ScoreStore":
        """Return the store of a checkpoint and a face dataset, whose contents and settings decide about its name.

        Args:
            parent: Folder of all stores.
            model: Checkpoint.
            dataset: Face dataset.
            settings: Whatever else the scores depend on, as plain values.
        """
        files = (model.path, *(dataset.root / name for name in ("dataset.json", "videos.parquet", "faces.parquet")))
        key = json.dumps([[hash_file(file) for file in files], settings], sort_keys=True)
        return cls(parent / f"{model.path.stem}-{dataset.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}")

    def read(self, name: str, *, columns: Sequence[str]) -> pd.DataFrame:
        """Return a table, empty if there is none that can be read."""
        path = self.folder / f"{name}.parquet"
        if path.is_file():
            try:
                return pd.read_parquet(path)[list(columns)]
            except (OSError, ValueError, KeyError) as error:
                logger.warning("'%s' cannot be read (%s), so its scores are computed again.", path, error)
        return pd.DataFrame(columns=list(columns))

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Write a table; an interruption leaves the previous version."""
        write_bytes(self.folder / f"{name}.parquet", table.to_parquet(index=False))


@dataclass(frozen=True)
class Loading:
    """How crops are read and scored; has no effect on the scores.

    Args:
        device: `auto`, `cpu`, `cuda` ...
        batch_size: Number of crops per batch.
        num_workers: Number of decoding processes; 0 decodes in the main process.
        cache: Folder of scores that exist; None to compute them always.
    """

    device: str = "auto"
    batch_size: int = 64
    num_workers: int = 0
    cache: Path | None = None


def check_same_folds(model: Checkpoint, dataset: FaceDataset, given: tuple[int | None, int]) -> None:
    """Raise a ConfigError if the model was trained on other folds of this dataset: test would contain training data."""
    known = model.provenance
    trained = read_folds(known)
    if known.get("dataset") == dataset.name and trained != given:
        raise ConfigError(
            f"'{model.path}' was trained on '{dataset.name}' with {show_folds(*trained)}, and {show_folds(*given)} "
            f"would score it on videos that it was trained on. Set {show_folds(*trained)}"
        )


def check_spec(model: Checkpoint, dataset: FaceDataset, *, allow_mismatch: bool) -> list[str]:
    """Check that crops were made as those of the training, and return notes.

    Raises:
        SpecMismatchError: They were not, and `allow_mismatch` is False.
    """
    if not allow_mismatch:
        check_same_crops(model.crop_spec, dataset.spec, where=str(dataset.root))
    elif model.crop_spec.hash != dataset.spec.hash:
        note = (
            f"The preprocessing of these crops ({dataset.spec.hash}) differs from that of the training crops "
            f"({model.crop_spec.hash}). They were scored because of allow_spec_mismatch=true."
        )
        logger.warning("%s", note)
        return [note]
    return []


def score_frames(checkpoint: Checkpoint, dataset: FaceDataset, *, split: str, loading: Loading) -> pd.DataFrame:
    """Return the score of every crop of a split, from the cache if the same crops were scored before.

    Args:
        checkpoint: Checkpoint with the network and its input spec.
        dataset: Face dataset with the crops.
        split: `train`, `val` or `test`.
        loading: How to read and score them.

    Returns:
        Table with one row per crop and the columns `FRAME_COLUMNS`: `face_size` is the shorter side of the box in
        pixels, `confidence` that of the detector, `brightness` the mean of the crop from 0 to 255.

    Raises:
        DatasetError: The split is empty, or too many crops are damaged.
    """
    expected = dataset.faces_of(split)
    store = None if loading.cache is None else ScoreStore.open(
        loading.cache, checkpoint, dataset, root=str(dataset.root.resolve()), crops=digest_table(expected)
    )  # fmt: skip
    if store is not None:
        found = store.read(split, columns=FRAME_COLUMNS)
        if len(found) == len(expected):
            logger.info("Scores of split '%s' of '%s' read from '%s'.", split, dataset.root, store.folder)
            return found
    frames = _compute(checkpoint, dataset, split=split, loading=loading)
    if store is not None and len(frames) == len(expected):  # damaged crops may be repaired until the next time
        store.write(split, frames)
    return frames


def score_videos(frames: pd.DataFrame, dataset: FaceDataset, *, split: str, decision: Decision) -> pd.DataFrame:
    """Aggregate frame scores into a table of all videos of a split, including unscored ones.

    Args:
        frames: Result of `score_frames`.
        dataset: Face dataset with the videos and their outcomes.
        split: `train`, `val` or `test`.
        decision: Decision with the aggregation.

    Returns:
        Table with one row per video and the columns `VIDEO_COLUMNS`; the score is NaN for unscored videos.
    """
    promised = dataset.videos[dataset.videos["split"] == split]
    scored = aggregate_videos(frames, decision=decision)[["video_id", "score", "num_crops"]]
    videos = promised.merge(scored, on="video_id", how="left", validate="one_to_one")
    videos = videos.merge(frames.groupby("video_id", sort=False)[MEASURED].median(), on="video_id", how="left")
    videos["num_crops"] = videos["num_crops"].fillna(0).astype(int)
    return videos[VIDEO_COLUMNS].reset_index(drop=True)


def _compute(checkpoint: Checkpoint, dataset: FaceDataset, *, split: str, loading: Loading) -> pd.DataFrame:
    from torch.utils.data import DataLoader

    table = find_usable_crops(dataset, split=split)
    crops = FaceCrops(table, root=dataset.root, input_spec=checkpoint.input_spec)
    workers = loading.num_workers
    loader: Any = DataLoader(crops, batch_size=loading.batch_size, num_workers=workers, **describe_loader(workers))
    target = choose_device(loading.device)
    network = checkpoint.build_network().to(target)
    logger.info("Scoring %d crops of split '%s' of '%s' on %s.", len(crops), split, dataset.root, target)
    rows: list[int] = []
    scores: list[float] = []
    brightness: list[float] = []
    for batch in _with_progress(loader):
        scores += score_crops(network, batch["image"], device=target)
        brightness += batch["image"].float().mean(dim=(1, 2, 3)).tolist()
        rows += batch["row"].tolist()
    scored: pd.DataFrame = table.iloc[rows].assign(
        score=np.asarray(scores, np.float64), brightness=np.asarray(brightness, np.float32)
    )
    scored["face_size"] = _measure_faces(scored)
    return scored[FRAME_COLUMNS].reset_index(drop=True)


def _measure_faces(rows: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Return the shorter side of each box in pixels, NaN without a box."""
    boxes = (None if box is None else np.asarray(box, np.float64) for box in rows["box"])
    return np.asarray([np.nan if box is None else min(box[2:] - box[:2]) for box in boxes], np.float32)


def _with_progress(loader: Any) -> Any:
    from rich.progress import track

    batches = iter(loader)  # forks the workers before the progress bar starts its thread
    return track(batches, total=len(loader), description="Scoring crops", transient=True)
