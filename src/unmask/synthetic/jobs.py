"""Do the same work for many things, in worker processes, under a progress bar."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from typing import TypeVar

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unmask.errors import SourceError
from unmask.processes import open_pool

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int, description: str) -> list[Result]:
    """Return the result of every job, in the order of the jobs.

    Args:
        work: A function of a module: workers import it.
        jobs: Picklable.
        num_workers: Processes; with 0 or 1 the work is done in this one.
        description: Shown before the progress bar.

    Raises:
        SourceError: A worker process died.
    """
    results: dict[int, Result] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(description, total=len(jobs))
        done = _complete(work, jobs, num_workers=min(num_workers, len(jobs)), description=description)
        with closing(done):
            for index, result in done:
                results[index] = result
                progress.advance(task)
    return [results[index] for index in range(len(jobs))]


def _complete(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int, description: str
) -> Generator[tuple[int, Result], None, None]:
    if num_workers <= 1:
        for index, job in enumerate(jobs):
            yield index, work(job)
        return
    with open_pool(num_workers, initializer=partial(cv2.setNumThreads, 1)) as pool:
        futures = {pool.submit(work, job): index for index, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise SourceError(
                f"A worker process died while it was {description.lower()}, perhaps for want of memory. What is "
                f"finished is kept: run the same command again, with fewer processes (num_workers=...)."
            ) from error
