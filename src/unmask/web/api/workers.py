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
from unmask.web.api.jobs import Job, JobStore, predict_pictures, run_job, say_ready, start_worker
from unmask.web.api.responses import DISK_FULL, Problem
from unmask.web.api.settings import OF_SERVICE, ServiceSettings
from unmask.web.api.shares import Turn, Turns
from unmask.web.api.uploads import Upload

logger = logging.getLogger("unmask.web.api")


_SECONDS_WITHOUT_WORK = 300.0  # a process loads the model first, from a disk that may be slow
_SECONDS_TO_END = 30.0  # each process gets three before it is killed


class Pool:
    """A pool of processes that outlives the death of any of them.

    pebble replaces a process that dies at its work. One that dies while it waits may hold the lock that all share, and
    the whole pool is of no use any more; it is replaced then, and what it was given ends with a `BrokenProcessPool`.
    So is one whose processes take up nothing for minutes, such as where they hang as they start.

    Args:
        num_workers: Processes.
        initializer: Called in each as it starts.
        arguments: Of the initializer.
    """

    def __init__(self, num_workers: int, initializer: Callable[..., None], *arguments: Any) -> None:
        self._num_workers, self._initializer, self._arguments = num_workers, initializer, arguments
        self._lock = RLock()
        self._is_stopped = False
        self._open: set[Future[Any]] = set()
        self._idle_since: float | None = None
        self._pool = self._make()

    def _make(self) -> ProcessPool:
        # Spawned: a forked process would share the threads and sockets of this one in an undefined state.
        return ProcessPool(
            max_workers=self._num_workers, context=multiprocessing.get_context("spawn"),
            initializer=self._initializer, initargs=self._arguments,
        )  # fmt: skip

    def schedule(self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> "Future[Any]":
        """Give a call to the next process that is free.

        Args:
            function: Of a module that the processes can import.
            arguments: Of the call.
            timeout: Seconds after which its process is ended; None for none.

        Raises:
            RuntimeError: The pool has been stopped.
        """
        with self._lock:
            self.mend()
            task: Future[Any] = self._pool.schedule(function, args=arguments, timeout=timeout)
            self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    def mend(self) -> None:
        """Make the pool anew if it is broken; to be called now and then."""
        with self._lock:
            if self._is_stopped or (self._pool.active and not self._has_stalled()):
                return
            logger.warning("The processes broke and are started anew.")
            Thread(target=_end, args=(self._pool, self._open), daemon=True).start()  # which may take seconds
            self._pool, self._open, self._idle_since = self._make(), set(), None

    def _has_stalled(self) -> bool:
        """Tell whether calls have waited for long, and no process was at work whenever this was asked."""
        calls = [call for call in self._open.copy() if not call.done()]
        if not calls or any(call.running() for call in calls):
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or time.monotonic()
        return time.monotonic() - self._idle_since > _SECONDS_WITHOUT_WORK

    def stop(self) -> None:
        """End the processes, whatever they do."""
        with self._lock:
            self._is_stopped = True
        _end(self._pool, set())


def _end(pool: ProcessPool, tasks: "set[Future[Any]]") -> None:
    """End a pool, and those of its tasks that it forgot: of its own threads only one may have died."""
    pool.stop()  # type: ignore[no-untyped-call]
    # pebble waits without end for a thread that reads what a killed process did not write to the end.
    ending = Thread(target=_join, args=(pool,), daemon=True)
    ending.start()
    ending.join(_SECONDS_TO_END)
    if ending.is_alive():
        logger.warning("The processes did not end within %g s.", _SECONDS_TO_END)
    for task in list(tasks):
        with contextlib.suppress(InvalidStateError):  # it ended meanwhile
            task.set_exception(BrokenProcessPool("the processes broke"))


def _join(pool: ProcessPool) -> None:
    with contextlib.suppress(RuntimeError):  # of a pool that never started
        pool.join()


_MOST_ATTEMPTS = 2
_SLOW_IMAGE_SECONDS, _SLOW_VIDEO_SECONDS = 2.0, 60.0
_NOBODY = "nobody"  # whose job it was is not known after a restart
_TERMINATED = (signal.SIGTERM, -signal.SIGTERM)  # with pebble's handler of the signal, and without


class Workers:
    """Runs pictures and jobs in processes that are ended when they take too long.

    Args:
        settings: Of the service.
        store: Of the jobs.
        note_verdict: Told the verdict of each job that ends, or `error`.
    """

    def __init__(self, settings: ServiceSettings, store: JobStore, *, note_verdict: Callable[[str], None]) -> None:
        self._limits, self._model, self._store = settings.limits, settings.model, store
        self._note_verdict = note_verdict
        self._pictures = Pool(settings.image_workers, start_worker, settings.model)
        self._videos = Pool(settings.video_workers, start_worker, settings.model)
        self._picture_turns = Turns(settings.image_workers, slow_seconds=_SLOW_IMAGE_SECONDS)
        self._video_turns = Turns(settings.video_workers, slow_seconds=_SLOW_VIDEO_SECONDS)
        self._turns: dict[str, Turn] = {}  # of the jobs that wait or run
        self._running: dict[str, Future[Any]] = {}
        self._lock = RLock()  # what is in these two and what the store says change together
        self.is_ready = False

    async def start(self) -> None:
        """Start the processes, wait for one of each kind, and take up the jobs that an earlier service left.

        Raises:
            UnmaskError: The predictor cannot be loaded.
        """
        asked = [pool.schedule(say_ready, self._model) for pool in (self._pictures, self._videos)]
        await asyncio.gather(*map(asyncio.wrap_future, asked))
        self.is_ready = True
        await asyncio.to_thread(self.tend)

    def tend(self) -> None:
        """Mend what broke: processes that are gone, and open jobs that nobody works on."""
        for pool in (self._pictures, self._videos):
            pool.mend()
        with self._lock:
            for job in self._store.list_open():
                if job.id not in self._turns and self.is_ready:
                    self._begin_again(job)

    def stop(self) -> None:
        """End the processes; jobs that wait or run are gone on with by the next service."""
        self.is_ready = False
        for pool in (self._pictures, self._videos):
            pool.stop()
        self._store.release_all()

    async def score_pictures(self, uploads: list[Upload], *, heatmaps: bool, client: str) -> list[dict[str, Any]]:
        """Score pictures when it is the client's turn; see `predict_pictures`.

        Raises:
            Problem: They take too long, or end the process.
        """
        files = [(str(upload.path), upload.name) for upload in uploads]
        limit = self._limits.image_seconds
        try:
            async with self._picture_turns.one(client):
                return await self._try_pictures(partial(predict_pictures, self._model, files, heatmaps=heatmaps))
        except TimeoutError as error:
            detail = f"The pictures took longer than {limit:g} s (service.image_seconds). Send fewer or smaller ones."
            raise Problem(422, "too_slow", detail) from error
        except ProcessExpired as error:
            if error.exitcode in _TERMINATED:
                raise _ended_by_others() from error
            raise Problem(422, "crashed", "One of the files ended the process that read it.") from error

    async def _try_pictures(self, work: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Have pictures scored, and once more where the processes broke for another's sake."""
        for _ in range(2):
            task = self._pictures.schedule(work, timeout=self._limits.image_seconds)
            with contextlib.suppress(BrokenProcessPool):
                found: list[dict[str, Any]] = await asyncio.wrap_future(task)
                return found
        raise _ended_by_others()

    def add(self, upload: Upload, client: str) -> Job | None:
        """Take a video as a job, which begins when it is the client's turn; None where too many wait or run already."""
        with self._lock:
            job = self._store.add(upload.path, name=upload.name, most=self._limits.jobs)
            if job is not None:
                self._submit(job, client)
        return job

    def count_jobs(self, client: str) -> int:
        """Return how many jobs of a client wait or run."""
        with self._lock:
            return sum(turn.client == client for turn in self._turns.values())

    def _submit(self, job: Job, client: str) -> None:
        self._turns[job.id] = Turn(client, partial(self._begin, job))
        self._video_turns.ask(self._turns[job.id])

    def _begin(self, job: Job) -> None:
        with self._lock:
            if not self.is_ready or job.id not in self._turns:  # the service stops, or it was deleted just now
                return
            limit = self._limits.job_seconds
            task = self._videos.schedule(run_job, self._model, self._store, job.id, job.name, timeout=limit)
            self._running[job.id] = task
        task.add_done_callback(lambda done: self._end(job.id, done))

    def _leave(self, job_id: str) -> None:
        """Let the next job begin."""
        self._running.pop(job_id, None)
        turn = self._turns.pop(job_id, None)
        if turn is not None:
            self._video_turns.leave(turn)

    def cancel(self, job_id: str) -> None:
        """End a job, in the middle of its work if need be, and delete it."""
        with self._lock:
            task = self._running.get(job_id)
            self._leave(job_id)
            if task is not None:
                task.cancel()
            self._store.delete(job_id)

    def _end(self, job_id: str, task: "Future[Any]") -> None:
        """Keep how a job ended; one that was cancelled, or whose service stops, is left as it is."""
        with self._lock:
            if self._running.get(job_id) is not task:  # cancelled: another one may run under its name by now
                return
            self._leave(job_id)
            try:
                result = task.result()
            except (CancelledError, BrokenProcessPool):  # `tend` takes up the latter again
                return
            except TimeoutError:
                limit = self._limits.job_seconds
                self._fail(job_id, "too_slow", f"The video took longer than {limit:g} s (service.job_seconds). Cut it.")
            except MediaError as error:
                self._fail(job_id, "unreadable_file", tell_guest(error, where=OF_SERVICE))
            except OutputError as error:
                logger.error("%s", error, extra={"job": job_id})
                self._fail(job_id, "disk_full", DISK_FULL)
            except ProcessExpired as error:
                # Nobody's file does SIGTERM; whoever ends a service may, and `tend` takes the job up again.
                if self.is_ready and error.exitcode not in _TERMINATED:
                    self._fail(job_id, "crashed", "The file ended the process that read it.")
            except Exception:
                if self.is_ready:  # a pool that is being stopped may break under its own threads
                    logger.exception("defect", extra={"job": job_id})
                    self._fail(job_id, "defect", "The service failed; its log has the traceback.")
            else:
                self._store.finish(job_id, result)
                self._note_verdict(result["verdict"])

    def _fail(self, job_id: str, code: str, detail: str) -> None:
        self._store.fail(job_id, code=code, detail=detail)
        self._note_verdict("error")

    def _begin_again(self, job: Job) -> None:
        """Let a job wait whose process, or service, ended without it."""
        if job.attempts >= _MOST_ATTEMPTS:
            self._fail(job.id, "crashed", "The process that scored this video was ended twice.")
            return
        self._store.requeue(job.id)
        self._submit(job, f"{_NOBODY} {job.id}")


def _ended_by_others() -> Problem:
    detail = "The process that scored the pictures was ended. Try again in some seconds."
    return Problem(503, "busy", detail, headers={"Retry-After": "5"})
