"""Prepare a face dataset: list a source's videos, assign splits, crop faces, write the tables and the report."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from unmask import __version__
from unmask.data.audit import CHOICES, find_copies, report_copies
from unmask.data.near_duplicates import NEAR_CHOICES, report_near_duplicates
from unmask.data.prepare_video import VideoRecord, build_tables
from unmask.data.report import Explored, write_report
from unmask.data.splits import (
    LeftOut,
    SplitOptions,
    SplitResult,
    apply_protocol,
    audit_splits,
    read_protocol,
    split_videos,
    write_left_out,
)
from unmask.data.tables import FaceDataset, count_rows, write_dataset
from unmask.data.work import Journal, Workshop, count_remade, plan_tasks, run_tasks
from unmask.errors import ConfigError, DatasetError, list_problems, names_limit
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.media.image import MAX_PIXELS
from unmask.sources.folders import CreatedSource, Source, record_source
from unmask.types import SPLITS, Label, MediaKind, Outcome, Video

_KIND_NAMES = {MediaKind.IMAGE: "images", MediaKind.VIDEO: "videos", MediaKind.FRAMES: "folders of frames"}

_NEEDS = {
    "train": "Training needs both classes",
    "val": "Training needs both classes to choose the best checkpoint and the threshold",
    "test": "Evaluation needs both classes for ROC-AUC and PR-AUC",
}

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
    for key, choice, choices in (
        ("duplicates", duplicates, CHOICES),
        ("near_duplicates", near_duplicates, NEAR_CHOICES),
    ):
        if choice not in choices:
            raise ConfigError(f"{key}='{choice}' is unknown. Choose {' or '.join(choices)}.")
    options = SplitOptions(fractions, seed, hold_out, folds, fold, protocol)
    if isinstance(source, CreatedSource):
        source.create(num_workers=num_workers)
    split = _list_and_split(source, options, limit=limit)
    videos, splits = split.videos, split.splits
    _log_overview(videos, splits, name=source.name)
    report_copies(videos, splits, split.copies, choice=duplicates, root=output)
    write_left_out(output, split.left_out)
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
    _check_usable(ordered, source)
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


def _list_and_split(source: Source, options: SplitOptions, *, limit: int | None) -> SplitResult:
    protocol = None if options.protocol is None else read_protocol(options.protocol)
    videos, left_out = source.list_videos(), list[LeftOut]()
    if protocol is not None:
        videos, left_out = apply_protocol(videos, protocol)
    videos = _take_first(videos, limit)
    result = split_videos(videos, options, copies=find_copies(videos))
    return replace(result, left_out=left_out + result.left_out)


def _take_first(videos: Sequence[Video], limit: int | None) -> list[Video]:
    """Return the first `limit` videos of each method, alternating between splits; skip missing ones unless all are."""
    if limit is None:
        return list(videos)
    there = [video for video in videos if video.is_there]
    if len(there) < len(videos):
        logger.info("limit=%d: skipped %d missing videos.", limit, len(videos) - len(there))
    turns: Counter[tuple[str, str | None]] = Counter()
    places = []
    for video in there or videos:
        places.append(turns[video.method, video.split])
        turns[video.method, video.split] += 1
    taken, counts = set(), Counter[str]()
    for _, video in sorted(zip(places, there or videos, strict=True), key=lambda pair: pair[0]):
        counts[video.method] += 1
        if counts[video.method] <= limit:
            taken.add(video.video_id)
    return [video for video in videos if video.video_id in taken]


def _check_usable(records: Sequence[VideoRecord], source: Source) -> None:
    if any(record.outcome == Outcome.OK for record in records):
        return
    problems = (f"{record.video_id}: {record.outcome}: {record.message}" for record in records)
    raise DatasetError(
        f"None of the {len(records)} videos of source '{source.name}' can be used:\n{list_problems(problems)}"
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


def _log_overview(videos: Sequence[Video], splits: Sequence[str], *, name: str) -> None:
    """Log the number of real and fake media by method and split, and warn about splits that lack a class."""
    there = [(video, split) for video, split in zip(videos, splits, strict=True) if video.is_there]
    kinds = Counter(video.kind for video, _ in there)
    labels = Counter(video.label for video, _ in there)
    methods = Counter(video.method for video, _ in there if video.label == Label.FAKE)
    by_split = Counter((split, video.label) for video, split in there)
    counts = "; ".join(
        f"{split}: {by_split[split, Label.REAL]:,} real, {by_split[split, Label.FAKE]:,} fake" for split in SPLITS
    )
    logger.info(
        "Source '%s' has %s: %s real, %s fake%s. %s.",
        name, " and ".join(f"{count:,} {_KIND_NAMES[kind]}" for kind, count in sorted(kinds.items())) or "nothing",
        f"{labels[Label.REAL]:,}", f"{labels[Label.FAKE]:,}",
        f" ({', '.join(f'{method} {count:,}' for method, count in methods.most_common())})" if methods else "", counts,
    )  # fmt: skip
    num_missing = len(videos) - len(there)
    if num_missing:
        logger.warning(
            "%s of the %s videos listed by source '%s' are missing.", f"{num_missing:,}", f"{len(videos):,}", name
        )
    _warn_of_gaps({split: [label for label in Label if by_split[split, label]] for split in SPLITS})


def _warn_of_gaps(classes: dict[str, list[Label]]) -> None:
    """Warn about splits that training or evaluation cannot use."""
    for split, labels in classes.items():
        if len(labels) == len(Label):
            continue
        lacking = "no media" if not labels else f"no {Label(1 - labels[0]).name.lower()} media"
        logger.warning("Split '%s' has %s. %s.", split, lacking, _NEEDS[split])
