"""The service behind the routes: its model, its workers, its jobs, and how much it takes on."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from unmask.inference.bundle import Bundle, is_bundle, load_bundle
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.web.api.jobs import Job, JobStore
from unmask.web.api.keys import check_hashes
from unmask.web.api.observe import Figures
from unmask.web.api.problems import Problem
from unmask.web.api.settings import ServiceSettings
from unmask.web.api.uploads import Upload
from unmask.web.api.workers import Workers

logger = logging.getLogger("unmask.web.api")

_SECONDS_BETWEEN_SWEEPS = 60.0


class Service:
    """All that outlives a request.

    Args:
        settings: Of the service.

    Raises:
        CheckpointError: The model cannot be read.
        ConfigError: A key is none.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        check_hashes(settings.api_keys)
        self.settings = settings
        self.model = _describe_model(settings)
        self.uploads = settings.folder / "uploads"
        self.store = JobStore(settings.folder / "jobs")
        self.figures = Figures(self.store.count)
        self._open_requests = 0
        self.workers: Any = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have workers for a while, and delete what is old."""
        shutil.rmtree(self.uploads, ignore_errors=True)  # of a service that was killed
        self.store.create()
        self.workers = Workers(self.settings, self.store)
        starting, sweeping = asyncio.create_task(self._start()), asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            for task in (starting, sweeping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(self.workers.stop)

    async def _start(self) -> None:
        try:
            await self.workers.start()
            logger.info("ready", extra={"model": self.settings.model.path})
        except Exception:
            logger.exception("The workers cannot load the model; /readyz stays 503.")

    async def _sweep(self) -> None:
        while True:
            deleted = await asyncio.to_thread(self.store.delete_old, seconds=self.settings.limits.keep_hours * 3600)
            if deleted:
                logger.info("deleted old jobs", extra={"jobs": deleted})
            await asyncio.sleep(_SECONDS_BETWEEN_SWEEPS)

    def take_place(self) -> bool:
        """Take one of the places for picture requests, if one is free."""
        if self._open_requests >= self.settings.limits.images_at_once:
            return False
        self._open_requests += 1
        self.figures.pictures.set(self._open_requests)
        return True

    def give_place(self) -> None:
        """Give the place back."""
        self._open_requests -= 1
        self.figures.pictures.set(self._open_requests)

    def is_queue_full(self) -> bool:
        """Tell whether no more jobs are taken, so that a video need not be read."""
        return len(self.store.list_open()) >= self.settings.limits.jobs

    def add_job(self, upload: Upload) -> Job:
        """Take a video as a job.

        Raises:
            Problem: 429.
        """
        job = self.store.add(upload.path, name=upload.name, most=self.settings.limits.jobs)
        if job is None:
            raise self.queue_full()
        self.workers.submit(job)
        return job

    def queue_full(self) -> Problem:
        """Return what a client is told who must wait."""
        detail = f"{self.settings.limits.jobs} videos wait or are scored (service.jobs). Try again in a minute."
        return Problem(429, "too_many_jobs", detail, headers={"Retry-After": "60"})

    def delete_job(self, job_id: str) -> None:
        """Cancel a job and delete all of it."""
        self.workers.cancel(job_id)
        self.store.delete(job_id)


def _name_network(stored: Bundle | Checkpoint) -> str:
    return stored.network if isinstance(stored, Bundle) else str(stored.network_config["name"])


def _describe_model(settings: ServiceSettings) -> dict[str, Any]:
    path, predictor = settings.model.path, settings.model.predictor
    stored: Bundle | Checkpoint = load_bundle(path) if is_bundle(path) else load_checkpoint(path)
    decision = stored.decision.to_dict()
    if predictor.threshold is not None:
        decision |= {"threshold": predictor.threshold, "criterion": "given"}
    provenance = dict(stored.provenance)
    for private in ("dataset_root", "command"):
        provenance.pop(private, None)  # paths of the machine that trained are nobody's business
    return {
        "name": _name_network(stored),
        "version": str(provenance.get("run_id") or provenance.get("commit") or "unknown"),
        "decision": decision | {"margin": predictor.margin},
        "preprocessing": stored.crop_spec.to_dict() | {"input": stored.input_spec.to_dict()},
        "provenance": provenance,
        "limits": {"service": asdict(settings.limits), "file": asdict(predictor.limits)},
    }
