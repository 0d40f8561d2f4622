"""From a source to a face dataset."""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from unmask import __version__
from unmask.data.audit import audit_splits
from unmask.data.duplicates import find_copies, tell_copies
from unmask.data.groups import find_groups
from unmask.data.overview import tell_overview
from unmask.data.prepare_tables import build_tables
from unmask.data.prepare_video import VideoRecord
from unmask.data.prepare_work import Task, Workshop, work_on
from unmask.data.records import Journal
from unmask.data.remake import find_damaged, remove_remains
from unmask.data.splits import assign_splits
from unmask.data.tables import FaceDataset, count_rows, write_dataset
from unmask.errors import DatasetError, OutputError, list_problems, names_limit
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.media.picture import MAX_PIXELS
from unmask.sources.base import CreatedSource, Source, record_source
from unmask.types import Label, Outcome, Video
from unmask.writing import writing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareResult:
    """What prepare did.

    Args:
        dataset: The face dataset.
        outcomes: Number of videos by outcome.
        num_reused: Videos that an earlier, interrupted run had finished.
        num_repaired: Crops of these that were missing or damaged and were made again.
        num_faces: Crops.
        seconds: Wall time.
    """

    dataset: Path
    outcomes: dict[str, int]
    num_reused: int
    num_repaired: int
    num_faces: int
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
    limit: int | None = None,
    duplicates: str = "warn",
    max_pixels: int = MAX_PIXELS,
) -> PrepareResult:
    """Write the face dataset of a source; videos that cannot be used become rows with their outcome.

    Args:
        source: What to read.
        output: Folder of the face dataset; a run that was interrupted there is continued, and crops that are missing or
            damaged are made again.
        detector: Finds faces; None where pictures are crops already.
        spec: How crops are made.
        fractions: Of train, val and test where the source has no splits of its own.
        seed: Of that split.
        num_workers: Processes; 0 works in this one.
        limit: Only so many of the videos of each method that are there, for a trial.
        duplicates: `warn` of files that stand in two splits under several names, or `refuse` them.
        max_pixels: A picture or video with larger frames is refused.

    Raises:
        SourceError: The source cannot be read.
        DatasetError: Not one video could be used.
        LeakageError: The splits cut a group, or the copies of a file where `duplicates` is `refuse`.
        OutputError: The disk is full; videos that are finished are kept.
    """
    start = time.monotonic()
    if isinstance(source, CreatedSource):
        source.create(num_workers=num_workers)
    videos = _take_first(source.list_videos(), limit)
    copies = find_copies(videos)
    # Copies belong together; but where the source says otherwise, its splits stay as they are published.
    groups = find_groups(videos, copies=() if any(video.split for video in videos) else copies)
    splits = assign_splits(videos, fractions=fractions, seed=seed, groups=groups)
    tell_overview(videos, splits, name=source.name)
    tell_copies(videos, splits, copies, choice=duplicates, root=output)
    journal = Journal(output / "prepare.jsonl", spec_hash=spec.hash)
    records = {name: record for name, record in journal.read(videos).items() if not names_limit(record.message)}
    num_reused = len(records)
    if num_reused:
        logger.info("%d of %d videos were finished by an earlier run.", num_reused, len(videos))
    workshop = Workshop(detector, spec, output, max_pixels)
    tasks = _plan(videos, records, workshop)
    _disown_other_crops(workshop)
    records |= _work_through(tasks, workshop, journal, num_workers=num_workers)
    num_repaired = _count_repaired(tasks, workshop)
    ordered = [records[video.video_id] for video in videos]
    _check_usable(ordered, source)
    video_table, face_table = build_tables(videos, ordered, groups, splits)
    info = _describe(source, spec, video_table, face_table, seed=seed)
    write_dataset(output, info=info, videos=video_table, faces=face_table)
    audit_splits(FaceDataset.load(output))
    _warn_of_shortcuts(video_table, face_table)
    outcomes = {str(name): int(count) for name, count in video_table["outcome"].value_counts().items()}
    return PrepareResult(output, outcomes, num_reused, num_repaired, len(face_table), time.monotonic() - start)


