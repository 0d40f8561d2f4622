"""Prepare a face dataset: list a source's videos, assign splits, crop faces, write the tables and the report."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from unmask import __version__
from unmask.data.splits import SplitOptions, SplitResult, audit_splits
from unmask.data.tables import FaceDataset, count_rows, write_dataset
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.media.image import MAX_PIXELS
from unmask.preparation.near_duplicates import check_choice, report_near_duplicates
from unmask.preparation.records import JOURNAL_FILE, Journal, VideoRecord, build_tables, check_usable, start_anew
from unmask.preparation.report import Explored, write_report
from unmask.preparation.selection import select_videos
from unmask.preparation.work import LocalRunner, Runner, Worked, Workshop, work_through
from unmask.sources.folders import Source, record_source


@dataclass(frozen=True)
class Preparation:
    """Source of a face dataset, and how its videos are chosen, split and cropped.

    Args:
        source: Source to read.
        spec: Crop settings.
        options: How to split the source.
        limit: Maximum number of existing videos per method, for a trial run; None for all.
        duplicates: `warn` about identical files in different splits, or `refuse` them.
        near_duplicates: `warn` about crops in different splits that look alike, `refuse` them, or `skip` this.
        max_pixels: Maximum number of pixels of an image or video frame.
    """

    source: Source
    spec: CropSpec
    options: SplitOptions
    limit: int | None = None
    duplicates: str = "warn"
    near_duplicates: str = "warn"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_choice(self.near_duplicates)

    def select(self, *, root: Path | None, num_workers: int) -> SplitResult:
        """Return the videos with their splits; see `unmask.preparation.selection.select_videos`."""
        return select_videos(
            self.source, self.options, root=root, duplicates=self.duplicates, limit=self.limit, num_workers=num_workers
        )


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
    runner: Runner | None = None,
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
        num_workers: Number of worker processes; 0 runs in this process. A source that creates its files uses them too.
        hold_out: Forgery methods that only the test split contains; see `unmask.data.groups.hold_out`.
        folds: Number of folds that replace the source's own splits; None for no folds.
        fold: Fold that becomes test; the next one becomes val.
        protocol: Protocol file that gives every video its split; None for no protocol.
        limit: Maximum number of existing videos per method, for a trial run.
        duplicates: `warn` about identical files in different splits, or `refuse` them.
        near_duplicates: `warn` about crops in different splits that look alike, `refuse` them, or `skip` this.
        max_pixels: Maximum number of pixels of an image or video frame.
        runner: Where the videos are prepared; None for `num_workers` processes of this machine.

    Raises:
        ConfigError: The settings of the split are invalid or contradict each other.
        SourceError: The source cannot be read.
        DatasetError: None of the videos is usable, the source contradicts the protocol, or `output` has shards.
        LeakageError: A group spans several splits, or so do copies of a file and `duplicates` is `refuse`, or crops
            that look alike and `near_duplicates` is `refuse`.
        OutputError: The disk is full; finished videos are kept.
    """
    start = time.monotonic()
    options = SplitOptions(fractions, seed, hold_out, folds, fold, protocol)
    preparation = Preparation(source, spec, options, limit, duplicates, near_duplicates, max_pixels)
    start_anew(output)
    split = preparation.select(root=output, num_workers=num_workers)
    worked = work_through(
        split.videos,
        Workshop(detector, spec, output, max_pixels),
        Journal(output / JOURNAL_FILE, spec=spec, videos=split.videos),
        runner=LocalRunner(num_workers) if runner is None else runner,
    )
    return finish(preparation, split, worked, root=output, start=start)


def finish(preparation: Preparation, split: SplitResult, worked: Worked, *, root: Path, start: float) -> PrepareResult:
    """Write the tables and the report of a face dataset whose crops exist, and audit it.

    Args:
        preparation: Source and settings.
        split: Videos with their splits.
        worked: Record of each video.
        root: Folder of the face dataset.
        start: Time at which the work began, as `time.monotonic` gives it.

    Raises:
        DatasetError: None of the videos is usable.
        LeakageError: A group spans several splits, or crops look alike and `near_duplicates` is `refuse`.
        OutputError: The disk is full.
    """
    records = [worked.records[video.video_id] for video in split.videos]
    check_usable(records, source=preparation.source.name)
    videos, faces = build_tables(split.videos, records, split.groups, split.splits)
    report_near_duplicates(videos, faces, choice=preparation.near_duplicates, root=root)
    info = _describe(preparation.source, preparation.spec, videos, faces, seed=preparation.options.seed)
    write_dataset(root, info=info, videos=videos, faces=faces)
    dataset = FaceDataset.load(root)
    audit_splits(dataset)
    explored = write_report(dataset)
    return PrepareResult(
        root, count_outcomes(records), worked.num_reused, worked.num_repaired, len(faces), explored,
        time.monotonic() - start,
    )  # fmt: skip


def count_outcomes(records: Sequence[VideoRecord]) -> dict[str, int]:
    """Count videos by outcome, the most frequent one first."""
    return {str(outcome): count for outcome, count in Counter(record.outcome for record in records).most_common()}


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
