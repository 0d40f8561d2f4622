"""Do the same work for many things, in worker processes, under a progress bar."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int, description: str) -> list[Result]:
    """Return the result of every job, in the order of the jobs.

    Args:
        work: A function of a module: workers import it.
        jobs: Picklable.
        num_workers: Processes; with 0 or 1 the work is done in this one.
        description: Shown before the progress bar.
    """
    results: dict[int, Result] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(description, total=len(jobs))
        for index, result in _complete(work, jobs, num_workers=min(num_workers, len(jobs))):
            results[index] = result
            progress.advance(task)
    return [results[index] for index in range(len(jobs))]


def _complete(work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int) -> Iterator[tuple[int, Result]]:
    if num_workers <= 1:
        for index, job in enumerate(jobs):
            yield index, work(job)
        return
    # Spawned, not forked: the progress bar runs a thread, and a fork would copy its locks as they stand.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        futures = {pool.submit(work, job): index for index, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
