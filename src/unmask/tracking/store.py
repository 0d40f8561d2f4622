"""Connect to an MLflow store, open its experiments, link to its UI, and log system metrics."""

import json
import logging
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from unmask.errors import ConfigError, TrackingError
from unmask.paths import expand_home

logger = logging.getLogger(__name__)

LOCAL_UI = "http://127.0.0.1:5000"
"""Address at which `make ui` serves a store that is not a server."""

_SQLITE = "sqlite:///"
_SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
_VIEW = "unmask"
"""Key of the shared view that our links to the table of runs open."""
_VIEW_COLUMNS = ("best/objective", "best/val/video_auroc", "best/val/auroc", "best/val/accuracy")
_TRAINING = "workflowType=machine_learning"
"""URL parameter that selects MLflow's pages for model training instead of those for language models."""


@dataclass(frozen=True)
class Store:
    """An experiment in an MLflow store.

    Args:
        tracking_uri: Address of a server or database; None for the sqlite file `tracking_db`.
        tracking_db: Path of the sqlite file.
        artifact_dir: Artifact folder; ignored by servers, which have their own.
        experiment_name: Name of the experiment.
    """

    tracking_uri: str | None
    tracking_db: str
    artifact_dir: str
    experiment_name: str

    @property
    def uri(self) -> str:
        """Address of the store; a sqlite path is absolute, so that it is valid in any working directory."""
        return self.tracking_uri or store_uri(self.tracking_db)

    @property
    def artifact_location(self) -> str | None:
        """Absolute URI of the artifact folder for a new experiment; None for a server, which has its own.

        For a database, MLflow would otherwise use `mlruns` in the current folder.
        """
        if self.tracking_uri is not None and self.tracking_uri.partition(":")[0] in _SERVERS:
            return None
        return (Path(self.artifact_dir).resolve() / self.experiment_name).as_uri()


def store_uri(tracking_db: str) -> str:
    """Return the address of a sqlite file, with an absolute path.

    Raises:
        ConfigError: The path contains a question mark, which SQLAlchemy parses as its end and cannot escape.
    """
    path = Path(expand_home(tracking_db)).resolve()
    if "?" in str(path):
        raise ConfigError(
            f"paths.tracking_db='{path}' contains a question mark, which is not allowed in the address of a sqlite "
            f"file. Move the store with paths.tracking_db=..., or train without one: logger=none"
        )
    return f"{_SQLITE}{path}"


def store_file(uri: str) -> Path | None:
    """Return the sqlite file behind an address; None for any other kind of address."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def find_artifact_folder(client: Any, run_id: str) -> Path | None:
    """Return the local artifact folder of a run; None if a server stores its artifacts."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    address = str(client.get_run(run_id).info.artifact_uri)
    return Path(local_file_uri_to_path(address)) if urlsplit(address).scheme in ("", "file") else None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Convert errors of the store into a `TrackingError` that names the store and the fix."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"Cannot use the MLflow store '{uri}': {first_line(error)} "
            f"Start the server, fix logger.tracking_uri (or MLFLOW_TRACKING_URI), or train without it: logger=none"
        ) from error


