"""Work on many videos, in worker processes, under a progress bar."""

import shutil
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unmask.data.prepare_video import VideoRecord, prepare_video
from unmask.data.remake import remake_crops
from unmask.errors import DatasetError, list_problems
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.media.picture import MAX_PIXELS
from unmask.processes import open_pool
from unmask.types import Video


@dataclass(frozen=True)
class Task:
    """What is to be done of a video.

    Args:
        video: A video or picture.
        record: Of an earlier run; None where there is none.
        damaged: Crops of that record that are to be made again; the others stay as they are.
    """

    video: Video
    record: VideoRecord | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workshop:
    """What all videos are worked on with.

    Args:
        detector: Finds faces; None where pictures are crops already.
        spec: How crops are made.
        root: Of the face dataset.
        max_pixels: A picture or video with larger frames is refused.
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
        return remake_crops(task.record, task.damaged, root=self.root, make=lambda folder: make(root=folder))


Work = Generator[tuple[Task, VideoRecord], None, None]
"""To be closed, whatever happens to who takes its items: it ends the worker processes and the progress bar."""


def work_on(tasks: Sequence[Task], workshop: Workshop, *, num_workers: int, description: str) -> Work:
    """Yield each task with the record of its video as it is finished, behind a progress bar.

    Args:
        tasks: One a video.
        workshop: Detector, spec and folder.
        num_workers: Processes; 0 works in this one.
        description: Shown before the bar.

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
            f"A worker process died, for want of memory or in a decoder, while these were in work:\n"
            f"{list_problems(names)}\n"
            f"What is finished is kept: run the same command again, with num_workers=0 to see which file it is."
        ) from error
    finally:
        for future, task in pending.items():
            if task.record is None and not future.cancelled():
                shutil.rmtree(workshop.root / "crops" / task.video.video_id, ignore_errors=True)


_workshop: list[Workshop] = []
"""Of this worker process: sent once, since a detector that has loaded its weights is large."""


def _receive(workshop: Workshop) -> None:
    _workshop[:] = [workshop]


def _work_in_worker(task: Task) -> VideoRecord:
    return _workshop[0].work(task)
