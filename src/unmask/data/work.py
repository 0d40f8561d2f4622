"""Prepare many videos: in worker processes, behind a progress bar, with a journal of finished ones."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask.data.audit import find_damaged
from unmask.data.prepare_video import VideoRecord, prepare_video
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError, OutputError, list_problems
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.media.image import MAX_PIXELS
from unmask.paths import writing
from unmask.processes import open_pool
from unmask.types import Outcome, Video

_REMADE_PREFIX = ".remade-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One video to prepare or repair.

    Args:
        video: The video.
        record: Record of an earlier run, if there is one.
        damaged: Crops of that record to make again; the others stay as they are.
    """

    video: Video
    record: VideoRecord | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workshop:
    """Everything that all tasks share.

    Args:
        detector: Face detector; None if the images are crops already.
        spec: How crops are made.
        root: Folder of the face dataset.
        max_pixels: Largest frame that is accepted.
    """

    detector: Detector | None
    spec: CropSpec
    root: Path
    max_pixels: int = MAX_PIXELS

    def work(self, task: Task) -> VideoRecord:
        """Return the record of a video."""
        make = partial(prepare_video, task.video, detector=self.detector, spec=self.spec, max_pixels=self.max_pixels)
        if task.record is None:
            return make(root=self.root)
        return _remake_crops(task.record, task.damaged, root=self.root, make=lambda folder: make(root=folder))


def plan_tasks(videos: Sequence[Video], records: Mapping[str, VideoRecord], workshop: Workshop) -> list[Task]:
    """List unfinished videos, and finished ones with missing or damaged crops.

    The tables of a dataset whose crops were made with another spec are removed, since those crops are about to be
    replaced one by one.
    """
    remove_remains(workshop.root)
    _remove_outdated_tables(workshop)
    damaged: dict[str, str] = {}
    if workshop.detector is not None:  # without one, images are indexed, not cropped
        crops = (crop.crop for record in records.values() for crop in record.crops)
        damaged = find_damaged(crops, root=workshop.root, size=workshop.spec.crop_size)
    if damaged:
        problems = (f"{workshop.root / crop}: {problem}" for crop, problem in damaged.items())
        logger.warning("Making %d crops again:\n%s", len(damaged), list_problems(problems))
    tasks = []
    for video in videos:
        record = records.get(video.video_id)
        bad = tuple(crop.crop for crop in record.crops if crop.crop in damaged) if record is not None else ()
        if record is None or bad:
            tasks.append(Task(video, record, bad))
    return tasks


def run_tasks(
    tasks: Sequence[Task], workshop: Workshop, journal: "Journal", *, num_workers: int
) -> dict[str, VideoRecord]:
    """Run the tasks, log each in the journal as soon as it finishes, and return the records by video."""
    records = {}
    with closing(work_on(tasks, workshop, num_workers=num_workers, description="Preparing videos")) as work:
        for task, record in work:
            try:
                journal.append(task.video, record)
            except OutputError:
                if task.record is None:  # no record would mention its crops
                    shutil.rmtree(workshop.root / "crops" / record.video_id, ignore_errors=True)
                raise
            records[task.video.video_id] = record
    return records


def _remove_outdated_tables(workshop: Workshop) -> None:
    path = workshop.root / "dataset.json"
    if path.is_file():
        with suppress(DatasetError):
            if FaceDataset.load(workshop.root).spec.hash == workshop.spec.hash:
                return
        with writing(path):
            path.unlink()


def count_remade(tasks: Sequence[Task], workshop: Workshop) -> int:
    """Count the crops that were made again, and warn about those that could not be."""
    crops = [crop for task in tasks for crop in task.damaged]
    left = find_damaged(crops, root=workshop.root, size=workshop.spec.crop_size)
    if left:
        problems = (f"{workshop.root / crop}: {problem}" for crop, problem in left.items())
        logger.warning("%d crops could not be made again:\n%s", len(left), list_problems(problems))
    return len(crops) - len(left)


Work = Generator[tuple[Task, VideoRecord], None, None]
"""Must be closed by whoever consumes it, even on errors: that ends the worker processes and the progress bar."""


