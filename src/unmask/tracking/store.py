"""Connect to an MLflow store: its address, its errors, its experiments, and the system metrics sent to it."""

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
"""Where `make ui` shows a store that is not a server."""

_SQLITE = "sqlite:///"
_SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
_VIEW = "unmask"
"""Key of the view of the table of runs that our links open."""
_VIEW_COLUMNS = ("best/objective", "best/val/video_auroc", "best/val/auroc", "best/val/accuracy")
_TRAINING = "workflowType=machine_learning"
"""Opens MLflow's pages for model training; by default it opens those for language models."""


@dataclass(frozen=True)
class Store:
    """An experiment in an MLflow store.

    Args:
        tracking_uri: Address of a server or database; None for the sqlite file `tracking_db`.
        tracking_db: Path of the sqlite file.
        artifact_dir: Folder of the artifacts; a server has its own.
        experiment_name: Name of the experiment.
    """

    tracking_uri: str | None
    tracking_db: str
    artifact_dir: str
    experiment_name: str

    @property
    def uri(self) -> str:
        """Address of the store; a sqlite path is absolute, so that it holds wherever a command is started."""
        return self.tracking_uri or store_uri(self.tracking_db)

    @property
    def artifact_location(self) -> str | None:
        """Absolute folder of a new experiment's artifacts; None if a server decides.

        A database cannot hold files, so MLflow would put them into `mlruns` in the current folder.
        """
        if self.tracking_uri is not None and self.tracking_uri.partition(":")[0] in _SERVERS:
            return None
        return (Path(self.artifact_dir).resolve() / self.experiment_name).as_uri()


def store_uri(tracking_db: str) -> str:
    """Return the address of a sqlite file, with an absolute path.

    Raises:
        ConfigError: The path contains a question mark, where SQLAlchemy ends it; there is no escape for it.
    """
    path = Path(expand_home(tracking_db)).resolve()
    if "?" in str(path):
        raise ConfigError(
            f"paths.tracking_db='{path}' contains a question mark, which the address of a sqlite file cannot. Put the "
            f"store elsewhere with paths.tracking_db=..., or train without one: logger=none"
        )
    return f"{_SQLITE}{path}"


def store_file(uri: str) -> Path | None:
    """Return the sqlite file behind an address; None for any other kind of address."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def find_artifact_folder(client: Any, run_id: str) -> Path | None:
    """Return the folder with the artifacts of a run; None if a server keeps them."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    address = str(client.get_run(run_id).info.artifact_uri)
    return Path(local_file_uri_to_path(address)) if urlsplit(address).scheme in ("", "file") else None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn the errors of a store that does not answer into one TrackingError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"The MLflow store '{uri}' cannot be used: {first_line(error)} "
            f"Start the server, fix logger.tracking_uri (or MLFLOW_TRACKING_URI), or train without it: logger=none"
        ) from error


def make_client(uri: str) -> Any:
    """Return a client that gives up after seconds; by default MLflow retries for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient

    return MlflowClient(uri)


def open_experiment(store: Store) -> tuple[Any, str]:
    """Create store and experiment if they do not exist; return a client and the experiment's ID.

    Two processes that start on a fresh sqlite store would break each other's migration, so one waits for the other.

    Args:
        store: Store and experiment.

    Raises:
        TrackingError: The store does not answer, or the experiment was deleted.
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
                f"The experiment '{store.experiment_name}' of '{store.uri}' is deleted. Choose another name with "
                f"experiment_name=..., or bring it back: MLFLOW_TRACKING_URI={shlex.quote(store.uri)} "
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
        experiment = client.get_experiment_by_name(store.experiment_name)  # another client of the server was first
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def describe_experiment() -> dict[str, str]:
    """Return the tags that make MLflow open an experiment on training runs, with their metrics as columns."""
    view = {"selectedColumns": [f"metrics.`{name}`" for name in _VIEW_COLUMNS]}
    return {"mlflow.experimentKind": "custom_model_development", f"mlflow.sharedViewState.{_VIEW}": json.dumps(view)}


def _add_missing_tags(client: Any, experiment: Any) -> None:
    """Add our tags to an experiment that something else created; existing tags stay."""
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
    """Return the address of the UI of a store: the server itself, or that of `make ui`."""
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI


def link_runs(server: str, experiment_id: str) -> str:
    """Return the page with the table of runs, with the metrics that they are chosen by among its columns.

    Args:
        server: Address of the UI.
        experiment_id: Experiment whose runs are listed.
    """
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={_VIEW}&{_TRAINING}"


def link_run(server: str, experiment_id: str, run_id: str) -> str:
    """Return the page of one run.

    Args:
        server: Address of the UI.
        experiment_id: Experiment that the run is in.
        run_id: MLflow run ID.
    """
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?{_TRAINING}"


def link_comparison(server: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the page that shows runs side by side: params, metrics, and plots of both.

    Args:
        server: Address of the UI.
        experiment_id: Experiment that the runs are in.
        run_ids: IDs of the runs.
    """
    runs, experiments = (quote(json.dumps(list(ids), separators=(",", ":"))) for ids in (run_ids, [experiment_id]))
    return f"{server}/#/compare-runs?runs={runs}&experiments={experiments}&{_TRAINING}"


_SECONDS_TO_END = 10.0


class SystemReadings:
    """Read processor, memory, disk, network and GPU at an interval, on a thread of its own.

    MLflow's own monitor stops for good when the store fails to answer once; this one uses its readers and our logger.

    Args:
        log_metrics: Function that logs readings at a step.
        seconds: Seconds between two readings.
    """

    def __init__(self, log_metrics: Callable[[Mapping[str, float], int], None], *, seconds: float) -> None:
        self._log_metrics = log_metrics
        self._seconds = seconds
        self._readers: list[Any] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="system-readings")

    def start(self) -> None:
        """Start reading; the readers are imported first, outside of any epoch."""
        self._readers = _find_readers()
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; a reader whose driver hangs is left behind."""
        self._stopped.set()
        self._thread.join(_SECONDS_TO_END)
        if self._thread.is_alive():
            logger.warning("A reader of the system metrics does not answer; its last readings are lost.")

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
    except Exception as error:  # nvidia-ml-py is missing or finds no driver, and passes on any error of its C library
        logger.warning("No GPU readings: %s. Install their reader with: pip install nvidia-ml-py", error)
        return []
