"""Every run in MLflow: configuration, code, data, curves, checkpoints, log."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.data.tables import FaceDataset
from unmask.errors import TrackingError

_PARAMS_PER_CALL = 100
_LONGEST_PARAM = 6000


@dataclass(frozen=True)
class MLflowSettings:
    """Where runs are tracked.

    Args:
        tracking_uri: A server or store; None is the sqlite file `tracking_db`.
        tracking_db: That file.
        artifact_dir: Where its artifacts go; a server has a place of its own.
        experiment_name: MLflow's experiment.
        run_name: None lets MLflow choose one.
    """

    tracking_uri: str | None
    tracking_db: str
    artifact_dir: str
    experiment_name: str
    run_name: str | None = None

    @property
    def uri(self) -> str:
        """The store's address; of sqlite with an absolute path, which holds wherever a command is started."""
        return self.tracking_uri or f"sqlite:///{Path(self.tracking_db).resolve()}"

    @property
    def artifact_location(self) -> str | None:
        """Absolute folder of the artifacts of a new experiment; None where a server decides."""
        if self.tracking_uri is not None:
            return None
        return (Path(self.artifact_dir).resolve() / self.experiment_name).as_uri()


def no_tracking() -> None:
    """Track nothing: what `logger=none` builds."""


class TrackedRun:
    """One open run of MLflow, and the Lightning logger that writes its curves.

    Args:
        settings: Where.
        tags: Searchable in the UI.
    """

    def __init__(self, settings: MLflowSettings, *, tags: Mapping[str, str]) -> None:
        self.settings = settings
        self._tags = dict(tags)
        self.logger: Any = None

    def open(self) -> None:
        """Create store, experiment and run.

        Raises:
            TrackingError: The store does not answer.
        """
        # MLflow would otherwise try for minutes before it says that a server is not there.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from lightning.pytorch.loggers import MLFlowLogger
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if self.settings.tracking_uri is None:
            Path(self.settings.tracking_db).parent.mkdir(parents=True, exist_ok=True)
        try:
            self.logger = MLFlowLogger(
                experiment_name=self.settings.experiment_name,
                tracking_uri=self.settings.uri,
                artifact_location=self.settings.artifact_location,
                run_name=self.settings.run_name,
                tags=self._tags,
                log_model=False,
            )
            assert self.logger.run_id is not None  # creates the run
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingError(
                f"The MLflow store '{self.settings.uri}' cannot be used: {str(error).splitlines()[0]} "
                f"Start the server, mend logger.tracking_uri (or MLFLOW_TRACKING_URI), or train without it: logger=none"
            ) from error

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self.logger.run_id)

    @property
    def _client(self) -> Any:
        return self.logger.experiment

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the run as FINISHED, or as FAILED or KILLED with the error where one comes through."""
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            self._client.set_tag(self.run_id, "error", f"{type(error).__name__}: {error}"[:_LONGEST_PARAM])
            self._client.set_terminated(self.run_id, "KILLED" if stopped else "FAILED")
            raise
        self._client.set_terminated(self.run_id, "FINISHED")

    def log_params(self, config: Mapping[str, Any]) -> None:
        """Log a nested configuration as flat params such as `optimizer.lr`."""
        from mlflow.entities import Param

        params = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in flatten(config).items()]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            self._client.log_batch(self.run_id, params=params[start : start + _PARAMS_PER_CALL])

    def log_dataset(self, dataset: FaceDataset, tables: Mapping[str, pd.DataFrame]) -> None:
        """Log the crops of each split as an input of the run, with a digest and their counts.

        Args:
            dataset: The face dataset.
            tables: Usable crops by split.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=dataset.name,
                    digest=digest_table(table),
                    source_type="local",
                    source=json.dumps({"uri": str(dataset.root.resolve())}),
                    profile=json.dumps({"preprocessing": dataset.spec.hash, **count_crops(table)}),
                ),
                tags=[InputTag("mlflow.data.context", split)],
            )
            for split, table in tables.items()
        ]
        self._client.log_inputs(self.run_id, datasets=inputs)

    def log_text(self, text: str, name: str) -> None:
        """Store text as an artifact."""
        self._client.log_text(self.run_id, text, name)

    def log_files(self, files: Sequence[Path], folder: str | None = None) -> None:
        """Store files as artifacts, those that exist."""
        for path in files:
            if path.is_file():
                self._client.log_artifact(self.run_id, str(path), folder)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
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
