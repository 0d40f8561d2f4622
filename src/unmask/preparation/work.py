"""Prepare many videos with a runner, a progress bar and a journal of finished videos."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask.data.audit import find_damaged
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError, OutputError, list_problems
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec, list_differences
from unmask.media.image import MAX_PIXELS
from unmask.paths import remove_parts, writing
from unmask.preparation.originals import Guide, find_guides, report_own_boxes
from unmask.preparation.prepare_video import prepare_video
from unmask.preparation.records import Journal, VideoRecord, is_guided
from unmask.processes import open_pool
from unmask.types import Video

_REMADE_PREFIX = ".remade-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One video to prepare or repair.

    Args:
        video: Video to process.
        record: Record from an earlier run, if any.
        damaged: Crops of that record to recreate; the others are left unchanged.
        guide: Original whose boxes the video reuses, if an earlier run has finished it; see `work_on`.
    """

    video: Video
    record: VideoRecord | None = None
    damaged: tuple[str, ...] = ()
    guide: Guide | None = None


@dataclass(frozen=True)
class Workshop:
    """Settings shared by all tasks.

    Args:
        detector: Face detector; None if the images are already crops.
        spec: Crop settings.
        root: Folder of the face dataset.
        max_pixels: Maximum number of pixels of an image or video frame.
        shard: Name of the shard, such as `2-of-5`, whose temporary folders other shards leave alone; "" without shards.
    """

    detector: Detector | None
    spec: CropSpec
    root: Path
    max_pixels: int = MAX_PIXELS
    shard: str = ""

    def work(self, task: Task) -> VideoRecord:
        """Prepare a video, or recreate its damaged crops, and return its record."""
        make = partial(
            prepare_video, task.video,
            detector=self.detector, spec=self.spec, max_pixels=self.max_pixels, guide=task.guide,
        )  # fmt: skip
        if task.record is None:
            return make(root=self.root)
        return _remake_crops(
            task.record, task.damaged, root=self.root, shard=self.shard, make=lambda folder: make(root=folder)
        )


@dataclass(frozen=True)
class Worked:
    """Result of `work_through`.

    Args:
        records: Record of each video by `video_id`.
        num_reused: Number of videos finished by an earlier, interrupted run.
        num_repaired: Number of missing or damaged crops in those videos that were recreated.
    """

    records: dict[str, VideoRecord]
    num_reused: int
    num_repaired: int


def work_through(videos: Sequence[Video], workshop: Workshop, journal: Journal, *, runner: "Runner") -> Worked:
    """Prepare the videos that an earlier run has not finished, and recreate missing and damaged crops of the others.

    Args:
        videos: Videos to prepare.
        workshop: Detector, spec and folder.
        journal: Journal of finished videos.
        runner: Where the work runs.

    Raises:
        DatasetError: A worker died.
        OutputError: The disk is full; finished videos are kept.
    """
    records = journal.read_finished()
    num_reused = len(records)
    if num_reused:
        logger.info("Resuming: %d of %d videos are already finished.", num_reused, len(videos))
    tasks = plan_tasks(videos, records, workshop)
    records |= run_tasks(tasks, workshop, journal, runner=runner)
    return Worked(records, num_reused, report_work(tasks, workshop, videos=videos, records=records))


def plan_tasks(videos: Sequence[Video], records: Mapping[str, VideoRecord], workshop: Workshop) -> list[Task]:
    """List unfinished videos, and finished ones with missing or damaged crops.

    Removes the tables of an existing dataset with a different spec, because its crops are about to be replaced.
    """
    remove_remains(workshop.root, shard=workshop.shard)
    remove_outdated_tables(workshop)
    damaged: dict[str, str] = {}
    if workshop.detector is not None:  # without a detector, images are indexed in place
        crops = (crop.crop for record in records.values() for crop in record.crops)
        damaged = find_damaged(crops, root=workshop.root, size=workshop.spec.crop_size)
    if damaged:
        problems = (f"{workshop.root / crop}: {problem}" for crop, problem in damaged.items())
        logger.warning("Recreating %d missing or damaged crops:\n%s", len(damaged), list_problems(problems))
    tasks, guides = [], find_guides(videos, videos, records, workshop.spec)
    for video in videos:
        record = records.get(video.video_id)
        bad = tuple(crop.crop for crop in record.crops if crop.crop in damaged) if record is not None else ()
        if record is None or bad:
            tasks.append(Task(video, record, bad, guides.get(str(video.original))))
    return tasks


def run_tasks(
    tasks: Sequence[Task], workshop: Workshop, journal: Journal, *, runner: "Runner"
) -> dict[str, VideoRecord]:
    """Run the tasks, append each record to the journal as it finishes, and return the records by `video_id`."""
    records = {}
    with closing(work_on(tasks, workshop, runner=runner, description="Preparing videos")) as work:
        for task, record in work:
            try:
                journal.append(task.video, record)
            except OutputError:
                if task.record is None:  # otherwise no record refers to its crops
                    shutil.rmtree(workshop.root / "crops" / record.video_id, ignore_errors=True)
                raise
            records[task.video.video_id] = record
    return records


def remove_outdated_tables(workshop: Workshop) -> None:
    """Remove `dataset.json`, which marks a complete dataset, if its crops were made with another spec."""
    path = workshop.root / "dataset.json"
    if path.is_file():
        with suppress(DatasetError):
            spec = FaceDataset.load(workshop.root).spec
            if spec.hash == workshop.spec.hash:
                return
            changes = (f"{key}: {old!r}, now {new!r}" for key, old, new in list_differences(spec, workshop.spec))
            logger.warning("Making all crops of '%s' again with other settings: %s.", workshop.root, ", ".join(changes))
        with writing(path):
            path.unlink(missing_ok=True)  # other shards do the same


