"""Build the objects of a training from its configuration: the only place where training meets Hydra."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from omegaconf import DictConfig, open_dict
from torchmetrics import Metric

from unmask.data.datamodule import FaceDataModule
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.metrics.collection import FIGURES, build_metrics
from unmask.models.classifier import DeepfakeClassifier, Origin
from unmask.training.callbacks import (
    DecisionCallback,
    EpochHistory,
    ScoreKeeper,
    build_checkpoints,
    count_frozen_epochs,
)
from unmask.training.checks import check_batch, check_settings, list_metrics, log_limits
from unmask.training.devices import choose_precision, choose_strategy, runs_on_gpu
from unmask.training.interruption import StopRequest
from unmask.training.parts import build_loggers, build_network, build_node, build_optimizer, build_schedule, find_mlflow
from unmask.training.resume import Resumption, SafeCheckpointIO, record_learning
from unmask.training.step_callbacks import FiniteLoss, StepSeeds, StopAtStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The parts of a training.

    Args:
        data: Datamodule that serves the crops.
        model: Module that is trained.
        trainer: Lightning trainer.
        checkpoints: Callbacks that write the best and the last checkpoint.
        history: Metrics of each epoch.
        scores: Keeper of the validation scores of the best epoch.
        resumption: Callback that restores optimizer and schedule when training is resumed.
    """

    data: FaceDataModule
    model: DeepfakeClassifier
    trainer: L.Trainer
    checkpoints: list[ModelCheckpoint]
    history: EpochHistory
    scores: ScoreKeeper
    resumption: Resumption


class RunCallback(L.Callback):
    """A callback that opens a run when training starts; its loggers write nothing before that.

    Args:
        cfg: Configuration of `train.yaml`.
        folder: Run folder.

    Raises:
        ConfigError: A logger cannot be built.
    """

    def __init__(self, cfg: DictConfig, *, folder: Path) -> None:
        self.loggers: list[Logger] = build_loggers(cfg.logger, folder=folder)
        self._mlflow = find_mlflow(self.loggers)


def check_config(cfg: DictConfig, dataset: FaceDataset) -> None:
    """Resolve the objective, and raise where settings do not fit together or the data.

    Raises:
        ConfigError: Names the keys.
    """
    resolve_objective(cfg, dataset)
    check_settings(cfg, dataset)


def check_sizes(cfg: DictConfig, parts: Parts) -> None:
    """Raise where the size of a crop or of a batch would stop training later.

    Args:
        cfg: Configuration of `train.yaml`.
        parts: Parts of the training, with the data set up.

    Raises:
        ConfigError: Names the key to change.
    """
    parts.data.rehearse_augmentation()
    num_processes = parts.trainer.world_size
    num_crops = parts.data.count_smallest_batch(num_processes)
    if cfg.trainer.get("sync_batchnorm"):
        num_crops *= num_processes
    check_batch(parts.model.network, num_crops=num_crops, batch_size=cfg.dataset.batch_size)


def resolve_objective(cfg: DictConfig, dataset: FaceDataset) -> str:
    """Replace `objective: auto` by the key of the figure that fits the data, and return it.

    Raises:
        ConfigError: A figure that the data do not give, or of which less is better.
    """
    if cfg.objective == "auto":
        with open_dict(cfg):
            cfg.objective = "val/video_auroc" if dataset.has_videos else "val/auroc"
    known = list_metrics(cfg, dataset)
    if cfg.objective not in known:
        raise ConfigError(f"Unknown metric '{cfg.objective}' (objective). Choose one of: auto, {', '.join(known)}")
    return str(cfg.objective)


def build_model(
    cfg: DictConfig, dataset: FaceDataset, *, provenance: dict[str, Any]
) -> tuple[DeepfakeClassifier, FaceDataModule]:
    """Build what learns, and what it learns from.

    Args:
        cfg: Configuration of `train.yaml`.
        dataset: At `cfg.dataset.root`.
        provenance: Origin of the run for the checkpoint; what is known later is added to this object.
    """
    learning = record_learning(cfg)
    network = build_network(cfg.model)
    log_limits(network, dataset)
    if cfg.compile:
        network.compile()  # in place, so that the names of the weights stay those of any checkpoint
    data = build_node(
        cfg.dataset, input_spec=network.input_spec, augmentation=build_node(cfg.augmentation), seed=cfg.seed
    )
    model = DeepfakeClassifier(
        network=network,
        loss=build_node(cfg.loss),
        optimizer=build_optimizer(cfg.optimizer),
        schedule=build_schedule(cfg.scheduler, max_epochs=cfg.trainer.max_epochs),
        metrics=build_metrics(aggregation=cfg.aggregation, has_videos=dataset.has_videos, further=_build_metrics(cfg)),
        origin=Origin(dataset.spec, provenance, learning),
        head_lr_ratio=cfg.optimizer.get("head_lr_ratio", 1.0),
    )
    return model, data


