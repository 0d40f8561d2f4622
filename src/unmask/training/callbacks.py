"""What happens around every epoch."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unmask.decision import Decision
from unmask.metrics.collection import aggregate_videos
from unmask.metrics.threshold import check_criterion, choose_threshold
from unmask.models.checkpoint import BEST
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
    """Log one line per epoch and keep its figures.

    Args:
        keeps_past: Whether a resumed training goes on from the figures of its checkpoint.
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
    """Writes the best checkpoint, and goes on from the best one of a training that is resumed into another folder."""

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
        folder: Of the checkpoints.
        objective: Metric key; larger is better.
    """
    options: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = BestCheckpoint(filename="best", monitor=objective, mode="max", save_top_k=1, **options)
    last = ModelCheckpoint(filename="last", save_top_k=1, **options)
    return [best, last]