def report_work(
    tasks: Sequence[Task], workshop: Workshop, *, videos: Sequence[Video], records: Mapping[str, VideoRecord]
) -> int:
    """Log what deviates from the settings, and return the number of recreated crops.

    Args:
        tasks: Finished tasks.
        workshop: Workshop that did them.
        videos: All videos.
        records: Records of all videos by `video_id`.
    """
    report_own_boxes(videos, records, workshop.spec)
    return _count_remade(tasks, workshop)


def _count_remade(tasks: Sequence[Task], workshop: Workshop) -> int:
    """Count the recreated crops, and warn about those that could not be recreated."""
    crops = [crop for task in tasks for crop in task.damaged]
    left = find_damaged(crops, root=workshop.root, size=workshop.spec.crop_size)
    if left:
        problems = (f"{workshop.root / crop}: {problem}" for crop, problem in left.items())
        logger.warning("%d crops could not be recreated:\n%s", len(left), list_problems(problems))
    return len(crops) - len(left)


Work = Generator[tuple[Task, VideoRecord], None, None]
"""The consumer must close it, even on errors, to stop the worker processes and the progress bar."""


class Runner(Protocol):
    """Where the work runs, such as processes of this machine."""

    def run(self, tasks: Sequence[Task], workshop: Workshop) -> Work:
        """Yield each task with its record as it finishes, in any order.

        Raises:
            DatasetError: A worker died.
            OutputError: A crop cannot be written; finished videos are kept, crops of unfinished ones are removed.
        """
        ...


@dataclass(frozen=True)
class LocalRunner:
    """Runs the work on this machine.

    Args:
        num_workers: Number of worker processes; 0 runs in this process, None starts one per core.
    """

    num_workers: int | None = None

    def run(self, tasks: Sequence[Task], workshop: Workshop) -> Work:
        """Yield each task with its record as it finishes."""
        num_workers = (os.cpu_count() or 1) if self.num_workers is None else self.num_workers
        return _work_here(tasks, workshop) if num_workers == 0 else _work_in_processes(tasks, workshop, num_workers)


def work_on(tasks: Sequence[Task], workshop: Workshop, *, runner: Runner, description: str) -> Work:
    """Yield each task with its record as it finishes, and show a progress bar.

    Originals come before the forgeries that reuse their boxes.

    Args:
        tasks: One task per video.
        workshop: Detector, spec and folder.
        runner: Where the work runs.
        description: Label of the progress bar.

    Raises:
        DatasetError: A worker died.
        OutputError: A crop cannot be written; finished videos are kept, crops of unfinished ones are removed.
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
        guided = [task for task in tasks if is_guided(task.video, workshop.spec)]
        wanted, guides = {task.video.original for task in guided}, dict[str, Guide]()
        for later in (False, True) if guided else (False,):
            wave = guided if later else [task for task in tasks if not is_guided(task.video, workshop.spec)]
            if later:
                wave = [replace(task, guide=guides.get(str(task.video.original), task.guide)) for task in wave]
            with closing(runner.run(wave, workshop)) as jobs:
                for task, record in jobs:
                    progress.advance(bar)
                    if task.video.video_id in wanted:
                        guides[task.video.video_id] = Guide(task.video, record)
                    yield task, record


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
                    record = future.result()  # if this raises, the error message below still lists the video
                    yield pending.pop(future), record
    except BrokenProcessPool as error:
        names = (str(task.video.path) for task in pending.values())
        raise DatasetError(
            f"A worker process died (out of memory, or a crash in a decoder) while processing these files:\n"
            f"{list_problems(names)}\n"
            f"Finished videos are kept. Run the same command again; num_workers=0 shows which file is the cause."
        ) from error
    finally:
        discard_crops([task for future, task in pending.items() if not future.cancelled()], workshop)


def discard_crops(tasks: Iterable[Task], workshop: Workshop) -> None:
    """Remove what unfinished tasks have written; crops of finished videos are kept."""
    for task in tasks:
        if task.record is None:
            shutil.rmtree(workshop.root / "crops" / task.video.video_id, ignore_errors=True)


_workshop: list[Workshop] = []
"""Workshop of this worker process, sent only once because a detector with its weights is large."""


def _receive(workshop: Workshop) -> None:
    _workshop[:] = [workshop]


def _work_in_worker(task: Task) -> VideoRecord:
    return _workshop[0].work(task)


def _remake_crops(
    record: VideoRecord, damaged: Collection[str], *, root: Path, shard: str, make: Callable[[Path], VideoRecord]
) -> VideoRecord:
    """Prepare a video in a temporary folder, and replace only the damaged crops.

    Args:
        record: Record of the video.
        damaged: Crops of the record to replace.
        root: Folder of the face dataset.
        shard: Name of the shard, or "".
        make: Function that prepares the video in a given folder.

    Returns:
        The record with new rows for replaced crops. Crops that cannot be recreated, because the file has changed or
        can no longer be read, keep their rows.
    """
    with writing(root):
        folder = Path(tempfile.mkdtemp(prefix=_REMADE_PREFIX + shard, dir=root))
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


def remove_remains(root: Path, *, shard: str = "") -> None:
    """Remove temporary folders and files that a killed run left in a dataset, or those of one shard."""
    for folder in root.glob(f"{_REMADE_PREFIX}{shard}*"):
        shutil.rmtree(folder, ignore_errors=True)
    if not shard:  # part files of other shards may be those of another machine
        remove_parts(root, is_deep=False)