def build_parts(
    cfg: DictConfig,
    dataset: FaceDataset,
    *,
    folder: Path,
    record: RunCallback,
    provenance: dict[str, Any],
    request: StopRequest,
) -> Parts:
    """Build everything from the composed configuration.

    Args:
        cfg: Configuration of `train.yaml`.
        dataset: At `cfg.dataset.root`.
        folder: Run folder.
        record: Loggers, and the callback that opens their runs when everything is built.
        provenance: Origin of the run for the checkpoint; what is known later is added to this object.
        request: Shutdown request, set by a signal.
    """
    model, data = build_model(cfg, dataset, provenance=provenance)
    resumption = Resumption(model.origin.learning)
    checkpoints = build_checkpoints(folder / "checkpoints", objective=cfg.objective)
    history, scores = EpochHistory(), ScoreKeeper(cfg.objective)
    callbacks = [
        resumption,  # before any other looks at the optimizer or the schedule
        record,
        DecisionCallback(
            criterion=cfg.threshold_criterion, calibration=cfg.calibration, uncertain_error=cfg.uncertain_error
        ),
        history,
        scores,
        StepSeeds(cfg.seed),
        FiniteLoss(),
        *_build_callbacks(cfg, has_logger=bool(record.loggers)),
        StopAtStep(request, folder=folder / "checkpoints", minutes=cfg.checkpoint_minutes),
    ]
    trainer = build_trainer(
        cfg,
        logger=record.loggers or False,
        callbacks=callbacks + checkpoints,
        plugins=[SafeCheckpointIO()],
        default_root_dir=str(folder),
    )
    return Parts(data, model, trainer, checkpoints, history, scores, resumption)


def _build_metrics(cfg: DictConfig) -> dict[str, Metric]:
    """Build the metrics of the user's own.

    Raises:
        ConfigError: One is not a torchmetrics metric, has the name of another, or cannot be the objective.
    """
    built = {str(name): build_node(node) for name, node in cfg.metrics.items() if node is not None}
    for name, metric in built.items():
        if not isinstance(metric, Metric):
            raise ConfigError(
                f"metrics.{name}._target_={cfg.metrics[name]._target_} does not give a torchmetrics metric."
            )
        if name in FIGURES or not name.isidentifier():
            raise ConfigError(f"metrics.{name}: choose another name, of letters and digits, than {', '.join(FIGURES)}.")
        if metric.higher_is_better is False and cfg.objective in (f"val/{name}", f"val/video_{name}"):
            raise ConfigError(f"objective={cfg.objective} is better when smaller, and the objective is maximized.")
    return built


def build_trainer(cfg: DictConfig, **parts: Any) -> L.Trainer:
    """Build the trainer.

    Args:
        cfg: Configuration of `train.yaml`.
        parts: Arguments that the configuration does not have, or that replace its own.

    Raises:
        ConfigError: Keys do not fit together, or the machine.
    """
    options = {
        "precision": choose_precision(cfg.precision.name, has_gpu=runs_on_gpu(cfg.trainer)),
        "strategy": choose_strategy(cfg.trainer, has_frozen=count_frozen_epochs(cfg.callbacks) > 0),
        "deterministic": cfg.deterministic,
        # A bar that redraws itself fills a log file; there the line of each epoch is enough.
        "enable_progress_bar": cfg.trainer.enable_progress_bar and sys.stderr.isatty(),
    }
    try:
        trainer: L.Trainer = instantiate(cfg.trainer, **options, **parts)
    except InstantiationException as error:
        if not isinstance(error.__cause__, MisconfigurationException | ValueError | TypeError):
            raise
        raise ConfigError(f"These keys of trainer do not fit together or the machine: {error.__cause__}") from error
    return trainer


def _build_callbacks(cfg: DictConfig, *, has_logger: bool) -> list[Any]:
    """Build the callbacks of the config; a null one is left out, and so is one that needs a logger if there is none."""
    wanted = {name: node for name, node in cfg.callbacks.items() if node is not None}
    if not has_logger:
        wanted.pop("learning_rate", None)
    built = (build_node(node) for node in wanted.values())
    return [callback for callback in built if callback is not None]
