"""Every run in MLflow: configuration, code, data, curves, checkpoints, figures, model, log."""

import json
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.data.tables import FaceDataset
from unmask.errors import Interrupted, TrackingError, UnmaskError
from unmask.training.tracking_links import find_server, link_run
from unmask.training.tracking_store import MLflowSettings, explained, no_tracking, open_experiment
from unmask.training.unsent import Message, Outbox

__all__ = ["MLflowSettings", "TrackedRun", "count_crops", "digest_table", "flatten", "no_tracking"]

_LONGEST_PARAM = 6000


class TrackedRun:
    """One open run of MLflow, and the Lightning logger that writes its curves.

    Args:
        settings: Where.
        tags: Searchable in the UI.
        folder: Of the run on disk; what cannot be sent is kept below it, and so is what is written only to be sent.
        run_id: A run to go on with, of the same store; None starts a new one.
        parent_run_id: The run of the sweep that this one belongs to.
    """

    def __init__(
        self,
        settings: MLflowSettings,
        *,
        tags: Mapping[str, str],
        folder: Path = Path(),
        run_id: str | None = None,
        parent_run_id: str | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self._tags = dict(tags) | ({} if parent_run_id is None else {"mlflow.parentRunId": parent_run_id})
        self._known_id = run_id
        self._readings: Any = None
        self.experiment_id = ""
        self.run_name = ""
        self.logger: Any = None
        self.outbox: Any = None

    def open(self) -> None:
        """Create store, experiment and run.

        Raises:
            TrackingError: The store does not answer, or does not know the run to go on with.
        """
        from unmask.training.tracking_logger import RunLogger, SystemReadings

        client, self.experiment_id = open_experiment(self.settings)
        run_id = self._go_on(client) if self._known_id is not None else self._start(client, self.experiment_id)
        with explained(self.settings.uri):
            self.run_name = str(client.get_run(run_id).info.run_name)
        self.outbox = Outbox(client, uri=self.settings.uri, run_id=run_id, folder=self.folder)
        self.logger = RunLogger(self.outbox, run_id=run_id, experiment_name=self.settings.experiment_name)
        if self.settings.system_metrics_seconds > 0:
            seconds = self.settings.system_metrics_seconds
            self._readings = SystemReadings(self.logger.log_metrics, seconds=seconds)
            self._readings.start()

    def _start(self, client: Any, experiment_id: str) -> str:
        from mlflow.utils.mlflow_tags import MLFLOW_USER

        tags = {
            MLFLOW_USER: _user_name(),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": "train.py",
            **self._tags,
        }
        with explained(self.settings.uri):
            return str(client.create_run(experiment_id, tags=tags, run_name=self.settings.run_name).info.run_id)

    def _go_on(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        try:
            client.update_run(self._known_id, status="RUNNING")
            if "error" in client.get_run(self._known_id).data.tags:
                client.delete_tag(self._known_id, "error")
        except MlflowException as error:
            raise TrackingError(
                f"The MLflow store '{self.settings.uri}' has no run '{self._known_id}' to go on with: "
                f"{str(error).splitlines()[0]} Name the store it is in with MLFLOW_TRACKING_URI=..."
            ) from error
        return str(self._known_id)

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self.logger.run_id)

    @property
    def page(self) -> str:
        """Address of the run in MLflow's UI."""
        return link_run(find_server(self.settings.uri), self.experiment_id, self.run_id)

    @property
    def is_resumed(self) -> bool:
        """Whether the run was there before."""
        return self._known_id is not None

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the run as FINISHED, or as FAILED or KILLED with the error where one comes through."""
        try:
            yield
        except BaseException as error:
            was_stopped = isinstance(error, KeyboardInterrupt | SystemExit | Interrupted)
            self.set_tags({"error": f"{type(error).__name__}: {error}"[:_LONGEST_PARAM]})
            self._log_breakdown(error)
            self._end("KILLED" if was_stopped else "FAILED")
            raise
        self._end("FINISHED")

    def _log_breakdown(self, error: BaseException) -> None:
        """Store the log so far and the error, so that the UI shows why."""
        self.log_text(tell_error(error), self.place("error.txt"))
        self.log_session_files(sorted(self.folder.glob("*.log")))

    def place(self, name: str) -> str:
        """Return where an artifact goes that tells of this session alone; the first one's lie on top."""
        return f"resumed/{self.folder.name}/{name}" if self.is_resumed else name

    def _end(self, status: str) -> None:
        if self._readings is not None:
            self._readings.stop()
        self.logger.save()
        self.outbox.send(Message("end", {"status": status, "milliseconds": int(time.time() * 1000)}))
        self.outbox.flush()

    def log_params(self, config: Mapping[str, Any]) -> None:
        """Log a nested configuration as flat params such as `optimizer.lr`."""
        params = {key: str(value)[:_LONGEST_PARAM] for key, value in flatten(config).items()}
        self.outbox.send(Message("params", {"params": params}))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log figures that are no curve."""
        self.logger.log_metrics(metrics, 0)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.outbox.send(Message("tags", {"tags": dict(tags)}))

    def log_dataset(self, dataset: FaceDataset, tables: Mapping[str, pd.DataFrame]) -> None:
        """Log the crops of each split as an input of the run, with a digest and their counts.

        Args:
            dataset: The face dataset.
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
        self.outbox.send(Message("inputs", {"datasets": datasets}))

    def log_text(self, text: str, name: str) -> None:
        """Store text as an artifact."""
        path = self.folder.resolve() / "tracked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        folder = str(Path(name).parent)
        self.log_files([path], None if folder == "." else folder)

    def log_files(self, files: Sequence[Path], folder: str | None = None, *, may_link: bool = False) -> None:
        """Store files as artifacts, those that exist.

        Args:
            files: Of any kind.
            folder: Among the artifacts; None for the top.
            may_link: Whether a store on the same disk may hold a second name of the file instead of a copy. Only for
                files that are replaced as a whole, never written to in place.
        """
        for path in files:
            if path.is_file():
                data = {"path": str(path.resolve()), "folder": folder, "may_link": may_link}
                self.outbox.send(Message("artifact", data))

    def log_session_files(self, files: Sequence[Path]) -> None:
        """Store files that tell of this session alone."""
        folder = str(Path(self.place("file")).parent)
        self.log_files(files, None if folder == "." else folder)

    def log_folder(self, path: Path, folder: str) -> None:
        """Store a folder as artifacts; its files are linked as those of `log_files` may be."""
        for file in sorted(path.rglob("*")):
            within = file.parent.relative_to(path)
            self.log_files([file], str(folder / within), may_link=True)

    def register(self, name: str, *, objective_key: str, objective: float) -> None:
        """Make the model a version in the registry; the alias `best` goes to the one with the highest objective."""
        data = {"name": name, "objective_key": objective_key, "objective": objective}
        self.outbox.send(Message("register", data))


def tell_error(error: BaseException) -> str:
    """Return what a user reads of an error: the message of one of ours, the traceback of any other."""
    if isinstance(error, UnmaskError):
        return f"{type(error).__name__}: {error}\n"
    return "".join(traceback.format_exception(error))


def _user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys, without `_target_` and the like; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            flat[f"{prefix}{key}"] = value
    return flat


def digest_table(table: pd.DataFrame) -> str:
    """Return 16 hex digits that change with any crop, label or split of a table."""
    import hashlib

    rows = table[["crop", "video_id", "label", "split"]]
    return hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()[:16]


def count_crops(table: pd.DataFrame) -> dict[str, Any]:
    """Count crops, videos and crops per method, as plain values."""
    return {
        "num_crops": len(table),
        "num_videos": int(table["video_id"].nunique()),
        "by_method": {str(name): int(count) for name, count in table["method"].value_counts().items()},
    }
