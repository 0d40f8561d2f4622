"""The worker processes, and the requests and jobs they are given."""

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from threading import RLock, Thread
from typing import Any

from pebble import ProcessExpired, ProcessPool

from unmask.errors import MediaError, OutputError, tell_guest
from unmask.web.api.jobs import Job, JobStore, predict_images, run_job, say_ready, start_worker
from unmask.web.api.responses import DISK_FULL, Problem
from unmask.web.api.settings import OF_SERVICE, ServiceSettings
from unmask.web.api.shares import Turn, Turns
from unmask.web.api.uploads import Upload

logger = logging.getLogger("unmask.web.api")


_SECONDS_WITHOUT_WORK = 300.0  # a new process first loads the model, perhaps from a slow disk
_SECONDS_TO_END = 30.0  # pebble kills a process after three


class Pool:
    """A process pool that survives the death of any of its processes.

    pebble replaces a process that dies while working. One that dies while idle may hold the lock that all share, which
    makes the whole pool unusable; the pool is then replaced, and its pending calls end with `BrokenProcessPool`. The
    same happens when its processes accept no work for minutes, for example because they hang at startup.

    Args:
        num_workers: Number of processes.
        initializer: Function that each process calls at startup.
        arguments: Arguments of the initializer.
    """

    def __init__(self, num_workers: int, initializer: Callable[..., None], *arguments: Any) -> None:
        self._num_workers, self._initializer, self._arguments = num_workers, initializer, arguments
        self._lock = RLock()
        self._is_stopped = False
        self._open: set[Future[Any]] = set()
        self._idle_since: float | None = None
        self._pool = self._make()

    def _make(self) -> ProcessPool:
        # Spawn: a forked process would inherit threads and sockets in an undefined state.
        return ProcessPool(
            max_workers=self._num_workers, context=multiprocessing.get_context("spawn"),
            initializer=self._initializer, initargs=self._arguments,
        )  # fmt: skip

    def schedule(self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> "Future[Any]":
        """Submit a call to the next free process.

        Args:
            function: Function that the processes can import.
            arguments: Arguments of the call.
            timeout: Seconds after which the process is terminated; None for no limit.

        Raises:
            RuntimeError: The pool is stopped.
        """
        with self._lock:
            self.repair()
            task: Future[Any] = self._pool.schedule(function, args=arguments, timeout=timeout)
            self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    def repair(self) -> None:
        """Replace the pool if it is broken; call this regularly."""
        with self._lock:
            if self._is_stopped or (self._pool.active and not self._has_stalled()):
                return
            logger.warning("The process pool broke and is being restarted.")
            Thread(target=_end, args=(self._pool, self._open), daemon=True).start()  # takes seconds
            self._pool, self._open, self._idle_since = self._make(), set(), None

    def _has_stalled(self) -> bool:
        """Return whether calls have waited for minutes while no process was seen working."""
        calls = [call for call in self._open.copy() if not call.done()]
        if not calls or any(call.running() for call in calls):
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or time.monotonic()
        return time.monotonic() - self._idle_since > _SECONDS_WITHOUT_WORK

    def stop(self) -> None:
        """Terminate the processes, busy or not."""
        with self._lock:
            self._is_stopped = True
        _end(self._pool, set())


def _end(pool: ProcessPool, tasks: "set[Future[Any]]") -> None:
    """Stop a pool and fail its pending tasks: if one of its threads died, it cannot do so itself."""
    pool.stop()  # type: ignore[no-untyped-call]
    # pebble can wait forever for a thread that reads the unfinished output of a killed process.
    ending = Thread(target=_join, args=(pool,), daemon=True)
    ending.start()
    ending.join(_SECONDS_TO_END)
    if ending.is_alive():
        logger.warning("The worker processes did not end within %g s.", _SECONDS_TO_END)
    for task in list(tasks):
        with contextlib.suppress(InvalidStateError):  # it has ended meanwhile
            task.set_exception(BrokenProcessPool("the process pool broke"))


def _join(pool: ProcessPool) -> None:
    with contextlib.suppress(RuntimeError):  # the pool never started
        pool.join()


_MOST_ATTEMPTS = 2
_SLOW_IMAGE_SECONDS, _SLOW_VIDEO_SECONDS = 2.0, 60.0
_NOBODY = "nobody"  # a job's owner is unknown after a restart
_TERMINATED = (signal.SIGTERM, -signal.SIGTERM)  # with and without pebble's signal handler


class Workers:
    """Runs image requests and jobs in processes, which it terminates when they take too long.

    Args:
        settings: Settings of the service.
        store: Store of the jobs.
        note_verdict: Callback for the verdict of each finished job, or `error`.
    """

    def __init__(self, settings: ServiceSettings, store: JobStore, *, note_verdict: Callable[[str], None]) -> None:
        self._limits, self._model, self._store = settings.limits, settings.model, store
        self._note_verdict = note_verdict
        self._images = Pool(settings.image_workers, start_worker, settings.model)
        self._videos = Pool(settings.video_workers, start_worker, settings.model)
        self._image_turns = Turns(settings.image_workers, slow_seconds=_SLOW_IMAGE_SECONDS)
        self._video_turns = Turns(settings.video_workers, slow_seconds=_SLOW_VIDEO_SECONDS)
        self._turns: dict[str, Turn] = {}  # of queued and running jobs
        self._running: dict[str, Future[Any]] = {}
        self._lock = RLock()  # keeps these two and the store consistent
        self.is_ready = False

    async def start(self) -> None:
        """Start the processes, wait for one of each kind, and resume the jobs of an earlier service.

        Raises:
            UnmaskError: The predictor cannot be loaded.
        """
        asked = [pool.schedule(say_ready, self._model) for pool in (self._images, self._videos)]
        await asyncio.gather(*map(asyncio.wrap_future, asked))
        self.is_ready = True
        await asyncio.to_thread(self.tend)

    def tend(self) -> None:
        """Repair broken pools and restart open jobs without a process."""
        for pool in (self._images, self._videos):
            pool.repair()
        with self._lock:
            for job in self._store.list_open():
                if job.id not in self._turns and self.is_ready:
                    self._begin_again(job)

    def stop(self) -> None:
        """Terminate the processes; the next service resumes open jobs."""
        self.is_ready = False
        for pool in (self._images, self._videos):
            pool.stop()
        self._store.release_all()

    async def score_images(self, uploads: list[Upload], *, heatmaps: bool, client: str) -> list[dict[str, Any]]:
        """Score images when it is the client's turn; see `predict_images`.

        Raises:
            Problem: The images take too long, or crash the process.
        """
        files = [(str(upload.path), upload.name) for upload in uploads]
        limit = self._limits.image_seconds
        try:
            async with self._image_turns.one(client):
                return await self._try_images(partial(predict_images, self._model, files, heatmaps=heatmaps))
        except TimeoutError as error:
            detail = f"The images took longer than {limit:g} s (service.image_seconds). Send fewer or smaller ones."
            raise Problem(422, "too_slow", detail) from error
        except ProcessExpired as error:
            if error.exitcode in _TERMINATED:
                raise _ended_by_others() from error
            raise Problem(422, "crashed", "One of the files crashed the process that read it.") from error

    async def _try_images(self, work: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Score images, and retry once if another task broke the pool."""
        for _ in range(2):
            task = self._images.schedule(work, timeout=self._limits.image_seconds)
            with contextlib.suppress(BrokenProcessPool):
                found: list[dict[str, Any]] = await asyncio.wrap_future(task)
                return found
        raise _ended_by_others()

    def add(self, upload: Upload, client: str) -> Job | None:
        """Queue a video as a job, which begins when it is the client's turn; return None when the queue is full."""
        with self._lock:
            job = self._store.add(upload.path, name=upload.name, most=self._limits.jobs)
            if job is not None:
                self._submit(job, client)
        return job

    def count_jobs(self, client: str) -> int:
        """Return the number of open jobs of a client."""
        with self._lock:
            return sum(turn.client == client for turn in self._turns.values())

    def _submit(self, job: Job, client: str) -> None:
        self._turns[job.id] = Turn(client, partial(self._begin, job))
        self._video_turns.ask(self._turns[job.id])

    def _begin(self, job: Job) -> None:
        with self._lock:
            if not self.is_ready or job.id not in self._turns:  # the service is stopping, or the job was just deleted
                return
            limit = self._limits.job_seconds
            task = self._videos.schedule(run_job, self._model, self._store, job.id, job.name, timeout=limit)
            self._running[job.id] = task
        task.add_done_callback(lambda done: self._end(job.id, done))

    def _leave(self, job_id: str) -> None:
        """Release the worker of a job, so that the next one begins."""
        self._running.pop(job_id, None)
        turn = self._turns.pop(job_id, None)
        if turn is not None:
            self._video_turns.leave(turn)

    def cancel(self, job_id: str) -> None:
        """Cancel a job, running or not, and delete it."""
        with self._lock:
            task = self._running.get(job_id)
            self._leave(job_id)
            if task is not None:
                task.cancel()
            self._store.delete(job_id)

    def _end(self, job_id: str, task: "Future[Any]") -> None:
        """Store how a job ended; leave it unchanged if it was cancelled or the service is stopping."""
        with self._lock:
            if self._running.get(job_id) is not task:  # cancelled: its ID may be running again
                return
            self._leave(job_id)
            try:
                result = task.result()
            except (CancelledError, BrokenProcessPool):  # `tend` restarts the latter
                return
            except TimeoutError:
                limit = self._limits.job_seconds
                self._fail(job_id, "too_slow", f"The video took over {limit:g} s (service.job_seconds). Trim it.")
            except MediaError as error:
                self._fail(job_id, "unreadable_file", tell_guest(error, where=OF_SERVICE))
            except OutputError as error:
                logger.error("%s", error, extra={"job": job_id})
                self._fail(job_id, "disk_full", DISK_FULL)
            except ProcessExpired as error:
                # A file does not cause SIGTERM, a shutdown does; `tend` restarts the job.
                if self.is_ready and error.exitcode not in _TERMINATED:
                    self._fail(job_id, "crashed", "The file crashed the process that read it.")
            except Exception:
                if self.is_ready:  # stopping a pool may break its own threads
                    logger.exception("defect", extra={"job": job_id})
                    self._fail(job_id, "defect", "The service failed; its log has the traceback.")
            else:
                self._store.finish(job_id, result)
                self._note_verdict(result["verdict"])

    def _fail(self, job_id: str, code: str, detail: str) -> None:
        self._store.fail(job_id, code=code, detail=detail)
        self._note_verdict("error")

    def _begin_again(self, job: Job) -> None:
        """Requeue a job whose process or service died."""
        if job.attempts >= _MOST_ATTEMPTS:
            self._fail(job.id, "crashed", "The process that scored this video died twice.")
            return
        self._store.requeue(job.id)
        self._submit(job, f"{_NOBODY} {job.id}")


def _ended_by_others() -> Problem:
    detail = "The process that scored the images was terminated. Retry in a few seconds."
    return Problem(503, "busy", detail, headers={"Retry-After": "5"})
