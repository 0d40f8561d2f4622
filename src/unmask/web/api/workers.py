"""The worker processes, and the jobs that they are given."""

import asyncio
import contextlib
import logging
import multiprocessing
import signal
from concurrent.futures import CancelledError, Future, TimeoutError
from typing import Any

from pebble import ProcessExpired, ProcessPool

from unmask.errors import MediaError
from unmask.web.api.jobs import Job, JobStore
from unmask.web.api.problems import Problem
from unmask.web.api.settings import ServiceSettings
from unmask.web.api.uploads import Upload
from unmask.web.api.work import predict_job, predict_pictures, say_ready, start_worker

logger = logging.getLogger("unmask.web.api")

_MOST_ATTEMPTS = 2
_TERMINATED = (signal.SIGTERM, -signal.SIGTERM)  # with pebble's handler of the signal, and without


class Workers:
    """Runs pictures and jobs in processes that are ended when they take too long.

    Args:
        settings: Of the service.
        store: Of the jobs.
    """

    def __init__(self, settings: ServiceSettings, store: JobStore) -> None:
        self._settings, self._store = settings, store
        self._pictures = self._make_pool(settings.image_workers)
        self._videos = self._make_pool(settings.video_workers)
        self._running: dict[str, Future[Any]] = {}
        self.is_ready = False

    def _make_pool(self, num_workers: int) -> ProcessPool:
        # Spawned: a forked process would share the threads and sockets of this one in an undefined state.
        context = multiprocessing.get_context("spawn")
        return ProcessPool(
            max_workers=num_workers, context=context, initializer=start_worker, initargs=(self._settings.model,)
        )

    async def start(self) -> None:
        """Start the processes, then go on with the jobs that an earlier service left.

        Raises:
            Exception: What the predictor cannot be loaded for.
        """
        asked = [
            asyncio.wrap_future(pool.schedule(say_ready))
            for pool, count in ((self._pictures, self._settings.image_workers), (self._videos, 1))
            for _ in range(count)
        ]
        await asyncio.gather(*asked)
        self.is_ready = True
        for job in self._store.list_open():
            if job.attempts >= _MOST_ATTEMPTS:
                self._store.fail(job.id, code="crashed", detail="The service ended twice while it scored this video.")
            else:
                self._store.requeue(job.id)
                self.submit(job)

    def stop(self) -> None:
        """End the processes; jobs that wait or run are gone on with by the next service."""
        self.is_ready = False
        for pool in (self._pictures, self._videos):
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()
        self._store.release_all()

    async def score_pictures(self, uploads: list[Upload], *, heatmaps: bool) -> list[dict[str, Any]]:
        """Score pictures; see `predict_pictures`.

        Raises:
            Problem: They take too long, or end the process.
        """
        files = [(str(upload.path), upload.name) for upload in uploads]
        limit = self._settings.limits.image_seconds
        task = self._pictures.schedule(
            predict_pictures, args=(self._settings.model, files), kwargs={"heatmaps": heatmaps}, timeout=limit
        )
        try:
            found: list[dict[str, Any]] = await asyncio.wrap_future(task)
        except TimeoutError as error:
            detail = f"The pictures took longer than {limit:g} s. Send fewer or smaller ones."
            raise Problem(422, "too_slow", detail) from error
        except ProcessExpired as error:
            raise Problem(422, "crashed", "One of the files ended the process that read it.") from error
        return found

    def submit(self, job: Job) -> None:
        """Give a job to the next process that is free."""
        task: Future[Any] = self._videos.schedule(
            _run_job,
            args=(self._settings.model, self._store, job.id, job.name),
            timeout=self._settings.limits.job_seconds,
        )
        self._running[job.id] = task
        task.add_done_callback(lambda done: self._end(job.id, done))

    def cancel(self, job_id: str) -> None:
        """End a job, in the middle of its work if need be."""
        task = self._running.pop(job_id, None)
        if task is not None:
            task.cancel()

    def _end(self, job_id: str, task: "Future[Any]") -> None:
        """Keep how a job ended; one that was cancelled, or whose service stops, is left as it is."""
        self._running.pop(job_id, None)
        try:
            result = task.result()
        except CancelledError:
            return
        except TimeoutError:
            limit = self._settings.limits.job_seconds
            self._store.fail(job_id, code="too_slow", detail=f"The video took longer than {limit:g} s. Cut it.")
        except MediaError as error:
            self._store.fail(job_id, code="unreadable_file", detail=str(error))
        except ProcessExpired as error:
            if error.exitcode in _TERMINATED:
                self._begin_again(job_id)
            elif self.is_ready:
                self._store.fail(job_id, code="crashed", detail="The file ended the process that read it.")
        except Exception:
            if not self.is_ready:  # a pool that is being stopped may break under its own threads
                return
            logger.exception("defect", extra={"job": job_id})
            self._store.fail(job_id, code="defect", detail="The service failed; its log has the traceback.")
        else:
            self._store.finish(job_id, result)

    def _begin_again(self, job_id: str) -> None:
        """Let a job wait whose process somebody ended: no file does that, but whoever ends a service may."""
        job = self._store.find(job_id)
        if job is None or not self.is_ready:
            return
        if job.attempts >= _MOST_ATTEMPTS:
            self._store.fail(job_id, code="crashed", detail="The process that scored this video was ended twice.")
            return
        self._store.requeue(job_id)
        with contextlib.suppress(RuntimeError):  # of a pool that has been stopped: the next service goes on with it
            self.submit(job)


def _run_job(*arguments: Any) -> dict[str, Any]:
    _, store, job_id, _ = arguments
    store.begin(job_id)
    return predict_job(*arguments)
