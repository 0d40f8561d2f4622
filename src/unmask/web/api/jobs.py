"""Jobs: their store on disk, and the work that a worker process does for them."""

import base64
import contextlib
import json
import re
import shutil
import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from unmask.errors import MediaError, OutputError, tell_guest
from unmask.faces.crop import cut_shown
from unmask.inference.annotate import draw_heat
from unmask.inference.predictor import Predictor
from unmask.inference.results import FaceScore, Prediction
from unmask.media.image import encode_jpeg, read_image
from unmask.media.kinds import IMAGE_NAMES, VIDEO_FORMATS, is_text, sniff_kind
from unmask.media.video import index_video, read_indexed
from unmask.paths import write_bytes, writing
from unmask.processes import end_with_parent
from unmask.types import Image, MediaKind
from unmask.web.api.settings import OF_SERVICE, ModelSettings, log_as_json

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    result TEXT, error TEXT
)
"""


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


_OF_DISKS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
_ID = re.compile(r"[0-9a-f]{32}")
_SECONDS_OF_AN_ORPHAN = 10.0  # a new job gets its folder before its row

OPEN = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Job:
    """A video to score, or already scored.

    Args:
        id: Random ID; knowing it grants access to the job.
        name: File name.
        state: State of the job.
        created: Creation time in seconds since 1970.
        finished: Completion time in seconds since 1970, or None.
        attempts: Number of times a worker has started it.
        done: Frames examined.
        total: Frames to examine; 0 while unknown.
        result: Result of `predict_job`, or None.
        error: `code` and `detail`, or None.
    """

    id: str
    name: str
    state: JobState
    created: float
    finished: float | None
    attempts: int
    done: int
    total: int
    result: dict[str, Any] | None
    error: dict[str, str] | None


@dataclass(frozen=True)
class JobStore:
    """Store of the service's jobs; every process opens its own connection.

    Args:
        folder: Folder of `jobs.sqlite` and of one subfolder per job.
    """

    folder: Path

    def create(self) -> None:
        """Create the table if it does not exist.

        Raises:
            OutputError: Full disk or unwritable folder; every method that changes a job raises it too.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_SCHEMA)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path = self.folder / "jobs.sqlite"
        try:
            with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_DISKS:
                raise OutputError(f"Cannot write '{path}': {error}. Free up space on its disk.") from error
            raise

    def folder_of(self, job_id: str) -> Path:
        """Return the folder of a job."""
        return self.folder / job_id

    def upload_of(self, job_id: str) -> Path:
        """Return the uploaded file of a job."""
        return self.folder_of(job_id) / "upload"

    def drawings_of(self, job_id: str) -> Path:
        """Return the folder of a job's crops and heat maps."""
        return self.folder_of(job_id) / "heatmaps"

    def add(self, file: Path, *, name: str, most: int) -> Job | None:
        """Move a file in as a new job; return None when the queue is full.

        Args:
            file: File on the same disk.
            name: Name of the file.
            most: Maximum number of open jobs.
        """
        job_id = uuid.uuid4().hex
        with writing(self.folder_of(job_id)):
            self.folder_of(job_id).mkdir(parents=True)
            file.replace(self.upload_of(job_id))
        with self._connect() as connection:
            added = connection.execute(
                "INSERT INTO jobs (id, name, state, created) SELECT ?, ?, ?, ? "
                "WHERE (SELECT COUNT(*) FROM jobs WHERE state IN (?, ?)) < ?",
                (job_id, name, JobState.QUEUED, time.time(), *OPEN, most),
            ).rowcount
        if not added:
            shutil.rmtree(self.folder_of(job_id))
            return None
        return self.find(job_id)

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        with self._connect() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else _read(row)

    def list_open(self) -> list[Job]:
        """Return the queued and running jobs, oldest first."""
        with self._connect() as connection:
            rows = connection.execute("SELECT * FROM jobs WHERE state IN (?, ?) ORDER BY created", OPEN).fetchall()
        return [_read(row) for row in rows]

    def count(self) -> dict[JobState, int]:
        """Count jobs by state."""
        with self._connect() as connection:
            rows = connection.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall()
        return {state: 0 for state in JobState} | {JobState(state): count for state, count in rows}

    def begin(self, job_id: str) -> None:
        """Mark a job as running."""
        self._update(job_id, "state = ?, attempts = attempts + 1", JobState.RUNNING)

    def requeue(self, job_id: str) -> None:
        """Mark a job as queued again."""
        self._update(job_id, "state = ?, done = 0", JobState.QUEUED)

    def release_all(self) -> None:
        """Requeue open jobs for the next service, with their attempts reset."""
        with self._connect() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, done = 0, attempts = 0 WHERE state IN (?, ?)", (JobState.QUEUED, *OPEN)
            )

    def note_progress(self, job_id: str, *, done: int, total: int) -> None:
        """Store the progress of a job."""
        self._update(job_id, "done = ?, total = ?", done, total)

    def finish(self, job_id: str, result: dict[str, Any]) -> None:
        """Store the result of a job and delete its video."""
        looked_at = len(result["frames"])
        self._update(
            job_id, "state = ?, finished = ?, done = ?, total = ?, result = ?",
            JobState.DONE, time.time(), looked_at, looked_at, json.dumps(result),
        )  # fmt: skip
        self.upload_of(job_id).unlink(missing_ok=True)

    def fail(self, job_id: str, *, code: str, detail: str) -> None:
        """Store why a job failed and delete its files."""
        error = json.dumps({"code": code, "detail": detail})
        self._update(job_id, "state = ?, finished = ?, error = ?", JobState.FAILED, time.time(), error)
        shutil.rmtree(self.folder_of(job_id), ignore_errors=True)

    def _update(self, job_id: str, changes: str, *values: Any) -> None:
        with self._connect() as connection:
            connection.execute(f"UPDATE jobs SET {changes} WHERE id = ?", (*values, job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job and its files."""
        with self._connect() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        shutil.rmtree(self.folder_of(job_id), ignore_errors=True)

    def delete_old(self, *, seconds: float) -> int:
        """Delete jobs that finished longer ago and orphaned folders; return the number of jobs deleted."""
        with self._connect() as connection:
            rows = connection.execute("SELECT id FROM jobs WHERE finished < ?", (time.time() - seconds,)).fetchall()
        for row in rows:
            self.delete(row["id"])
        self._delete_orphans()
        return len(rows)

    def _delete_orphans(self) -> None:
        """Delete folders without a job: a process may still write to one just after its job was deleted."""
        with self._connect() as connection:
            known = {row["id"] for row in connection.execute("SELECT id FROM jobs")}
        for folder in self.folder.iterdir():
            is_orphan = _ID.fullmatch(folder.name) and folder.name not in known
            if is_orphan and _age(folder) > _SECONDS_OF_AN_ORPHAN:
                shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    """Return the seconds since a file or folder was modified; 0 if it has just been deleted."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _read(row: sqlite3.Row) -> Job:
    values = dict(row)
    for key in ("result", "error"):
        values[key] = None if values[key] is None else json.loads(values[key])
    return Job(**{**values, "state": JobState(values["state"])})


_QUALITY = 90
_SECONDS_BETWEEN_NOTES = 0.5


@cache
def open_predictor(settings: ModelSettings) -> Predictor:
    """Load the model once per process."""
    # One thread: one process per core scales better than threads that wait for each other.
    return settings.predictor.load(settings.path, num_threads=1)


def start_worker(settings: ModelSettings) -> None:
    """Prepare a worker process; terminal signals are left to the serving process."""
    log_as_json()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    with contextlib.suppress(Exception):  # the first call raises it again, to its caller
        open_predictor(settings)


def say_ready(settings: ModelSettings) -> None:
    """Load the model if needed; the service calls this before it accepts requests.

    Raises:
        UnmaskError: It cannot be loaded.
    """
    open_predictor(settings)


def predict_images(settings: ModelSettings, files: list[tuple[str, str]], *, heatmaps: bool) -> list[dict[str, Any]]:
    """Score images; an unreadable one gets an error row and does not stop the rest.

    Args:
        settings: Model to load.
        files: Path and name of each image.
        heatmaps: Whether to add each face's crop and heat map as data URIs.

    Returns:
        One `unmask.web.api.routes.ImageResult` or `FileError` per file, as plain values.
    """
    predictor = open_predictor(settings)
    return [_predict_image(predictor, Path(path), name, heatmaps=heatmaps) for path, name in files]


def _predict_image(predictor: Predictor, path: Path, name: str, *, heatmaps: bool) -> dict[str, Any]:
    try:
        if sniff_kind(path, name=name) is MediaKind.VIDEO:
            if is_text(path):
                known = f"Images: {', '.join(IMAGE_NAMES)}; videos, at POST /v1/videos: {', '.join(VIDEO_FORMATS)}."
                raise MediaError(f"'{name}' is neither an image nor a video, but text. {known}")
            raise MediaError(f"'{name}' is not an image. If it is a video, send it to POST /v1/videos.")
        prediction = predictor.predict_image(path, name=name)
    except MediaError as error:
        return {"name": name, "code": "unreadable_file", "error": tell_guest(error, where=OF_SERVICE)}
    result = _describe(prediction)
    for key in ("frames", "suspicious", "key_frames"):
        del result[key]
    for row, face in zip(result["faces"], prediction.frames[0].faces, strict=True):
        row["landmarks"] = face.landmarks
    if heatmaps and prediction.frames[0].faces:
        image = read_image(path, max_pixels=predictor.limits.max_pixels, bounds=None)
        for row, face in zip(result["faces"], prediction.frames[0].faces, strict=True):
            row |= {key: _as_uri(data) for key, data in _draw(image, face, predictor).items()}
    return result


def _describe(prediction: Prediction) -> dict[str, Any]:
    values = prediction.to_dict()
    values["name"] = values.pop("path")
    del values["error"]
    return values


def _draw(image: Image, face: FaceScore, predictor: Predictor) -> dict[str, bytes]:
    """Return JPEGs of a face's crop and of its opaque heat map, which clients blend over the crop."""
    crop = cut_shown(image, face.face, predictor.crop_spec)
    drawn = {"crop": encode_jpeg(crop, quality=_QUALITY)}
    if face.activation_map is not None:
        drawn["heatmap"] = encode_jpeg(draw_heat(crop, face.activation_map, opacity=1.0), quality=_QUALITY)
    return drawn


def _as_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def predict_job(settings: ModelSettings, store: JobStore, job_id: str, name: str) -> dict[str, Any]:
    """Score the video of a job, store its progress, and draw the frames that weighed most.

    Args:
        settings: Model to load.
        store: Store of the jobs.
        job_id: ID of the job.
        name: File name of the video.

    Returns:
        `unmask.web.api.routes.VideoResult` as plain values.

    Raises:
        MediaError: Unreadable video.
    """
    predictor = open_predictor(settings)
    path = store.upload_of(job_id)
    if sniff_kind(path, name=name) is not MediaKind.VIDEO:
        raise MediaError(f"'{name}' is an image. Send it to POST /v1/images.")
    prediction, noted = None, 0.0
    for progress in predictor.watch_video(path, name=name):
        prediction = progress.prediction
        if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
            store.note_progress(job_id, done=progress.num_done, total=progress.num_frames)
            noted = time.monotonic()
    assert prediction is not None
    drawings: list[dict[str, Any]] = []
    with contextlib.suppress(MediaError):  # a damaged file may decode differently the second time; the verdict stands
        drawings.extend(_draw_frames(predictor, prediction, store, job_id))
    return _describe(prediction) | {"heatmaps": drawings}


def _draw_frames(
    predictor: Predictor, prediction: Prediction, store: JobStore, job_id: str
) -> Iterator[dict[str, Any]]:
    """Draw the faces of the frames that weighed most; yield the URLs of each face's drawings."""
    seen = {frame.index: frame.faces for frame in prediction.frames}
    index = index_video(store.upload_of(job_id), max_pixels=predictor.limits.max_pixels)
    for frame in read_indexed(index, sorted(prediction.key_frames)):
        for face in seen[frame.index]:
            stem = f"{frame.index:06d}_{face.track}"
            entry: dict[str, Any] = {"frame": frame.index, "time_seconds": frame.time_seconds, "track": face.track}
            for kind, data in _draw(frame.image, face, predictor).items():
                write_bytes(store.drawings_of(job_id) / f"{kind}_{stem}.jpg", data)
                entry[kind] = f"/v1/jobs/{job_id}/heatmaps/{kind}_{stem}.jpg"
            yield entry


def run_job(settings: ModelSettings, store: JobStore, job_id: str, name: str) -> dict[str, Any]:
    """Mark a job as running, then run `predict_job`."""
    store.begin(job_id)
    return predict_job(settings, store, job_id, name)
