"""Callbacks of a training: decision, history and scores of each epoch, checkpoints, freezing, EMA, learning rate."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, WeightAveraging
from omegaconf import DictConfig
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unmask.data.dataset import SELF_MADE
from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.media.image import decode_crop_file, write_jpeg
from unmask.metrics.collection import aggregate_videos
from unmask.metrics.threshold import check_calibration, check_criterion, check_uncertain_error, choose_threshold
from unmask.models.checkpoint import BEST
from unmask.models.classifier import DeepfakeClassifier
from unmask.types import Image, Label

logger = logging.getLogger(__name__)


class DecisionCallback(L.Callback):
    """Choose threshold, calibration and uncertain band on the validation split, before the epoch's checkpoint.

    Args:
        criterion: See `unmask.metrics.threshold.CRITERIA`.
        calibration: See `unmask.metrics.threshold.CALIBRATIONS`.
        uncertain_error: Error rate outside the uncertain band; None for the default band.

    Raises:
        ConfigError: A setting is invalid; raised before an epoch is spent on it.
    """

    def __init__(self, *, criterion: str, calibration: str = "platt", uncertain_error: float | None = None) -> None:
        check_criterion(criterion)
        check_calibration(calibration)
        check_uncertain_error(uncertain_error)
        self._options: dict[str, Any] = {
            "criterion": criterion, "calibration": calibration, "uncertain_error": uncertain_error
        }  # fmt: skip

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the module's decision from the scores of the epoch."""
        assert isinstance(pl_module, DeepfakeClassifier)
        metric: Any = pl_module.val_metrics["videos"]
        if metric.gathered is None or trainer.sanity_checking:
            return
        scores, labels, videos, frames = metric.gathered
        if metric.has_videos:
            scores, labels = aggregate_videos(scores, labels, videos, aggregation=metric.aggregation, frames=frames)
        pl_module.decision = choose_threshold(
            labels.numpy(), scores.numpy(), aggregation=metric.aggregation, **self._options
        )


