"""Jobs on disk: a table in SQLite and a folder each, so that they outlive the service."""

import contextlib
import json
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from unmask.errors import OutputError
from unmask.writing import writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    result TEXT, error TEXT
)
"""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


_OF_DISKS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
_ID = re.compile(r"[0-9a-f]{32}")
_SECONDS_OF_AN_ORPHAN = 10.0  # a new job has its folder before its row

OPEN = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Job:
    """A video that is to be scored, or was.

    Args:
        id: Random; who knows it can ask for the job.
        name: Of the file.
        state: Where it stands.
        created: Seconds since 1970.
        finished: Likewise, or None.
        attempts: How often a worker began with it.
        done: Frames looked at.
        total: Frames to look at; 0 while unknown.
        result: Of `predict_job`, or None.
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
    """The jobs of a service; every process opens its own connection.

    Args:
        folder: Of `jobs.sqlite` and of a folder for each job.
    """

    folder: Path

    def create(self) -> None:
        """Make the table, if it is not there.

        Raises:
            OutputError: The disk is full, or the folder cannot be written to; so does whatever changes a job.
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
                raise OutputError(f"Cannot write '{path}': {error}. Make room on its disk.") from error
            raise

    def folder_of(self, job_id: str) -> Path:
        """Return the folder of a job."""
        return self.folder / job_id

    def upload_of(self, job_id: str) -> Path:
        """Return the file of a job."""
        return self.folder_of(job_id) / "upload"

    def drawings_of(self, job_id: str) -> Path:
        """Return the folder of a job's drawings."""
        return self.folder_of(job_id) / "heatmaps"

    def add(self, file: Path, *, name: str, most: int) -> Job | None:
        """Move a file in as a new job; None where as many wait or run already.

        Args:
            file: Of the same disk.
            name: Of the file.
            most: Open jobs.
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
        """Return a job."""
        with self._connect() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else _read(row)

    def list_open(self) -> list[Job]:
        """Return the jobs that wait or run, the oldest first."""
        with self._connect() as connection:
            rows = connection.execute("SELECT * FROM jobs WHERE state IN (?, ?) ORDER BY created", OPEN).fetchall()
        return [_read(row) for row in rows]

    def count(self) -> dict[JobState, int]:
        """Count jobs by state."""
        with self._connect() as connection:
            rows = connection.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall()
        return {state: 0 for state in JobState} | {JobState(state): count for state, count in rows}

    def begin(self, job_id: str) -> None:
        """Say that a worker has begun with a job."""
        self._update(job_id, "state = ?, attempts = attempts + 1", JobState.RUNNING)

    def requeue(self, job_id: str) -> None:
        """Say that a job waits again."""
        self._update(job_id, "state = ?, done = 0", JobState.QUEUED)

    def release_all(self) -> None:
        """Let open jobs wait for the next service, which begins with them as if nobody had."""
        with self._connect() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, done = 0, attempts = 0 WHERE state IN (?, ?)", (JobState.QUEUED, *OPEN)
            )

    def note_progress(self, job_id: str, *, done: int, total: int) -> None:
        """Say how far a job is."""
        self._update(job_id, "done = ?, total = ?", done, total)

    def finish(self, job_id: str, result: dict[str, Any]) -> None:
        """Keep the result of a job; its video is not needed any more."""
        looked_at = len(result["frames"])
        self._update(
            job_id, "state = ?, finished = ?, done = ?, total = ?, result = ?",
            JobState.DONE, time.time(), looked_at, looked_at, json.dumps(result),
        )  # fmt: skip
        self.upload_of(job_id).unlink(missing_ok=True)

    def fail(self, job_id: str, *, code: str, detail: str) -> None:
        """Keep why a job failed; nothing of its files is kept."""
        error = json.dumps({"code": code, "detail": detail})
        self._update(job_id, "state = ?, finished = ?, error = ?", JobState.FAILED, time.time(), error)
        shutil.rmtree(self.folder_of(job_id), ignore_errors=True)

    def _update(self, job_id: str, changes: str, *values: Any) -> None:
        with self._connect() as connection:
            connection.execute(f"UPDATE jobs SET {changes} WHERE id = ?", (*values, job_id))

    def delete(self, job_id: str) -> None:
        """Forget a job and its files."""
        with self._connect() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        shutil.rmtree(self.folder_of(job_id), ignore_errors=True)

    def delete_old(self, *, seconds: float) -> int:
        """Forget the jobs that ended longer ago, and folders that belong to none; return how many jobs there were."""
        with self._connect() as connection:
            rows = connection.execute("SELECT id FROM jobs WHERE finished < ?", (time.time() - seconds,)).fetchall()
        for row in rows:
            self.delete(row["id"])
        self._delete_orphans()
        return len(rows)

    def _delete_orphans(self) -> None:
        """Delete folders of no job: a process may write in one for a moment after its job was deleted."""
        with self._connect() as connection:
            known = {row["id"] for row in connection.execute("SELECT id FROM jobs")}
        for folder in self.folder.iterdir():
            is_orphan = _ID.fullmatch(folder.name) and folder.name not in known
            if is_orphan and _age(folder) > _SECONDS_OF_AN_ORPHAN:
                shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    """Return the seconds since a change of a file or folder; 0 if it has just gone."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _read(row: sqlite3.Row) -> Job:
    values = dict(row)
    for key in ("result", "error"):
        values[key] = None if values[key] is None else json.loads(values[key])
    return Job(**{**values, "state": JobState(values["state"])})
