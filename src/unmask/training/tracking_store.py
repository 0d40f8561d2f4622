"""The MLflow store: opened once at a time, with errors that say what to mend."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from unmask.errors import ConfigError, TrackingError
from unmask.paths import expand_home

_SQLITE = "sqlite:///"

CHECKPOINTS = ("best", "all", "none")
"""Which checkpoints of a run the store keeps, beside the run's folder."""

VIEW = "unmask"
"""Key of the view of the table of runs that our links open."""

_VIEW_COLUMNS = ("best/objective", "best/val/video_auroc", "best/val/auroc", "best/val/accuracy")
_SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")


@dataclass(frozen=True)
class MLflowSettings:
    """Where runs are tracked.

    Args:
        tracking_uri: A server or store; None is the sqlite file `tracking_db`.
        tracking_db: That file.
        artifact_dir: Where its artifacts go; a server has a place of its own.
        experiment_name: MLflow's experiment.
        run_name: Name of the run; None for its dataset, model and overrides.
        checkpoints: Checkpoints that the store keeps too: one of `CHECKPOINTS`.
        log_model: Whether the trained network is stored as a model that `mlflow models serve` takes.
        system_metrics_seconds: Between two readings of processor, memory, disk and GPU; 0 reads none.
    """

    tracking_uri: str | None
    tracking_db: str
    artifact_dir: str
    experiment_name: str
    run_name: str | None = None
    checkpoints: str = "best"
    log_model: bool = True
    system_metrics_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: The interval is negative or not a number, or `checkpoints` is not one of `CHECKPOINTS`.
        """
        if self.checkpoints not in CHECKPOINTS:
            raise ConfigError(f"tracking.checkpoints={self.checkpoints} must be one of: {', '.join(CHECKPOINTS)}")
        if not isinstance(self.system_metrics_seconds, int | float) or not self.system_metrics_seconds >= 0:
            raise ConfigError(
                f"logger.system_metrics_seconds={self.system_metrics_seconds} must be a number from 0 on; 0 is none."
            )

    @property
    def uri(self) -> str:
        """The store's address; of sqlite with an absolute path, which holds wherever a command is started."""
        return self.tracking_uri or store_uri(self.tracking_db)

    @property
    def artifact_location(self) -> str | None:
        """Absolute folder of the artifacts of a new experiment; None where a server decides.

        A database, wherever it is, has no place for files: MLflow would choose `mlruns` in the current folder.
        """
        if self.tracking_uri is not None and self.tracking_uri.partition(":")[0] in _SERVERS:
            return None
        return (Path(self.artifact_dir).resolve() / self.experiment_name).as_uri()


def store_uri(tracking_db: str) -> str:
    """Return the address of a sqlite file, with an absolute path.

    Raises:
        ConfigError: The path has a question mark, at which SQLAlchemy ends the path, without an escape for it.
    """
    path = Path(expand_home(tracking_db)).resolve()
    if "?" in str(path):
        raise ConfigError(
            f"paths.tracking_db='{path}' has a question mark, which the address of a sqlite file cannot have. Keep the "
            f"store elsewhere with paths.tracking_db=..., or train without one: logger=none"
        )
    return f"{_SQLITE}{path}"


def store_file(uri: str) -> Path | None:
    """Return the sqlite file that an address names; None for an address of another kind."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0])


def find_artifact_folder(client: Any, run_id: str) -> Path | None:
    """Return the folder that holds the artifacts of a run; None where a server keeps them."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    address = str(client.get_run(run_id).info.artifact_uri)
    return Path(local_file_uri_to_path(address)) if urlsplit(address).scheme in ("", "file") else None


def no_tracking() -> None:
    """Track nothing: what `logger=none` builds."""


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what a store that does not answer raises into one TrackingError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"The MLflow store '{uri}' cannot be used: {str(error).splitlines()[0]} "
            f"Start the server, mend logger.tracking_uri (or MLFLOW_TRACKING_URI), or train without it: logger=none"
        ) from error


def make_client(uri: str) -> Any:
    """Return a client that gives up after seconds, where MLflow's own would try for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient

    return MlflowClient(uri)


def open_experiment(settings: MLflowSettings) -> tuple[Any, str]:
    """Create store and experiment where they are not there yet; return a client and the experiment's id.

    Two processes that start on a fresh sqlite store would break each other's migration, so one waits for the other.

    Raises:
        TrackingError: The store does not answer, or the experiment was deleted.
    """
    with explained(settings.uri):
        with nullcontext() if settings.tracking_uri is not None else _locked(Path(settings.tracking_db)):
            client = make_client(settings.uri)
            experiment = client.get_experiment_by_name(settings.experiment_name)
            if experiment is None:
                return client, _create(client, settings)
        _add_missing_tags(client, experiment)
        if experiment.lifecycle_stage == "deleted":
            raise TrackingError(
                f"The experiment '{settings.experiment_name}' of '{settings.uri}' is deleted. Choose another name with "
                f"experiment_name=..., or bring it back: MLFLOW_TRACKING_URI={shlex.quote(settings.uri)} "
                f"mlflow experiments restore -x {experiment.experiment_id}"
            )
        return client, str(experiment.experiment_id)


def _create(client: Any, settings: MLflowSettings) -> str:
    from mlflow.exceptions import MlflowException

    location = settings.artifact_location
    try:
        return str(
            client.create_experiment(settings.experiment_name, artifact_location=location, tags=describe_experiment())
        )
    except MlflowException:
        experiment = client.get_experiment_by_name(settings.experiment_name)  # another process of a server was first
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def describe_experiment() -> dict[str, str]:
    """Return the tags that make MLflow's page of an experiment open on training runs, with their figures as columns."""
    view = {"selectedColumns": [f"metrics.`{name}`" for name in _VIEW_COLUMNS]}
    return {"mlflow.experimentKind": "custom_model_development", f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}


def _add_missing_tags(client: Any, experiment: Any) -> None:
    """Give an experiment that something else created the tags of ours; what a user chose stays."""
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
