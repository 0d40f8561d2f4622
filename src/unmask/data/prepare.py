"""From a source to a face dataset."""

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask import __version__
from unmask.data.audit import audit_splits
from unmask.data.duplicates import find_copies, tell_copies
from unmask.data.groups import find_groups
from unmask.data.overview import tell_overview
from unmask.data.prepare_video import VideoRecord, prepare_video
from unmask.data.records import Journal
from unmask.data.splits import assign_splits
from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS, FaceDataset, count_rows, write_dataset
from unmask.errors import DatasetError, list_problems, names_limit
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.media.picture import MAX_PIXELS
from unmask.sources.base import CreatedSource, Source, record_source
from unmask.types import Label, Outcome, Video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareResult:
    """What prepare did.

    Args:
        dataset: The face dataset.
        outcomes: Number of videos by outcome.
        num_reused: Videos that an earlier, interrupted run had finished.
        num_faces: Crops.
        seconds: Wall time.
    """

    dataset: Path
    outcomes: dict[str, int]
    num_reused: int
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
        output: Folder of the face dataset; a run that was interrupted there is continued.
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
    todo = [video for video in videos if video.video_id not in records]
    settings = {"detector": detector, "spec": spec, "root": output, "max_pixels": max_pixels}
    for video, record in _work(todo, settings, num_workers=num_workers):
        journal.append(video, record)
        records[video.video_id] = record
    ordered = [records[video.video_id] for video in videos]
    _check_usable(ordered, source)
    video_table, face_table = _build_tables(videos, ordered, groups, splits)
    info = _describe(source, spec, video_table, face_table, seed=seed)
    write_dataset(output, info=info, videos=video_table, faces=face_table)
    audit_splits(FaceDataset.load(output))
    _warn_of_shortcuts(video_table, face_table)
    outcomes = {str(name): int(count) for name, count in video_table["outcome"].value_counts().items()}
    return PrepareResult(output, outcomes, num_reused, len(face_table), time.monotonic() - start)


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


def _work(
    videos: Sequence[Video], settings: dict[str, Any], *, num_workers: int
) -> Iterator[tuple[Video, VideoRecord]]:
    """Yield each video with its record as it is finished, behind a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("Preparing videos", total=len(videos))
        jobs = _work_here if num_workers == 0 else _work_in_processes
        for pair in jobs(videos, settings, num_workers):
            progress.advance(task)
            yield pair


def _work_here(videos: Sequence[Video], settings: dict[str, Any], _: int) -> Iterator[tuple[Video, VideoRecord]]:
    for video in videos:
        yield video, prepare_video(video, **settings)


def _work_in_processes(
    videos: Sequence[Video], settings: dict[str, Any], num_workers: int
) -> Iterator[tuple[Video, VideoRecord]]:
    # Spawned, not forked: the progress bar's thread may hold a lock at the moment of a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker, initargs=(settings,))
    pending: dict[Future[VideoRecord], Video] = {}
    waiting = iter(videos)
    try:
        with pool:
            try:
                while True:
                    for video in waiting:
                        pending[pool.submit(_prepare_in_worker, video)] = video
                        if len(pending) >= 4 * num_workers:
                            break
                    if not pending:
                        return
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        record = future.result()  # raises while its video is still listed as pending
                        yield pending.pop(future), record
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool as error:
        names = (str(video.path) for video in pending.values())
        raise DatasetError(
            f"A worker process died, for want of memory or in a decoder, while these were in work:\n"
            f"{list_problems(names)}\n"
            f"What is finished is kept: run the same command again, with num_workers=0 to see which file it is."
        ) from error


_worker: dict[str, Any] = {}
"""Arguments of this worker process: sent once, since a detector that has loaded its weights is large."""


def _start_worker(settings: dict[str, Any]) -> None:
    _worker.update(settings)


def _prepare_in_worker(video: Video) -> VideoRecord:
    return prepare_video(video, **_worker)


def _check_usable(records: Sequence[VideoRecord], source: Source) -> None:
    if any(record.outcome == Outcome.OK for record in records):
        return
    problems = (f"{record.video_id}: {record.outcome}: {record.message}" for record in records)
    raise DatasetError(
        f"None of the {len(records)} videos of source '{source.name}' could be used:\n{list_problems(problems)}"
    )


def _build_tables(
    videos: Sequence[Video], records: Sequence[VideoRecord], groups: Sequence[int], splits: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    video_rows, face_rows = [], []
    for video, record, group, split in zip(videos, records, groups, splits, strict=True):
        row = {
            "video_id": video.video_id, "path": str(video.path), "kind": str(video.kind), "label": int(video.label),
            "method": video.method, "compression": video.compression, "identities": list(video.identities),
            "original": video.original, "group": group, "split": split, "outcome": str(record.outcome),
            "message": record.message, "frames": record.frames, "faces": len(record.crops), "fps": record.fps,
            "width": record.width, "height": record.height, "codec": record.codec,
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