def _take_first(videos: Sequence[Video], limit: int | None) -> list[Video]:
    """Return so many videos of each method, of its splits in turn; those that are missing count only if all are."""
    if limit is None:
        return list(videos)
    there = [video for video in videos if video.is_there]
    if len(there) < len(videos):
        logger.info("limit=%d: %d videos that are not there are left out.", limit, len(videos) - len(there))
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


def _plan(videos: Sequence[Video], records: Mapping[str, VideoRecord], workshop: Workshop) -> list[Task]:
    """List the videos that are not finished, and the finished ones whose crops are missing or damaged."""
    remove_remains(workshop.root)
    damaged: dict[str, str] = {}
    if workshop.detector is not None:  # pictures that are crops already are no work of ours
        crops = (crop.crop for record in records.values() for crop in record.crops)
        damaged = find_damaged(crops, root=workshop.root, size=workshop.spec.crop_size)
    if damaged:
        problems = (f"{workshop.root / crop}: {problem}" for crop, problem in damaged.items())
        logger.warning("%d crops are made again, which are:\n%s", len(damaged), list_problems(problems))
    tasks = []
    for video in videos:
        record = records.get(video.video_id)
        bad = tuple(crop.crop for crop in record.crops if crop.crop in damaged) if record is not None else ()
        if record is None or bad:
            tasks.append(Task(video, record, bad))
    return tasks


def _work_through(
    tasks: Sequence[Task], workshop: Workshop, journal: Journal, *, num_workers: int
) -> dict[str, VideoRecord]:
    """Do the tasks, each in the journal as soon as it is finished, and return the records by video."""
    records = {}
    with closing(work_on(tasks, workshop, num_workers=num_workers, description="Preparing videos")) as work:
        for task, record in work:
            try:
                journal.append(task.video, record)
            except OutputError:
                if task.record is None:  # its crops would be on record nowhere
                    shutil.rmtree(workshop.root / "crops" / record.video_id, ignore_errors=True)
                raise
            records[task.video.video_id] = record
    return records


def _disown_other_crops(workshop: Workshop) -> None:
    """Take away the tables of crops that were made otherwise, since these are about to be replaced one by one."""
    path = workshop.root / "dataset.json"
    if path.is_file():
        with suppress(DatasetError):
            if FaceDataset.load(workshop.root).spec.hash == workshop.spec.hash:
                return
        with writing(path):
            path.unlink()


def _count_repaired(tasks: Sequence[Task], workshop: Workshop) -> int:
    """Count the crops that were made again, and warn of those that could not be."""
    crops = [crop for task in tasks for crop in task.damaged]
    left = find_damaged(crops, root=workshop.root, size=workshop.spec.crop_size)
    if left:
        problems = (f"{workshop.root / crop}: {problem}" for crop, problem in left.items())
        logger.warning("%d crops could not be made again:\n%s", len(left), list_problems(problems))
    return len(crops) - len(left)


def _check_usable(records: Sequence[VideoRecord], source: Source) -> None:
    if any(record.outcome == Outcome.OK for record in records):
        return
    problems = (f"{record.video_id}: {record.outcome}: {record.message}" for record in records)
    raise DatasetError(
        f"None of the {len(records)} videos of source '{source.name}' could be used:\n{list_problems(problems)}"
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


def _warn_of_shortcuts(videos: pd.DataFrame, faces: pd.DataFrame) -> None:
    """Warn where real and fake differ in what is not the forgery: a network learns that instead."""
    usable = videos[videos["outcome"] == Outcome.OK]
    codecs = {label: set(usable.loc[usable["label"] == label, "codec"]) for label in Label}
    if all(codecs.values()) and codecs[Label.REAL] != codecs[Label.FAKE]:
        logger.warning(
            "Real and fake differ in codec (%s against %s): a network can tell them apart by it.",
            sorted(codecs[Label.REAL]),
            sorted(codecs[Label.FAKE]),
        )
    sides = faces["box"].map(lambda box: max(box[2] - box[0], box[3] - box[1])).groupby(faces["label"]).median()
    if len(sides) == 2 and sides.max() > 1.25 * sides.min():
        logger.warning(
            "Real and fake differ in face size (median %.0f against %.0f px): a network can tell them apart by it.",
            sides[Label.REAL],
            sides[Label.FAKE],
        )
