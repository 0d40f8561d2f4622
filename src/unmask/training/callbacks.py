"""What happens around every epoch."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from unmask.decision import Decision
from unmask.metrics.collection import aggregate_videos
from unmask.metrics.threshold import check_criterion, choose_threshold
from unmask.models.classifier import DeepfakeClassifier

logger = logging.getLogger(__name__)


class DecisionCallback(L.Callback):
    """Choose the threshold on the validation split before the checkpoint of the epoch is written.

    Args:
        criterion: See `unmask.metrics.threshold.CRITERIA`.

    Raises:
        ConfigError: For another criterion, before an epoch is spent on it.
    """

    def __init__(self, *, criterion: str) -> None:
        check_criterion(criterion)
        self.criterion = criterion

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the module's decision from the scores of the epoch."""
        assert isinstance(pl_module, DeepfakeClassifier)
        metric: Any = pl_module.val_metrics["videos"]
        if metric.gathered is None or trainer.sanity_checking:
            return
        scores, labels, videos = metric.gathered
        if metric.has_videos:
            scores, labels = aggregate_videos(scores, labels, videos, aggregation=metric.aggregation)
        pl_module.decision = choose_threshold(
            labels.numpy(), scores.numpy(), criterion=self.criterion, aggregation=metric.aggregation
        )


class EpochHistory(L.Callback):
    """Log one line per epoch and keep its figures."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.decisions: list[Decision] = []
        self._numbers: list[int] = []

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


def build_checkpoints(folder: Path, *, objective: str) -> list[ModelCheckpoint]:
    """Return the callbacks that write `best.ckpt` and `last.ckpt`, each once and in place.

    Args:
        folder: Of the checkpoints.
        objective: Metric key; larger is better.
    """
    options: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = ModelCheckpoint(filename="best", monitor=objective, mode="max", save_top_k=1, **options)
    last = ModelCheckpoint(filename="last", save_top_k=1, **options)
    return [best, last]