class EpochHistory(L.Callback):
    """Log one line per epoch and keep its figures.

    Args:
        keeps_past: Whether resumed training keeps the figures of its checkpoint.
    """

    def __init__(self, *, keeps_past: bool = True) -> None:
        self.keeps_past = keeps_past
        self.epochs: list[dict[str, float]] = []
        self.decisions: list[Decision] = []
        self._numbers: list[int] = []
        self._is_resumed = False

    def state_dict(self) -> dict[str, Any]:
        """Return the figures of all epochs, as plain values."""
        decisions = [decision.to_dict() for decision in self.decisions]
        return {"epochs": self.epochs, "decisions": decisions, "numbers": self._numbers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the epochs of the training that is resumed."""
        if not self.keeps_past:
            return
        self._is_resumed = True
        self.epochs, self._numbers = list(state_dict["epochs"]), list(state_dict["numbers"])
        self.decisions = [Decision.from_dict(decision) for decision in state_dict["decisions"]]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the step of a plateau schedule that comes after a checkpoint at the end of an epoch."""
        for config in trainer.lr_scheduler_configs if self._is_resumed else ():
            scheduler = config.scheduler
            if isinstance(scheduler, ReduceLROnPlateau):
                monitor = str(config.monitor)
                while scheduler.last_epoch < len(self.epochs) and monitor in self.epochs[scheduler.last_epoch]:
                    scheduler.step(self.epochs[scheduler.last_epoch][monitor])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep and log the figures of the epoch."""
        assert isinstance(pl_module, DeepfakeClassifier)
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name != "train/step_loss"}
        self.epochs.append(figures)
        self.decisions.append(pl_module.decision)
        self._numbers.append(trainer.current_epoch)
        shown = ("train/loss", "val/loss", "val/auroc", "val/video_auroc", "val/accuracy")
        told = "  ".join(f"{name} {figures[name]:.4f}" for name in shown if name in figures)
        logger.info("Epoch %d of %s: %s", trainer.current_epoch + 1, trainer.max_epochs, told)

    def best(self, objective: str) -> tuple[int, dict[str, float], Decision]:
        """Return the number of the best epoch, counted from 0 at the very start, its figures and its decision.

        Args:
            objective: Metric key; larger is better.
        """
        index = max(range(len(self.epochs)), key=lambda epoch: self.epochs[epoch].get(objective, float("-inf")))
        return self._numbers[index], self.epochs[index], self.decisions[index]


class PatientStopping(EarlyStopping):
    """Lightning's early stopping, which a resumed training can give more patience."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was seen, and not the patience that was configured then."""
        super().load_state_dict({**state_dict, "patience": self.patience})


class BestCheckpoint(ModelCheckpoint):
    """Write the best checkpoint; training resumed into another folder continues from its best one."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best checkpoint so far, which lies in the present folder by now; nothing where it does not."""
        path = Path(str(self.dirpath)) / BEST
        if path.is_file() and state_dict["best_model_score"] is not None:
            here, score = str(path), state_dict["best_model_score"]
            moved = {"best_model_path": here, "kth_best_model_path": here, "best_k_models": {here: score}}
            super().load_state_dict({**state_dict, **moved, "dirpath": self.dirpath})


def build_checkpoints(folder: Path, *, objective: str) -> list[ModelCheckpoint]:
    """Return the callbacks that write `best.ckpt` and `last.ckpt`, each once and in place.

    A training is resumed from the last one; see `SafeCheckpointIO` for what the best one lacks.

    Args:
        folder: Checkpoint folder.
        objective: Metric key; larger is better.
    """
    options: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = BestCheckpoint(filename="best", monitor=objective, mode="max", save_top_k=1, **options)
    last = ModelCheckpoint(filename="last", save_top_k=1, **options)
    return [best, last]


def build_ema(*, decay: float | None) -> "AveragedWeights | None":
    """Return the callback, or None without a decay: what `callbacks.ema` builds."""
    return None if decay is None else AveragedWeights(decay=decay)


class AveragedWeights(WeightAveraging):
    """Keep an exponential moving average of weights and running statistics (Polyak and Juditsky, 1992).

    Lightning's `WeightAveraging` puts the average in the place of the weights for every validation, and into the
    checkpoint as the weights, beside those that training continues with. So the average is what is validated, chosen,
    exported and used, and a resumed training has both.

    The average starts at the first step, and forgets faster while it is short: the decay of step n is
    `(1 + n) / (10 + n)` where that is smaller, as in TensorFlow's `ExponentialMovingAverage`. Otherwise a short
    training would be judged by weights that are mostly those of its start.

    Args:
        decay: Share that the average keeps at each step of the optimizer, in (0, 1): 0.999 looks back on about a
            thousand steps.

    Raises:
        ConfigError: Another decay.
    """

    def __init__(self, *, decay: float) -> None:
        if not isinstance(decay, int | float) or not 0 < decay < 1:
            raise ConfigError(
                f"callbacks.ema.decay={decay} must be more than 0 and less than 1, such as 0.999; null: no average."
            )
        self.decay = decay
        super().__init__(multi_avg_fn=self._average)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Put the average on the device of the training, on which the weights are not yet."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def _average(self, averages: Any, currents: Any, num_averaged: Tensor | int) -> None:
        """Move tensors of one type towards the current ones, in place."""
        if not torch.is_floating_point(averages[0]):  # counters of batch normalisation
            torch._foreach_copy_(averages, currents)
            return
        num = int(num_averaged)
        torch._foreach_lerp_(averages, currents, 1 - min(self.decay, (1 + num) / (10 + num)))


class FreezeBackbone(L.Callback):
    """Keep the backbone as it is for the first epochs, so that a random head does not spoil what it has learnt.

    Lightning's `BackboneFinetuning` adds the backbone to the optimizer when its time comes, which a schedule over the
    whole training does not know of. Here it is there from the start, and without gradients until then: the optimizer
    leaves alone what has none, its weight decay included.

    Batch normalisation and dropout of a frozen backbone act as in evaluation: a layer that went on with the statistics
    of each batch would show the head other features than those that it is judged on, and its running statistics would
    move away from the weights that stand still.

    Args:
        num_epochs: So many; 0 freezes nothing.

    Raises:
        ConfigError: Fewer than 0.
    """

    def __init__(self, *, num_epochs: int) -> None:
        if not isinstance(num_epochs, int) or num_epochs < 0:
            raise ConfigError(
                f"callbacks.freeze.num_epochs={num_epochs} must be a whole number from 0 on; 0 freezes nothing."
            )
        self.num_epochs = num_epochs

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Freeze the backbone, also when training resumes in the middle of a frozen epoch."""
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Freeze, or thaw when the time has come."""
        if 0 < self.num_epochs == trainer.current_epoch:
            logger.info("From here on the backbone learns too.")
        self._apply(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave nothing frozen."""
        self._set_trainable(pl_module, True)

    def _apply(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.num_epochs:
            self._set_trainable(pl_module, trainer.current_epoch >= self.num_epochs)

    def _set_trainable(self, pl_module: L.LightningModule, is_trainable: bool) -> None:
        assert isinstance(pl_module, DeepfakeClassifier)
        pl_module.network.set_backbone_trainable(is_trainable)


def count_frozen_epochs(callbacks: DictConfig) -> int:
    """Return in how many epochs the backbone stands still.

    Args:
        callbacks: Node `callbacks` of the configuration.

    Raises:
        ConfigError: It is no such number.
    """
    node = callbacks.get("freeze")
    return 0 if node is None else FreezeBackbone(num_epochs=node.num_epochs).num_epochs


class LearningRateCurve(LearningRateMonitor):
    """Log the learning rate of the steps that are logged at all, of short epochs too.

    Lightning logs every `trainer.log_every_n_steps`-th step, counted over the epochs, and so none of a training that is
    shorter. Where an epoch has fewer steps than that, its number of steps takes the place.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lower the interval where it has to be."""
        steps = max(1, int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        trainer.log_every_n_steps = min(trainer.log_every_n_steps, steps)  # type: ignore[attr-defined]
        super().on_train_start(trainer, pl_module)


_TILE = 112
_NUM_WORST = 8


@dataclass(frozen=True)
class BestScores:
    """Scores of the validation split at the best epoch.

    Args:
        scores: Crop scores in loader order, shape `(N,)`.
        labels: Crop labels, shape `(N,)`.
        videos: Number of the video of each.
        decision: Chosen on them.
        frames: Frame number of each in its video; None in a checkpoint of an earlier version.
    """

    scores: Any
    labels: Any
    videos: Any
    decision: Decision
    frames: Any = None

    def write_figures(self, folder: Path, *, table: pd.DataFrame, root: Path, has_videos: bool) -> list[Path]:
        """Write the figures, those that can be drawn; return their paths.

        Args:
            folder: Output folder.
            table: The validation crops in the order of the loader.
            root: Root of the face dataset.
            has_videos: Whether the crops come from videos; if so, curves per video are drawn beside those per frame.
        """
        from unmask.metrics.plots import draw_confusion, draw_precision_recall, draw_reliability, draw_roc, draw_scores

        scored = (self.labels.numpy(), self.scores.double().numpy())
        unit, curves = "images", {"images": scored}
        if has_videos:
            scores, labels = aggregate_videos(
                self.scores, self.labels, self.videos, aggregation=self.decision.aggregation, frames=self.frames
            )
            curves = {"videos": (labels.numpy(), scores.double().numpy()), "frames": scored}
            unit = "videos"
        threshold = self.decision.threshold
        drawn = {
            "roc": draw_roc(curves, threshold=threshold),
            "precision_recall": draw_precision_recall(curves, threshold=threshold),
            "scores": draw_scores(curves[unit], threshold=threshold, unit=unit),
            "confusion": draw_confusion(curves[unit], threshold=threshold, unit=unit),
            "reliability": draw_reliability(curves[unit], unit=unit),
        }
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, svg in drawn.items():
            if svg is not None:
                (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
                written.append(folder / f"{name}.svg")
        return written + _write_worst(scored, folder, table=table, root=root)


class ScoreKeeper(L.Callback):
    """Keep the validation scores of the epoch with the highest objective.

    Args:
        objective: Metric key.
        keeps_past: Whether resumed training keeps the best epoch of its checkpoint.
    """

    def __init__(self, objective: str, *, keeps_past: bool = True) -> None:
        self.keeps_past = keeps_past
        self.best: BestScores | None = None
        self._objective = objective
        self._highest = float("-inf")

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch so far."""
        if self.best is None:
            return {}
        best = {**vars(self.best), "decision": self.best.decision.to_dict()}
        return {"highest": self._highest, "objective": self._objective, "best": best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best epoch of the training that is resumed, where it was judged alike."""
        if self.keeps_past and state_dict.get("objective") == self._objective:
            best = state_dict["best"]
            self.best = BestScores(**{**best, "decision": Decision.from_dict(best["decision"])})
            self._highest = state_dict["highest"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the epoch with the best one so far."""
        assert isinstance(pl_module, DeepfakeClassifier)
        gathered: Any = pl_module.val_metrics["videos"].gathered
        value = trainer.callback_metrics.get(self._objective)
        if gathered is None or value is None or (self.best is not None and float(value) <= self._highest):
            return
        self._highest = float(value)
        scores, labels, videos, frames = gathered
        self.best = BestScores(scores, labels, videos, pl_module.decision, frames)


def _write_worst(scored: tuple[Any, Any], folder: Path, *, table: pd.DataFrame, root: Path) -> list[Path]:
    """Write a sheet per class of the crops whose score is farthest from their label, with the score on each."""
    labels, scores = scored
    rows = table.iloc[: len(labels)]
    if not np.array_equal(rows["label"].to_numpy(), labels):
        return []  # several processes shared the split, so that its order is not the table's
    written = []
    for label in Label:
        # The fakes that the augmentation made for validation are stored nowhere.
        of_class = np.flatnonzero((labels == label) & (rows["method"] != SELF_MADE).to_numpy())
        worst = of_class[np.argsort(-np.abs(scores[of_class] - label), kind="stable")][:_NUM_WORST]
        if len(worst):
            path = folder / f"worst_{label.name.lower()}.jpg"
            tiles = [_tile(decode_crop_file(root / rows["crop"].iloc[index]), float(scores[index])) for index in worst]
            write_jpeg(path, np.concatenate(tiles, axis=1), quality=90)
            written.append(path)
    return written


def _tile(crop: Image, score: float) -> Image:
    tile = cv2.resize(crop, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
    cv2.rectangle(tile, (0, _TILE - 18), (_TILE, _TILE), (0, 0, 0), -1)
    cv2.putText(tile, f"{score:.4f}", (6, _TILE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(tile, np.uint8)
