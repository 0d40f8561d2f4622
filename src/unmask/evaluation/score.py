"""Score the crops of a split with a checkpoint's network."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from unmask.data.dataset import FaceCrops
from unmask.data.integrity import find_usable_crops
from unmask.data.tables import FaceDataset
from unmask.decision import Decision
from unmask.metrics.scores import aggregate_videos
from unmask.models.checkpoint import Checkpoint, choose_device, score_crops
from unmask.processes import describe_loader

FRAME_COLUMNS = ["video_id", "crop", "frame_index", "track", "label", "method", "score"]
VIDEO_COLUMNS = ["video_id", "path", "label", "method", "group", "split", "outcome", "num_crops", "score"]

logger = logging.getLogger(__name__)


def score_frames(
    checkpoint: Checkpoint,
    dataset: FaceDataset,
    *,
    split: str,
    device: str = "auto",
    batch_size: int = 64,
    num_workers: int = 0,
) -> pd.DataFrame:
    """Score every crop of a split.

    Args:
        checkpoint: Gives the network and its input.
        dataset: Where the crops are.
        split: `train`, `val` or `test`.
        device: `auto`, `cpu`, `cuda` ...
        batch_size: Crops scored at once.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        A row per crop, columns `FRAME_COLUMNS`.

    Raises:
        DatasetError: The split is empty, or too many crops are damaged.
    """
    from torch.utils.data import DataLoader

    table = find_usable_crops(dataset, split=split)
    crops = FaceCrops(table, root=dataset.root, input_spec=checkpoint.input_spec)
    loader: Any = DataLoader(crops, batch_size=batch_size, num_workers=num_workers, **describe_loader(num_workers))
    target = choose_device(device)
    network = checkpoint.build_network().to(target)
    logger.info("Scoring %d crops of split '%s' of '%s' on %s.", len(crops), split, dataset.root, target)
    rows: list[int] = []
    scores: list[float] = []
    for batch in _with_progress(loader):
        scores += score_crops(network, batch["image"], device=target)
        rows += batch["row"].tolist()
    scored: pd.DataFrame = table.iloc[rows].assign(score=np.asarray(scores, dtype=np.float64))
    return scored[FRAME_COLUMNS].reset_index(drop=True)


def score_videos(frames: pd.DataFrame, dataset: FaceDataset, *, split: str, decision: Decision) -> pd.DataFrame:
    """Make the table of every video that a split promises, those without a score included.

    Args:
        frames: Of `score_frames`.
        dataset: Gives the videos and their outcomes.
        split: As for `score_frames`.
        decision: Aggregation and threshold.

    Returns:
        A row per video, columns `VIDEO_COLUMNS`; score NaN where nothing could be scored.
    """
    promised = dataset.videos[dataset.videos["split"] == split]
    scored = aggregate_videos(frames, decision=decision)[["video_id", "score", "num_crops"]]
    videos = promised.merge(scored, on="video_id", how="left", validate="one_to_one")
    videos["num_crops"] = videos["num_crops"].fillna(0).astype(int)
    return videos[VIDEO_COLUMNS].reset_index(drop=True)


def _with_progress(loader: Any) -> Any:
    from rich.progress import track

    batches = iter(loader)  # forks the workers, which the thread of the progress bar must not see
    return track(batches, total=len(loader), description="Scoring crops", transient=True)
