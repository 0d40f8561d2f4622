"""Log a training run to MLflow through a Lightning logger: params, metrics, datasets, artifacts, model and status."""

import json
import math
import threading
import time
import traceback
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, Interrupted, TrackingError, UnmaskError
from unmask.tracking.addresses import save_model
from unmask.tracking.provenance import count_crops, digest_table
from unmask.tracking.store import Store, SystemReadings, explained, find_server, first_line, link_run, open_experiment
from unmask.tracking.unsent import Message, Outbox

CHECKPOINTS = ("best", "all", "none")
"""Choices of `tracking.checkpoints`: which checkpoints MLflow stores besides the run folder."""

_SECONDS_BETWEEN_BATCHES = 5.0
_LONGEST_PARAM = 6000


class MLflowLogger(Logger):
    """Log a run to MLflow; messages that cannot be sent are kept in the run folder for later.

    The constructor only checks its arguments; `open` creates the run. Before that, and in all processes except the
    first, nothing is logged. A thread sends metrics every few seconds, so that no training step waits for the store.

    Args:
        tracking_uri: Address of a server or database; None for the sqlite file `tracking_db`.
        tracking_db: Path of the sqlite file.
        artifact_dir: Artifact folder; ignored by servers, which have their own.
        experiment_name: Name of the experiment.
        run_name: Name of the run; None for the name passed to `open`.
        checkpoints: Checkpoints to store in MLflow: one of `CHECKPOINTS`.
        log_model: Whether to store the trained network as a model for `mlflow models serve`.
        system_metrics_seconds: Interval between samples of CPU, memory, disk and GPU in seconds; 0 for none.

    Raises:
        ConfigError: Negative interval, or `checkpoints` is not one of `CHECKPOINTS`.
    """

    def __init__(
        self,
        *,
        tracking_uri: str | None,
        tracking_db: str,
        artifact_dir: str,
        experiment_name: str,
        run_name: str | None = None,
        checkpoints: str = "best",
        log_model: bool = True,
        system_metrics_seconds: float = 10.0,
    ) -> None:
        super().__init__()
        if checkpoints not in CHECKPOINTS:
            raise ConfigError(f"tracking.checkpoints={checkpoints} must be one of: {', '.join(CHECKPOINTS)}")
        if not isinstance(system_metrics_seconds, int | float) or not system_metrics_seconds >= 0:
            raise ConfigError(
                f"logger.system_metrics_seconds={system_metrics_seconds} must be a number of at least 0; 0 for none."
            )
        self.store = Store(tracking_uri, tracking_db, artifact_dir, experiment_name)
        self.checkpoints = checkpoints
        self.logs_model = log_model
        self.run_name = run_name
        self.run_id = ""
        self.experiment_id = ""
        self.is_resumed = False
        self.outbox: Outbox | None = None
        self._client: Any = None
        self._folder = Path()
        self._system_metrics_seconds = system_metrics_seconds
        self._readings: SystemReadings | None = None
        self._points: list[list[Any]] = []
        self._timer: threading.Timer | None = None
        self._lock, self._sending = threading.Lock(), threading.Lock()

    def open(
        self,
        *,
        folder: Path,
        tags: Mapping[str, str] | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        parent_run_id: str | None = None,
    ) -> None:
        """Create or resume a run, and create store and experiment if they do not exist.

        Args:
            folder: Run folder; unsent messages are kept in it.
            tags: Tags of a new run.
            run_name: Name of a new run if the constructor got none.
            run_id: ID of the run to resume, or None for a new run.
            parent_run_id: ID of the sweep's run, or None outside a sweep.

        Raises:
            TrackingError: The store is unavailable, or does not have the run to resume.
        """
        self._folder = folder
        client, self.experiment_id = open_experiment(self.store)
        self._client = client
        self.is_resumed = run_id is not None
        if run_id is None:
            parent = {} if parent_run_id is None else {"mlflow.parentRunId": parent_run_id}
            self.run_id = self._create(client, {**(tags or {}), **parent}, self.run_name or run_name)
        else:
            self.run_id = self._resume(client, run_id)
        with explained(self.store.uri):
            self.run_name = str(client.get_run(self.run_id).info.run_name)
        self.outbox = Outbox(client, uri=self.store.uri, run_id=self.run_id, folder=folder)
        if self._system_metrics_seconds > 0:
            self._readings = SystemReadings(self.log_metrics, seconds=self._system_metrics_seconds)
            self._readings.start()

    def _create(self, client: Any, tags: Mapping[str, str], run_name: str | None) -> str:
        source = {"mlflow.user": _user_name(), "mlflow.source.type": "LOCAL", "mlflow.source.name": "train.py"}
        with explained(self.store.uri):
            run = client.create_run(self.experiment_id, tags={**source, **tags}, run_name=run_name)
        return str(run.info.run_id)

    def _resume(self, client: Any, run_id: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            client.update_run(run_id, status="RUNNING")
            if "error" in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, "error")
        except MlflowException as error:
            raise TrackingError(
                f"The MLflow store '{self.store.uri}' has no run '{run_id}' to resume: {first_line(error)} "
                f"Set the right store with MLFLOW_TRACKING_URI=..."
            ) from error
        return run_id

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.store.experiment_name

    @property
    def version(self) -> str:
        """MLflow run ID."""
        return self.run_id

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow client for custom callbacks; its failed calls are not kept for later."""
        return self._client

    @property
    def page(self) -> str:
        """Address of the run's page in the MLflow UI."""
        return link_run(find_server(self.store.uri), self.experiment_id, self.run_id)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the run on exit: as FINISHED, or on an exception as FAILED or KILLED with the error."""
        try:
            yield
        except BaseException as error:
            was_stopped = isinstance(error, KeyboardInterrupt | SystemExit | Interrupted)
            self.set_tags({"error": f"{type(error).__name__}: {error}"[:_LONGEST_PARAM]})
            self.log_session_text(describe_error(error), "error.txt")
            self.log_session_files(sorted(self._folder.glob("*.log")))
            self._end("KILLED" if was_stopped else "FAILED")
            raise
        self._end("FINISHED")

    def _end(self, status: str) -> None:
        if self._readings is not None:
            self._readings.stop()
        self.save()
        self._send("end", status=status, milliseconds=int(time.time() * 1000))
        if self.outbox is not None:
            self.outbox.flush()

    def _send(self, kind: str, **data: Any) -> None:
        if self.outbox is not None:
            self.outbox.send(Message(kind, data))

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log params such as `optimizer.lr`; a resumed run keeps its params, since MLflow cannot change them."""
        if not self.is_resumed:
            flat = flatten(vars(params) if isinstance(params, Namespace) else params)
            self._send("params", params={key: str(value)[:_LONGEST_PARAM] for key, value in flat.items()})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue a value of each metric; the queue is sent within seconds.

        Args:
            metrics: Values by key.
            step: Optimizer step; None for values outside a curve, logged at step 0.
        """
        now = int(time.time() * 1000)
        points: list[list[Any]] = [
            [key, float(value), now, step or 0] for key, value in metrics.items() if key != "epoch"
        ]
        with self._lock:
            self._points += [point for point in points if math.isfinite(point[1])]
            if self._points and self._timer is None:
                self._timer = threading.Timer(_SECONDS_BETWEEN_BATCHES, self.save)
                self._timer.daemon = True
                self._timer.start()

    def save(self) -> None:
        """Send all queued metrics, and wait until they are delivered or kept for later."""
        with self._sending:
            with self._lock:
                points, self._points = self._points, []
                timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            if points:
                self._send("metrics", points=points)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send the remaining metrics."""
        self.save()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._send("tags", tags=dict(tags))

    def log_dataset(self, dataset: FaceDataset, tables: Mapping[str, pd.DataFrame]) -> None:
        """Log each split as a dataset input of the run, with digest and counts.

        Args:
            dataset: Face dataset.
            tables: Usable crops by split.
        """
        datasets = [
            {
                "name": dataset.name,
                "digest": digest_table(table),
                "source_type": "local",
                "source": json.dumps({"uri": str(dataset.root.resolve())}),
                "profile": json.dumps({"preprocessing": dataset.spec.hash, **count_crops(table)}),
                "split": split,
            }
            for split, table in tables.items()
        ]
        self._send("inputs", datasets=datasets)

    def log_files(self, files: Sequence[Path], folder: str | None = None, *, may_link: bool = False) -> None:
        """Store files as artifacts; missing files are skipped.

        Args:
            files: Paths of the files.
            folder: Artifact folder; None for the top level.
            may_link: Whether a store on the same disk may hard-link the files instead of copying them; only for files
                that are never modified in place.
        """
        root = self._folder.resolve()
        for path in (file.resolve() for file in files if file.is_file()):
            # Relative, so that it can still be sent after the run folder was moved or copied.
            named = path.relative_to(root) if path.is_relative_to(root) else path
            self._send("artifact", path=str(named), folder=folder, may_link=may_link)

    def log_folder(self, path: Path, folder: str) -> None:
        """Store the files of a folder as artifacts, hard-linked if possible.

        Args:
            path: Folder on disk; its files are never modified in place.
            folder: Artifact folder.
        """
        for file in sorted(path.rglob("*")):
            self.log_files([file], str(folder / file.parent.relative_to(path)), may_link=True)

    def log_model(self, bundle: Path) -> None:
        """Store a bundle as an MLflow model.

        Args:
            bundle: Bundle of the best checkpoint.
        """
        model = self._folder / "model"
        save_model(bundle, model)
        self.log_folder(model, "model")

    def log_session_files(self, files: Sequence[Path]) -> None:
        """Store files of this session as artifacts; those of a resumed run go into `resumed/<run folder>`."""
        self.log_files(files, f"resumed/{self._folder.name}" if self.is_resumed else None)

    def log_session_text(self, text: str, name: str) -> None:
        """Store text as an artifact of this session.

        Args:
            text: Content of the file.
            name: File name.
        """
        path = self._folder.resolve() / "tracked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.log_session_files([path])

    def register(self, name: str, *, objective_key: str, objective: float) -> None:
        """Register the stored model as a version; see `unmask.tracking.addresses.register_version`."""
        self._send("register", name=name, objective_key=objective_key, objective=objective)


def describe_error(error: BaseException) -> str:
    """Return the message of an `UnmaskError`, and the traceback of any other error."""
    if isinstance(error, UnmaskError):
        return f"{type(error).__name__}: {error}\n"
    return "".join(traceback.format_exception(error))


def _user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user in a container may have no name
        return "unknown"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys, without keys such as `_target_`; lists are kept."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            flat[f"{prefix}{key}"] = value
    return flat