def work_on(tasks: Sequence[Task], workshop: Workshop, *, num_workers: int, description: str) -> Work:
    """Yield each task with the record of its video as it finishes, behind a progress bar.

    Args:
        tasks: One for each video.
        workshop: Detector, spec and folder.
        num_workers: Number of processes; 0 works in this one.
        description: Text before the bar.

    Raises:
        DatasetError: A worker process died.
        OutputError: A crop cannot be written; finished videos are kept, and nothing of the others.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(description, total=len(tasks))
        jobs = _work_here(tasks, workshop) if num_workers == 0 else _work_in_processes(tasks, workshop, num_workers)
        with closing(jobs):
            for pair in jobs:
                progress.advance(bar)
                yield pair


def _work_here(tasks: Sequence[Task], workshop: Workshop) -> Work:
    for task in tasks:
        yield task, workshop.work(task)


def _work_in_processes(tasks: Sequence[Task], workshop: Workshop, num_workers: int) -> Work:
    pending: dict[Future[VideoRecord], Task] = {}
    waiting = iter(tasks)
    try:
        with open_pool(num_workers, initializer=partial(_receive, workshop)) as pool:
            while True:
                for task in waiting:
                    pending[pool.submit(_work_in_worker, task)] = task
                    if len(pending) >= 4 * num_workers:
                        break
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    record = future.result()  # raises while its video is still listed as pending
                    yield pending.pop(future), record
    except BrokenProcessPool as error:
        names = (str(task.video.path) for task in pending.values())
        raise DatasetError(
            f"A worker process died, out of memory or in a decoder, while these files were being processed:\n"
            f"{list_problems(names)}\n"
            f"Finished videos are kept: run the same command again, with num_workers=0 to see which file it is."
        ) from error
    finally:
        for future, task in pending.items():
            if task.record is None and not future.cancelled():
                shutil.rmtree(workshop.root / "crops" / task.video.video_id, ignore_errors=True)


_workshop: list[Workshop] = []
"""The workshop of this worker process: sent once, since a detector that has loaded its weights is large."""


def _receive(workshop: Workshop) -> None:
    _workshop[:] = [workshop]


def _work_in_worker(task: Task) -> VideoRecord:
    return _workshop[0].work(task)


def _remake_crops(
    record: VideoRecord, damaged: Collection[str], *, root: Path, make: Callable[[Path], VideoRecord]
) -> VideoRecord:
    """Prepare a video beside the dataset, and replace only the damaged crops.

    Args:
        record: Record of the video.
        damaged: Crops of the record to replace.
        root: Folder of the dataset.
        make: Prepares the video in a given folder.

    Returns:
        The record, with new rows for replaced crops. Crops that could not be made again, because the file has changed
        or can no longer be read, keep their rows.
    """
    with writing(root):
        folder = Path(tempfile.mkdtemp(prefix=_REMADE_PREFIX, dir=root))
    try:
        made = make(folder)
        rows = {row.crop: row for row in made.crops if row.crop in damaged and (folder / row.crop).is_file()}
        for crop in rows:
            with writing(root / crop):
                (root / crop).parent.mkdir(parents=True, exist_ok=True)
                (folder / crop).replace(root / crop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return replace(record, crops=tuple(rows.get(row.crop, row) for row in record.crops))


def remove_remains(root: Path) -> None:
    """Remove folders that a killed repair left in a dataset."""
    for folder in root.glob(f"{_REMADE_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


class Journal:
    """Finished videos of an unfinished prepare, one JSON line each, so that no video is processed twice.

    Args:
        path: The file, such as `<root>/prepare.jsonl`; need not exist.
        spec_hash: Hash of the crop spec: records made under another spec are ignored.
    """

    def __init__(self, path: Path, *, spec_hash: str) -> None:
        self.path = path
        self.spec_hash = spec_hash

    def read(self, videos: list[Video]) -> dict[str, VideoRecord]:
        """Return the records of videos whose file and crop spec have not changed, by `video_id`.

        Missing videos are tried again. A line cut off by an interruption is skipped.
        """
        if not self.path.is_file():
            return {}
        wanted = {video.video_id: video for video in videos}
        records: dict[str, VideoRecord] = {}
        for line in self.path.read_text().splitlines():
            try:
                entry: dict[str, Any] = json.loads(line)
            except ValueError:
                logger.warning("Skipped an unfinished line of '%s'; its video is processed again.", self.path)
                continue
            video = wanted.get(entry["record"]["video_id"])
            if video is None:
                continue
            records.pop(video.video_id, None)  # whatever its key: the crops on disk are those of the last line
            if entry["key"] == self._key(video):
                records[video.video_id] = VideoRecord.from_dict(entry["record"])
        return {name: record for name, record in records.items() if record.outcome != Outcome.MISSING}

    def has_changed(self, video: Video) -> bool:
        """Tell whether the file of a finished video exists and has changed since."""
        return self.path.is_file() and video.is_there and video.video_id not in self.read([video])

    def append(self, video: Video, record: VideoRecord) -> None:
        """Add a finished video; the line is on disk when this returns.

        Raises:
            OutputError: The disk is full, or the folder is not writable.
        """
        line = json.dumps({"key": self._key(video), "record": record.to_dict()}) + "\n"
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                size = file.tell()
                if size:
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line  # after a line that was cut off
                content = line.encode()
                try:
                    while content:
                        content = content[file.write(content) :]
                except OSError:
                    file.truncate(size)  # a full disk accepts part of it
                    raise

    def _key(self, video: Video) -> list[Any]:
        if not video.is_there:
            return [self.spec_hash, str(video.path), 0, 0]
        status = video.path.stat()
        return [self.spec_hash, str(video.path), status.st_size, status.st_mtime_ns]
