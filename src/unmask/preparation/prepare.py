"""Prepare a face dataset: list a source's videos, assign splits, crop faces, write the tables and the report."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from unmask import __version__
from unmask.data.splits import (
    SplitOptions,
    audit_splits,
)
from unmask.data.tables import FaceDataset, count_rows, write_dataset
from unmask.errors import ConfigError, names_limit
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.media.image import MAX_PIXELS
from unmask.preparation.near_duplicates import NEAR_CHOICES, report_near_duplicates
from unmask.preparation.records import build_tables, check_usable
from unmask.preparation.report import Explored, write_report
from unmask.preparation.selection import select_videos
from unmask.preparation.work import Journal, Workshop, count_remade, plan_tasks, run_tasks
from unmask.sources.folders import Source, record_source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareResult:
    """Result of `prepare`.

    Args:
        dataset: Folder of the face dataset.
        outcomes: Number of videos by outcome.
        num_reused: Number of videos finished by an earlier, interrupted run.
        num_repaired: Number of missing or damaged crops in those videos that were recreated.
        num_faces: Number of crops.
        explored: Report of the dataset, and what differs between real and fake.
        seconds: Wall time in seconds.
    """

    dataset: Path
    outcomes: dict[str, int]
    num_reused: int
    num_repaired: int
    num_faces: int
    explored: Explored
    seconds: float


def prepare(
    source: Source,
    *,
    output: Path,
    detector: Detector | None,
    spec: CropSpec,
    fractions: Mapping[str, float],
    seed: int,
    num_workers: int,
    hold_out: Sequence[str] = (),
    folds: int | None = None,
    fold: int = 0,
    protocol: Path | None = None,
    limit: int | None = None,
    duplicates: str = "warn",
    near_duplicates: str = "warn",
    max_pixels: int = MAX_PIXELS,
) -> PrepareResult:
    """Write the face dataset of a source; unusable videos become rows with their outcome.

    Resumes an interrupted run in the same folder and recreates its missing or damaged crops.

    Args:
        source: Source to read.
        output: Folder of the face dataset.
        detector: Face detector; None if the images are already crops.
        spec: Crop settings.
        fractions: Shares of train, val and test, for a source without its own splits.
        seed: Seed of that split, and of the folds.
        num_workers: Number of worker processes; 0 runs in this process.
        hold_out: Forgery methods that only the test split contains; see `unmask.data.groups.hold_out`.
        folds: Number of folds that replace the source's own splits; None for no folds.
        fold: Fold that becomes test; the next one becomes val.
        protocol: Protocol file that gives every video its split; None for no protocol.
        limit: Maximum number of existing videos per method, for a trial run.
        duplicates: `warn` about identical files in different splits, or `refuse` them.
        near_duplicates: `warn` about crops in different splits that look alike, `refuse` them, or `skip` this.
        max_pixels: Maximum number of pixels of an image or video frame.

    Raises:
        ConfigError: The settings of the split are invalid or contradict each other.
        SourceError: The source cannot be read.
        DatasetError: None of the videos is usable, or the source contradicts the protocol.
        LeakageError: A group spans several splits, or so do copies of a file and `duplicates` is `refuse`, or crops
            that look alike and `near_duplicates` is `refuse`.
        OutputError: The disk is full; finished videos are kept.
    """
    start = time.monotonic()
    if near_duplicates not in NEAR_CHOICES:
        raise ConfigError(f"near_duplicates='{near_duplicates}' is unknown. Choose {' or '.join(NEAR_CHOICES)}.")
    options = SplitOptions(fractions, seed, hold_out, folds, fold, protocol)
    split = select_videos(source, options, root=output, duplicates=duplicates, limit=limit, num_workers=num_workers)
    videos, splits = split.videos, split.splits
    journal = Journal(output / "prepare.jsonl", spec_hash=spec.hash)
    records = {name: record for name, record in journal.read(videos).items() if not names_limit(record.message)}
    num_reused = len(records)
    if num_reused:
        logger.info("Resuming: %d of %d videos are already finished.", num_reused, len(videos))
    workshop = Workshop(detector, spec, output, max_pixels)
    tasks = plan_tasks(videos, records, workshop)
    records |= run_tasks(tasks, workshop, journal, num_workers=num_workers)
    num_repaired = count_remade(tasks, workshop)
    ordered = [records[video.video_id] for video in videos]
    check_usable(ordered, source=source.name)
    video_table, face_table = build_tables(videos, ordered, split.groups, splits)
    report_near_duplicates(video_table, face_table, choice=near_duplicates, root=output)
    info = _describe(source, spec, video_table, face_table, seed=seed)
    write_dataset(output, info=info, videos=video_table, faces=face_table)
    dataset = FaceDataset.load(output)
    audit_splits(dataset)
    explored = write_report(dataset)
    outcomes = {str(name): int(count) for name, count in video_table["outcome"].value_counts().items()}
    return PrepareResult(
        output, outcomes, num_reused, num_repaired, len(face_table), explored, time.monotonic() - start
    )


def _describe(
    source: Source, spec: CropSpec, videos: pd.DataFrame, faces: pd.DataFrame, *, seed: int
) -> dict[str, Any]:
    packages = ("av", "numpy", "onnxruntime", "opencv-python-headless", "pandas")
    return {
        "name": source.name,
        "sources": [record.to_dict() for record in record_source(source)],
        "preprocessing": spec.to_dict(),
        "preprocessing_hash": spec.hash,
        "seed": seed,
        "counts": count_rows(videos, faces),
        "versions": {"unmask": __version__} | {package: version(package) for package in packages},
    }
