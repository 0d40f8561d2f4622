"""The service behind the routes: its model, its workers, its jobs, and how much it takes on."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any

from unmask.forgeries import read_trained_on, warn_of_training
from unmask.inference.bundle import Bundle, is_bundle, load_bundle
from unmask.inference.words import name_model
from unmask.media.kinds import PICTURE_FORMATS, VIDEO_FORMATS, VIDEO_SUFFIXES
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.web.api.jobs import Job, JobStore
from unmask.web.api.keys import check_hashes
from unmask.web.api.observe import Figures
from unmask.web.api.problems import Problem
from unmask.web.api.settings import ServiceSettings
from unmask.web.api.uploads import Upload
from unmask.web.api.workers import Workers

logger = logging.getLogger("unmask.web.api")

_SECONDS_BETWEEN_ROUNDS = 5.0


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
        self._open_requests = self._open_uploads = 0
        self.workers: Any = None
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have workers for a while, and look after them and what is old.

        The folder must be the service's own, see `own_folder`. Where the workers cannot load the model, `failure` says
        why, and `on_failure` is called.
        """
        shutil.rmtree(self.uploads, ignore_errors=True)  # of a service that was killed
        self.store.create()
        self.workers = Workers(self.settings, self.store, note_verdict=self._note_verdict)
        tasks = [asyncio.create_task(work) for work in (self._start(), self._make_rounds())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self.workers.stop)

    async def _start(self) -> None:
        try:
            await self.workers.start()
            logger.info("ready", extra={"model": self.model["version"]})
        except Exception as error:
            self.failure = error
            self.on_failure()

    async def _make_rounds(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._make_round)
            except Exception:  # such as a full disk: the next round may do better
                logger.exception("defect")
            await asyncio.sleep(_SECONDS_BETWEEN_ROUNDS)

    def _make_round(self) -> None:
        if self.workers.is_ready:
            self.workers.tend()
        deleted = self.store.delete_old(seconds=self.settings.limits.keep_hours * 3600)
        if deleted:
            logger.info("deleted old jobs", extra={"jobs": deleted})

    def _note_verdict(self, verdict: str) -> None:
        self.figures.verdicts.labels("video", verdict).inc()

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

    @contextmanager
    def one_more_video(self) -> Iterator[bool]:
        """Hold a place in the queue while a video is sent; tell whether there is one, so that it need be read."""
        is_full = len(self.store.list_open()) + self._open_uploads >= self.settings.limits.jobs
        self._open_uploads += not is_full
        try:
            yield not is_full
        finally:
            self._open_uploads -= not is_full

    def add_job(self, upload: Upload) -> Job:
        """Take a video as a job.

        Raises:
            Problem: 429.
        """
        job: Job | None = self.workers.add(upload)
        if job is None:
            raise self.queue_full()
        return job

    def queue_full(self) -> Problem:
        """Return what a client is told who must wait."""
        detail = f"{self.settings.limits.jobs} videos wait or are scored (service.jobs). Try again in a minute."
        return Problem(429, "too_many_jobs", detail, headers={"Retry-After": "60"})

    def delete_job(self, job_id: str) -> None:
        """Cancel a job and delete all of it."""
        self.workers.cancel(job_id)


def _name_network(stored: Bundle | Checkpoint) -> str:
    return stored.network if isinstance(stored, Bundle) else str(stored.network_config["name"])


def _describe_model(settings: ServiceSettings) -> dict[str, Any]:
    path, predictor = settings.model.path, settings.model.predictor
    stored: Bundle | Checkpoint = load_bundle(path) if is_bundle(path) else load_checkpoint(path)
    decision = stored.decision.to_dict()
    if predictor.threshold is not None:
        decision |= {"threshold": predictor.threshold, "criterion": "given"}
    provenance, trained_on = dict(stored.provenance), read_trained_on(stored.provenance)
    for private in ("dataset_root", "command"):
        provenance.pop(private, None)  # paths of the machine that trained are nobody's business
    return {
        "name": _name_network(stored),
        "title": name_model(provenance, network=_name_network(stored)),
        "run_name": provenance.get("run_name"),
        "trained_on": [source.to_dict() for source in trained_on],
        "warning": warn_of_training(trained_on),
        "formats": {
            "pictures": list(PICTURE_FORMATS),
            "videos": list(VIDEO_FORMATS),
            "video_suffixes": sorted(VIDEO_SUFFIXES),
        },
        "version": str(provenance.get("run_id") or provenance.get("commit") or "unknown"),
        "decision": decision | {"margin": predictor.margin},
        "preprocessing": stored.crop_spec.to_dict() | {"input": stored.input_spec.to_dict()},
        "provenance": provenance,
        "limits": {"service": asdict(settings.limits), "file": asdict(predictor.limits)},
    }
