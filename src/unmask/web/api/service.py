"""The service behind the routes: its model, its workers, its jobs and its limits."""

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any

from unmask.forgeries import name_model, read_trained_on, warn_of_training
from unmask.media.kinds import IMAGE_NAMES, VIDEO_FORMATS, VIDEO_SUFFIXES
from unmask.models.bundle import Bundle, is_bundle, load_bundle
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.web.api.jobs import Job, JobStore
from unmask.web.api.responses import Figures, Problem
from unmask.web.api.settings import ServiceSettings, check_hashes
from unmask.web.api.shares import Places
from unmask.web.api.uploads import Upload
from unmask.web.api.workers import Workers

logger = logging.getLogger("unmask.web.api")

_SECONDS_BETWEEN_ROUNDS = 5.0


class Service:
    """State that outlives a request.

    Args:
        settings: Settings of the service.

    Raises:
        CheckpointError: The model cannot be read.
        ConfigError: Invalid key hash.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        check_hashes(settings.api_keys)
        self.settings = settings
        self.model = _describe_model(settings)
        self.uploads = settings.folder / "uploads"
        self.store = JobStore(settings.folder / "jobs")
        self.figures = Figures(self.store.count)
        self.places = Places(settings.limits.images_at_once)
        self._open_uploads: Counter[str | None] = Counter()
        self.workers: Any = None
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the workers, and regularly repair them and delete old jobs.

        The folder must be locked by `own_folder`. If the workers cannot load the model, `failure` holds the error, and
        `on_failure` is called.
        """
        shutil.rmtree(self.uploads, ignore_errors=True)  # left by a killed service
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
            except Exception:  # such as a full disk; the next round may succeed
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

    def take_place(self, client: str | None = None) -> bool:
        """Take one of the places for image requests, if one is available to this client; see `Places`."""
        is_taken = self.places.take(client)
        self.figures.image_requests.set(self.places.num_taken)
        return is_taken

    def give_place(self, client: str | None = None) -> None:
        """Give the place back."""
        self.places.give(client)
        self.figures.image_requests.set(self.places.num_taken)

    def places_full(self, client: str) -> Problem:
        """Return the problem for a client that gets none of the places."""
        most, held = self.places.total, self.places.count(client)
        if self.places.is_full:
            detail = f"{most} image requests are in progress (service.images_at_once). Retry in a few seconds."
            return Problem(503, "busy", detail, headers={"Retry-After": "5"})
        detail = (
            f"{held} of your requests are in progress, and the remaining places of {most} (service.images_at_once) "
            f"are reserved for other clients. Wait until one of yours finishes, or send several images per request."
        )
        return Problem(429, "share_used_up", detail, headers={"Retry-After": "5"})

    @contextmanager
    def one_more_video(self, client: str | None = None) -> Iterator[bool]:
        """Hold a place in the queue during an upload; yield whether one was free, so that the body is worth reading."""
        has_place = self._has_place(client)
        self._open_uploads[client] += has_place
        try:
            yield has_place
        finally:
            self._open_uploads[client] -= has_place
            self._open_uploads = +self._open_uploads  # drops clients at zero

    def _has_place(self, client: str | None) -> bool:
        free = self.settings.limits.jobs - len(self.store.list_open()) - self._open_uploads.total()
        return free > 0 and (client is None or self._count_videos(client) <= free)

    def _count_videos(self, client: str) -> int:
        return self._open_uploads[client] + int(self.workers.count_jobs(client))

    def add_job(self, upload: Upload, client: str) -> Job:
        """Queue a video as a job.

        Raises:
            Problem: 429.
        """
        job: Job | None = self.workers.add(upload, client)
        if job is None:
            raise self.queue_full(client)
        return job

    def queue_full(self, client: str) -> Problem:
        """Return the problem for a client that finds no place in the queue."""
        most, held = self.settings.limits.jobs, self._count_videos(client)
        retry = {"Retry-After": "60"}
        if len(self.store.list_open()) + self._open_uploads.total() >= most:
            detail = f"{most} videos are queued or being scored (service.jobs). Retry in a minute."
            return Problem(429, "too_many_jobs", detail, headers=retry)
        detail = (
            f"{held} of your videos are queued or being scored, and the remaining places of {most} (service.jobs) are "
            f"reserved for other clients. Wait until one of yours is done."
        )
        return Problem(429, "share_used_up", detail, headers=retry)

    def delete_job(self, job_id: str) -> None:
        """Cancel a job and delete its files."""
        self.workers.cancel(job_id)


def _describe_model(settings: ServiceSettings) -> dict[str, Any]:
    path, predictor = settings.model.path, settings.model.predictor
    stored: Bundle | Checkpoint = load_bundle(path) if is_bundle(path) else load_checkpoint(path)
    decision = stored.decision.to_dict()
    if predictor.threshold is not None:
        decision |= {"threshold": predictor.threshold, "criterion": "given"}
    provenance, trained_on = dict(stored.provenance), read_trained_on(stored.provenance)
    for private in ("dataset_root", "command"):
        provenance.pop(private, None)  # do not reveal paths of the training machine
    return {
        "name": stored.network,
        "title": name_model(provenance, network=stored.network),
        "run_name": provenance.get("run_name"),
        "trained_on": [source.to_dict() for source in trained_on],
        "warning": warn_of_training(trained_on),
        "formats": {
            "images": list(IMAGE_NAMES),
            "videos": list(VIDEO_FORMATS),
            "video_suffixes": sorted(VIDEO_SUFFIXES),
        },
        "version": str(provenance.get("run_id") or provenance.get("commit") or "unknown"),
        "decision": decision if predictor.margin is None else decision | {"margin": predictor.margin},
        "preprocessing": stored.crop_spec.to_dict() | {"input": stored.input_spec.to_dict()},
        "provenance": provenance,
        "limits": {"service": asdict(settings.limits), "file": asdict(predictor.limits)},
    }