def make_client(uri: str) -> Any:
    """Return a client that times out within seconds; by default, MLflow retries for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient

    return MlflowClient(uri)


def open_experiment(store: Store) -> tuple[Any, str]:
    """Create store and experiment if they do not exist; return a client and the experiment's ID.

    A lock serializes the first migration of a sqlite store, which two processes at once would break.

    Args:
        store: Store and experiment.

    Raises:
        TrackingError: The store is unavailable, or the experiment was deleted.
    """
    with explained(store.uri):
        with nullcontext() if store.tracking_uri is not None else _locked(Path(store.tracking_db)):
            client = make_client(store.uri)
            experiment = client.get_experiment_by_name(store.experiment_name)
            if experiment is None:
                return client, _create(client, store)
        _add_missing_tags(client, experiment)
        if experiment.lifecycle_stage == "deleted":
            raise TrackingError(
                f"The experiment '{store.experiment_name}' of '{store.uri}' was deleted. Choose another name with "
                f"experiment_name=..., or restore it: MLFLOW_TRACKING_URI={shlex.quote(store.uri)} "
                f"mlflow experiments restore -x {experiment.experiment_id}"
            )
        return client, str(experiment.experiment_id)


def _create(client: Any, store: Store) -> str:
    from mlflow.exceptions import MlflowException

    location = store.artifact_location
    try:
        return str(
            client.create_experiment(store.experiment_name, artifact_location=location, tags=describe_experiment())
        )
    except MlflowException:
        experiment = client.get_experiment_by_name(store.experiment_name)  # another client has just created it
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def describe_experiment() -> dict[str, str]:
    """Return experiment tags that make MLflow show training runs with our metrics as columns."""
    view = {"selectedColumns": [f"metrics.`{name}`" for name in _VIEW_COLUMNS]}
    return {"mlflow.experimentKind": "custom_model_development", f"mlflow.sharedViewState.{_VIEW}": json.dumps(view)}


def _add_missing_tags(client: Any, experiment: Any) -> None:
    """Add our tags to an experiment created elsewhere; existing tags are kept."""
    if experiment.lifecycle_stage == "deleted":
        return
    for key, value in describe_experiment().items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, key, value)


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock"), timeout=120):
        yield


def find_server(uri: str) -> str:
    """Return the UI address of a store: the server itself, or the address of `make ui`."""
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI


def link_runs(server: str, experiment_id: str) -> str:
    """Return the address of an experiment's table of runs, with our metrics as columns.

    Args:
        server: Address of the UI.
        experiment_id: ID of the experiment.
    """
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={_VIEW}&{_TRAINING}"


def link_run(server: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page.

    Args:
        server: Address of the UI.
        experiment_id: ID of the run's experiment.
        run_id: MLflow run ID.
    """
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?{_TRAINING}"


def link_comparison(server: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the address of the page that compares params, metrics and plots of runs.

    Args:
        server: Address of the UI.
        experiment_id: ID of the runs' experiment.
        run_ids: MLflow run IDs.
    """
    runs, experiments = (quote(json.dumps(list(ids), separators=(",", ":"))) for ids in (run_ids, [experiment_id]))
    return f"{server}/#/compare-runs?runs={runs}&experiments={experiments}&{_TRAINING}"


_SECONDS_TO_END = 10.0


class SystemReadings:
    """Sample CPU, memory, disk, network and GPU at a fixed interval in a background thread.

    MLflow's own monitor stops permanently after one failed call to the store, so we use its readers with our logger.

    Args:
        log_metrics: Function that logs metrics at a step.
        seconds: Sampling interval in seconds.
    """

    def __init__(self, log_metrics: Callable[[Mapping[str, float], int], None], *, seconds: float) -> None:
        self._log_metrics = log_metrics
        self._seconds = seconds
        self._readers: list[Any] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="system-readings")

    def start(self) -> None:
        """Import the readers and start the thread, before the first epoch is timed."""
        self._readers = _find_readers()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; give up on it if a reader hangs in its driver."""
        self._stopped.set()
        self._thread.join(_SECONDS_TO_END)
        if self._thread.is_alive():
            logger.warning("A reader of system metrics hangs; its last values are lost.")

    def _run(self) -> None:
        step = 0
        while True:
            readings: dict[str, float] = {}
            for reader in self._readers:
                reader.collect_metrics()
                readings |= {f"system/{name}": value for name, value in reader.aggregate_metrics().items()}
                reader.clear_metrics()
            self._log_metrics(readings, step)
            step += 1
            if self._stopped.wait(self._seconds):
                return


def _find_readers() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    return [CPUMonitor(), DiskMonitor(), NetworkMonitor(), *_find_gpu_reader()]


def _find_gpu_reader() -> list[Any]:
    import torch

    if not torch.cuda.is_available():
        return []
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    try:
        return [GPUMonitor()]
    except Exception as error:  # nvidia-ml-py is missing, finds no driver, or passes on an error of its C library
        logger.warning("Cannot log GPU metrics: %s. Install the reader with: pip install nvidia-ml-py", error)
        return []
