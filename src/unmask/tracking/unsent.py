"""Send messages to MLflow in order; while the store is unavailable, keep them in the run folder and send them later."""

import errno
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unmask.tracking.addresses import register_version
from unmask.tracking.store import find_artifact_folder, first_line, make_client

logger = logging.getLogger(__name__)

FOLDER = "unsent"
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "PERMISSION_DENIED", "INVALID_STATE"}
"""MLflow error codes for which a retry is useless."""
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of `os.link` on file systems without hard links, or across file systems."""
_PER_CALL = 100
_SECONDS_BETWEEN_TRIES = 30.0


@dataclass(frozen=True)
class Message:
    """A call of the MLflow client as plain values.

    Args:
        kind: `params`, `metrics`, `tags`, `inputs`, `artifact`, `register` or `end`.
        data: Keyword arguments of the call.
    """

    kind: str
    data: dict[str, Any] = field(default_factory=dict)


class Outbox:
    """Send the messages of a run; after a failure, keep all of them in order until the store is back.

    Args:
        client: MLflow client.
        uri: Address of the store.
        run_id: MLflow run ID.
        folder: Run folder; unsent messages are kept in `unsent/` below it.
    """

    def __init__(self, client: Any, *, uri: str, run_id: str, folder: Path) -> None:
        self._client = client
        self._run_id = run_id
        self._folder = folder
        self._path = folder / FOLDER / "messages.jsonl"
        self._address = {"tracking_uri": uri, "run_id": run_id}
        self._last_try = 0.0
        self._lock = threading.RLock()

    @property
    def num_unsent(self) -> int:
        """Number of messages kept on disk."""
        return len(self._path.read_text().splitlines()) if self._path.exists() else 0

    def send(self, message: Message) -> None:
        """Send a message, or keep it if the store is unavailable.

        Args:
            message: Next message; the `path` of an artifact may be relative to the run folder.
        """
        with self._lock:
            if self._path.exists() and (time.monotonic() - self._last_try < _SECONDS_BETWEEN_TRIES or not self.flush()):
                self._keep(message)
                return
            error = self._try(message)
            if error is not None:
                logger.warning(
                    "The MLflow store '%s' is unavailable (%s). Training continues; unsent messages are kept in %s.",
                    self._address["tracking_uri"], error, self._path.parent,
                )  # fmt: skip
                self._keep(message)

    def flush(self) -> bool:
        """Send the messages kept on disk; return whether all were sent."""
        if not self._path.exists():
            return True
        with self._exclusive():
            if not self._path.exists():
                return True  # another process has sent them
            lines = self._path.read_text().splitlines(keepends=True)
            # An unterminated last line is incomplete: the process was killed while writing it.
            messages = [Message(**json.loads(line)) for line in lines if line.endswith("\n")]
            for index, message in enumerate(messages):
                if self._try(message) is not None:
                    self._write(messages[index:])
                    return False
            self._path.unlink()
            (self._path.parent / "run.json").unlink(missing_ok=True)
            if not any(self._path.parent.iterdir()):
                self._path.parent.rmdir()
            logger.info("Sent %d messages kept on disk to '%s'.", len(messages), self._address["tracking_uri"])
            return True

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Lock the messages on disk against other threads and processes; `task=send` may run during training."""
        with self._lock:
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                with suppress(OSError):  # some network file systems cannot lock folders
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _try(self, message: Message) -> str | None:
        """Deliver a message; return the reason if the store is unavailable, else None."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        self._last_try = time.monotonic()
        try:
            data = dict(message.data)
            if message.kind == "artifact":
                data["path"] = str(self._folder.resolve() / data["path"])
            _DELIVERIES[message.kind](self._client, self._run_id, **data)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = first_line(error)
            if getattr(error, "error_code", None) not in _REFUSALS and not isinstance(error, FileNotFoundError):
                return reason
            refused = self._path.with_name("refused.jsonl")
            self._append(refused, message)
            logger.warning("MLflow rejected %s: %s The message is kept in %s.", message.kind, reason, refused)
        return None

    def _keep(self, message: Message) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            self._append(self._path, message)
            (self._path.parent / "run.json").write_text(json.dumps(self._address) + "\n")

    def _append(self, path: Path, message: Message) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(message)) + "\n")

    def _write(self, messages: Iterable[Message]) -> None:
        new = self._path.with_suffix(".new")
        new.write_text("".join(json.dumps(asdict(message)) + "\n" for message in messages))
        new.replace(self._path)


def list_unsent(root: Path) -> list[Path]:
    """Return the `run.json` of each run below a folder that has unsent messages."""
    return sorted(root.rglob(f"{FOLDER}/run.json"))


def send_unsent(roots: Iterable[Path]) -> tuple[int, int]:
    """Send the unsent messages of all runs below some folders; return the numbers of runs sent and still waiting.

    Repeating it is safe: MLflow stores a param, metric value, tag or file only once.

    Args:
        roots: Folders of runs or sweeps.
    """
    sent, waiting = 0, 0
    for root in roots:
        for address in list_unsent(root):
            content = json.loads(address.read_text())
            uri, run_id = content["tracking_uri"], content["run_id"]
            outbox = Outbox(make_client(uri), uri=uri, run_id=run_id, folder=address.parents[1])
            done = outbox.flush()
            sent, waiting = sent + done, waiting + (not done)
    return sent, waiting


def _send_params(client: Any, run_id: str, *, params: dict[str, str]) -> None:
    from mlflow.entities import Param

    entries = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(entries), _PER_CALL):
        client.log_batch(run_id, params=entries[start : start + _PER_CALL])


def _send_metrics(client: Any, run_id: str, *, points: list[list[Any]]) -> None:
    """Log metric values given as `[key, value, milliseconds, step]`."""
    from mlflow.entities import Metric

    for start in range(0, len(points), 1000):
        client.log_batch(run_id, metrics=[Metric(*point) for point in points[start : start + 1000]])


def _send_tags(client: Any, run_id: str, *, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _send_inputs(client: Any, run_id: str, *, datasets: list[dict[str, str]]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(**{key: value for key, value in entry.items() if key != "split"}),
            tags=[InputTag("mlflow.data.context", entry["split"])],
        )
        for entry in datasets
    ]
    client.log_inputs(run_id, datasets=inputs)


def _send_artifact(client: Any, run_id: str, *, path: str, folder: str | None = None, may_link: bool = False) -> None:
    if not (may_link and _link_artifact(client, run_id, Path(path), folder)):
        client.log_artifact(run_id, path, folder)


def _link_artifact(client: Any, run_id: str, path: Path, folder: str | None) -> bool:
    """Hard-link a file into a run's artifacts; return False for artifacts on a server or without hard-link support."""
    artifacts = find_artifact_folder(client, run_id)
    if artifacts is None:
        return False
    target = artifacts / (folder or "") / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(path, part)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    part.replace(target)
    return True


def _send_end(client: Any, run_id: str, *, status: str, milliseconds: int) -> None:
    client.set_terminated(run_id, status, end_time=milliseconds)


_DELIVERIES: dict[str, Callable[..., None]] = {
    "params": _send_params,
    "metrics": _send_metrics,
    "tags": _send_tags,
    "inputs": _send_inputs,
    "artifact": _send_artifact,
    "register": register_version,
    "end": _send_end,
}
