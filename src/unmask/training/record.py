"""Log a training: name, params, data and code at the start, the result at the end."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig, OmegaConf

from unmask.config import find_choices, to_plain
from unmask.data.datamodule import FaceDataModule
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.forgeries import name_sources, read_trained_on
from unmask.models.checkpoint import Checkpoint
from unmask.models.classifier import DeepfakeClassifier
from unmask.tracking.logger import MLflowLogger, flatten
from unmask.tracking.provenance import CodeState, describe_environment
from unmask.training.build import Parts, RunCallback
from unmask.training.resume import describe_changes
from unmask.training.sweep_callback import name_child, read_parent

logger = logging.getLogger(__name__)

_DESCRIPTION = "mlflow.note.content"
_LONGEST_TAG = 5000  # that MLflow takes

_PLACES = ("paths", "logger", "tracking")
_OF_ONE_RUN = ("experiment_name", "run_name", "resume", "reproduce", "register", "task", "send_dir")
_NOT_IN_NAMES = ("hydra", "model", "dataset.root", "trainer.enable_progress_bar", "checkpoint_minutes")
_LONGEST_NAME = 120


@dataclass(frozen=True)
class TrainResult:
    """Result of a training; `result.json` holds the same.

    Args:
        run_id: MLflow run ID, or None when untracked.
        tracking_uri: URI of the MLflow store, or None when untracked.
        run_page: Address of the run in MLflow's UI, which `make ui` starts where the store is not a server; or None.
        best_checkpoint: Path.
        last_checkpoint: Path.
        bundle: Folder of the best network as ONNX and its spec, or None where it cannot be exported.
        objective_key: Metric key that was maximized.
        objective: Its best value.
        best_epoch: Epoch of that value, from 0.
        metrics: Metrics of that epoch.
        decision: Threshold, aggregation and criterion of the best checkpoint.
    """

    run_id: str | None
    tracking_uri: str | None
    run_page: str | None
    best_checkpoint: str
    last_checkpoint: str
    bundle: str | None
    objective_key: str
    objective: float
    best_epoch: int
    metrics: dict[str, float]
    decision: dict[str, Any]


class Record(RunCallback):
    """Log a training: params and metrics to every logger, and all else that makes a run to MLflow.

    The run opens when training starts: by then everything has been built, so that a configuration that cannot train
    leaves no run behind.

    Args:
        cfg: Configuration of `train.yaml`.
        folder: Run folder.
        overrides: Overrides of the command line.
        code: State of the code.
        resumed: Checkpoint that training resumes from, or None.

    Raises:
        ConfigError: A logger cannot be built, or `register` is given without the MLflow logger.
    """

    def __init__(
        self, cfg: DictConfig, *, folder: Path, overrides: list[str], code: CodeState, resumed: Checkpoint | None
    ) -> None:
        super().__init__(cfg, folder=folder)
        self._cfg = cfg
        self._folder = folder
        self._overrides, self._code, self._resumed = overrides, code, resumed
        self._open_runs = ExitStack()
        if cfg.register is not None and self._mlflow is None:
            raise ConfigError(
                f"register={cfg.register} needs a run in MLflow, which logger={find_choices().get('logger')} does not "
                f"make. Choose logger=mlflow, or logger=many for several loggers."
            )

    @property
    def run(self) -> MLflowLogger | None:
        """Open run in MLflow; None if there is none, or another process logs it."""
        return self._mlflow if self._mlflow is not None and self._mlflow.run_id else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the run, and log what it is made of.

        Raises:
            TrackingError: The store cannot be used.
        """
        assert isinstance(pl_module, DeepfakeClassifier)
        data: FaceDataModule = trainer.datamodule  # type: ignore[attr-defined]
        provenance = pl_module.origin.provenance
        if self._mlflow is not None and trainer.is_global_zero:
            self._open(self._mlflow, provenance)
            provenance |= {"run_id": self._mlflow.run_id, "run_name": self._mlflow.run_name}
        self._log_start(data, provenance)
        if self._resumed is not None:
            self._log_changes(describe_changes(self._resumed.learning, pl_module.origin.learning))

    def _open(self, mlflow: MLflowLogger, provenance: dict[str, Any]) -> None:
        parent, tags = read_parent(os.environ)
        mlflow.open(
            folder=self._folder,
            tags=_choose_tags(provenance) | {_DESCRIPTION: _quote(provenance["command"])} | tags,
            run_name=name_child(self._overrides, os.environ) or name_run(self._cfg, self._overrides),
            run_id=None if self._resumed is None else self._resumed.provenance.get("run_id"),
            parent_run_id=parent,
        )
        self._open_runs.enter_context(mlflow.closing())

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the runs of the loggers when the block ends, in whichever way."""
        try:
            with self._open_runs:
                yield
        finally:
            # Otherwise the next job of a sweep would log to the same run of Weights & Biases.
            wandb = sys.modules.get("wandb")
            if wandb is not None and getattr(wandb, "run", None) is not None:
                wandb.finish(exit_code=int(sys.exc_info()[0] is not None))

    def _log_start(self, data: FaceDataModule, provenance: dict[str, Any]) -> None:
        """Log what the run is made of: params, configuration, code, packages, machine, data."""
        params = choose_params(self._cfg)
        for each in self.loggers:
            each.log_hyperparams(params)
        run = self.run
        if run is None:
            return
        environment = describe_environment() | {"untracked": list(self._code.untracked)}
        run.log_session_text(OmegaConf.to_yaml(self._cfg, resolve=True), "config.yaml")
        run.log_session_text("\n".join(self._overrides) + "\n", "overrides.txt")
        run.log_session_text(json.dumps(environment, indent=2) + "\n", "environment.json")
        if self._code.is_dirty:
            run.log_session_text(self._code.diff, "code.diff")
        run.set_tags({"trained_on": name_sources(read_trained_on(provenance))})
        run.log_dataset(data.dataset, {split: data.table(split) for split in ("train", "val")})

    def _log_changes(self, changes: list[str]) -> None:
        """Log what a resumed training changes: one entry per setting."""
        if changes:
            logger.info("Changed since the checkpoint: %s.", "; ".join(changes))
        if self.run is not None and changes:
            self.run.set_tags({"resumed.changes": "; ".join(changes)[:_LONGEST_TAG]})

    def log_end(self, dataset: FaceDataset, parts: Parts, result: TrainResult) -> None:
        """Log the result: metrics of the best epoch, checkpoints, figures, model, and the log itself.

        Args:
            dataset: Face dataset.
            parts: Parts of the training.
            result: Result of the training.

        Raises:
            ConfigError: `register` is given, and the network cannot be exported to ONNX.
        """
        best = {f"best/{key}": value for key, value in result.metrics.items() if key.startswith("val/")}
        for each in self.loggers:
            each.log_metrics(best | {"best/objective": result.objective})
            each.finalize("success")
        if self.run is not None:
            self._store_result(self.run, dataset, parts, result)

    def _store_result(self, run: MLflowLogger, dataset: FaceDataset, parts: Parts, result: TrainResult) -> None:
        kept = {"best": [result.best_checkpoint], "all": [result.best_checkpoint, result.last_checkpoint], "none": []}
        run.log_files([Path(path) for path in kept[run.checkpoints]], "checkpoints", may_link=True)
        if result.bundle is not None:
            run.log_folder(Path(result.bundle), "bundle")
        if parts.scores.best is not None:
            options: dict[str, Any] = {"root": dataset.root, "has_videos": dataset.has_videos}
            table = parts.data.table("val")
            run.log_files(parts.scores.best.write_figures(self._folder / "figures", table=table, **options), "figures")
        run.set_tags({_DESCRIPTION: _describe_result(parts, result)})
        name = self._cfg.register
        if result.bundle is None and name is not None:
            raise ConfigError(f"register={name} needs a network that can be exported to ONNX; the log says why not.")
        if result.bundle is not None and (run.logs_model or name is not None):
            run.log_model(Path(result.bundle))
            if name is not None:
                run.register(name, objective_key=result.objective_key, objective=result.objective)
        written = (path for pattern in ("*.log", "curves.*") for path in sorted(self._folder.glob(pattern)))
        run.log_session_files([*written, self._folder / "result.json"])


def name_run(cfg: DictConfig, overrides: list[str]) -> str:
    """Return the default name of a run: its face dataset, its model and its overrides.

    Args:
        cfg: Configuration of `train.yaml`.
        overrides: Overrides of the command line; those that only say where and how to run are left out.
    """
    hidden = tuple(f"{key}." for key in (*_PLACES, *_OF_ONE_RUN, *_NOT_IN_NAMES))
    told = [text for text in overrides if not f"{text.lstrip('+~').partition('=')[0]}.".startswith(hidden)]
    model = cfg.model.get("name") or find_choices().get("model", "")
    name = " ".join([Path(cfg.dataset.root).name, str(model), *told])
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _describe_result(parts: Parts, result: TrainResult) -> str:
    """Return the description on top of the page of a finished run, as Markdown."""
    lines = [f"**{result.objective_key} {result.objective:.4f}** in epoch {result.best_epoch + 1}."]
    if result.bundle is not None:
        lines.append(f"Bundle: `{Path(result.bundle).resolve()}`, and the artifact `bundle`. Predict with:")
        lines.append(_quote(f"python predict.py checkpoint=runs:/{result.run_id} photo.jpg"))
    lines += ["Trained with:", _quote(parts.model.origin.provenance["command"])]
    return "\n\n".join(lines)


def _quote(command: str) -> str:
    return f"```\n{command}\n```"


def _choose_tags(provenance: dict[str, Any]) -> dict[str, str]:
    tags = {name: str(provenance[name]) for name in ("dataset", "preprocessing_hash", "command")}
    return tags | {"mlflow.source.git.commit": provenance["commit"], "git.dirty": str(provenance["is_dirty"])}


def choose_params(cfg: DictConfig) -> dict[str, Any]:
    """Return the hyper parameters that runs are compared by: the options of the groups, and settings by dotted key."""
    noise = {"callbacks", *_PLACES, *_OF_ONE_RUN}
    choices = {group: option for group, option in find_choices().items() if group in cfg and group not in noise}
    plain = to_plain(cfg)
    # The other callbacks do not change what is learned.
    learning = {name: plain["callbacks"].get(name) or {} for name in ("freeze", "ema")}
    kept = {key: value for key, value in plain.items() if key not in noise}
    return choices | flatten(kept | {"callbacks": learning})
