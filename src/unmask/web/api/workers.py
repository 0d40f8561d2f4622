"""The worker processes, and the jobs that they are given."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from threading import RLock
from typing import Any

from pebble import ProcessExpired

from unmask.errors import MediaError, OutputError, tell_guest
from unmask.web.api.jobs import Job, JobStore
from unmask.web.api.pool import Pool
from unmask.web.api.problems import DISK_FULL, Problem
from unmask.web.api.settings import OF_SERVICE, ModelSettings, ServiceSettings
from unmask.web.api.shares import Turn, Turns
from unmask.web.api.uploads import Upload
from unmask.web.api.work import predict_job, predict_pictures, say_ready, start_worker

logger = logging.getLogger("unmask.web.api")

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
            task = self._videos.schedule(_run_job, self._model, self._store, job.id, job.name, timeout=limit)
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


def _run_job(model: ModelSettings, store: JobStore, job_id: str, name: str) -> dict[str, Any]:
    store.begin(job_id)
    return predict_job(model, store, job_id, name)
