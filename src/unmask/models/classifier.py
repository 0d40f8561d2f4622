"""The LightningModule: trains a `FaceNetwork` to tell fake from real."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.faces.spec import CropSpec
from unmask.models.checkpoint import ENTRY, make_entry, upgrade_weights
from unmask.models.network import FaceNetwork
from unmask.models.schedules import Schedule

_LOSS_PREFIX = "loss."


@dataclass(frozen=True)
class Origin:
    """Information stored in the checkpoint beside the weights.

    Args:
        crop_spec: Spec of the training crops.
        provenance: Dataset, commit, seed and more, as plain values.
        learning: Training settings by dotted key, as plain values.
    """

    crop_spec: CropSpec
    provenance: dict[str, Any]
    learning: dict[str, Any] = field(default_factory=dict)


def check_head_lr_ratio(ratio: float) -> None:
    """Raise a ConfigError unless the ratio is a positive number."""
    if not isinstance(ratio, int | float) or not 0 < ratio < float("inf"):
        raise ConfigError(
            f"optimizer.head_lr_ratio={ratio} must be more than 0. Set 1 for the same learning rate everywhere."
        )


class DeepfakeClassifier(L.LightningModule):
    """Train on crops, and validate after every epoch.

    Args:
        network: Network that maps images to logits.
        loss: Loss of logits and labels, both of shape `(N,)`.
        optimizer: Builder of the optimizer from parameters.
        schedule: Learning-rate schedule, or None for a constant rate.
        metrics: Metrics of the validation split, updated with `preds`, `target`, `videos`, `rows`
            and `frames`.
        origin: Information stored in the checkpoint.
        head_lr_ratio: Learning rate of the head divided by that of the backbone, which is the optimizer's.

    Raises:
        ConfigError: The ratio is not a positive number.
    """

    def __init__(
        self,
        *,
        network: FaceNetwork,
        loss: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        schedule: Schedule | None,
        metrics: MetricCollection,
        origin: Origin,
        head_lr_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        check_head_lr_ratio(head_lr_ratio)
        self.network = network.to(memory_format=torch.channels_last)
        self.loss = loss
        self.train_loss = MeanMetric()
        self.train_loss.persistent(True)  # so that a resumed epoch continues its mean
        self.val_loss = MeanMetric()  # Lightning's own mean ignores that processes may have different numbers of crops
        self.val_metrics = metrics.clone(prefix="val/")
        self.origin = origin
        self.decision = Decision()
        self._build_optimizer = optimizer
        self._schedule = schedule
        self._head_lr_ratio = head_lr_ratio

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape `(N,)`; see `FaceNetwork.forward`."""
        logits: Tensor = self.network(images)
        return logits

    def on_train_epoch_start(self) -> None:
        """Reset the mean loss, which Lightning does not do before it writes the checkpoint of an epoch."""
        self.train_loss.reset()

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the mean loss of a batch."""
        loss, _ = self._shared_step(batch)
        self.train_loss.update(loss.detach(), len(batch["label"]))
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        self.log("train/step_loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Average the running statistics of batch normalization over all processes.

        Each process has seen its own share of the crops, but all must validate the same network, and the checkpoint
        stores a single state.
        """
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.trainer.strategy.reduce(buffer, reduce_op="mean"))

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Collect the scores of a batch."""
        loss, logits = self._shared_step(batch)
        scores, labels = logits.sigmoid(), batch["label"]
        self.val_loss.update(loss, len(labels))
        numbers = {"videos": batch["video"], "rows": batch["row"], "frames": batch.get("frame")}
        self.val_metrics.update(preds=scores, target=labels, **numbers)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        figures = {"val/loss": self.val_loss.compute(), **self.val_metrics.compute()}
        self.log_dict(figures, sync_dist=True)  # already equal in all processes, which Lightning cannot know
        self.val_loss.reset()
        self.val_metrics.reset()

    def _shared_step(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        # Compute losses and metrics in float32: in bf16, many scores of a good model would be equal.
        logits = self(batch["image"]).float()
        return self.loss(logits, batch["label"].float()), logits

    def configure_optimizers(self) -> Any:
        """Build the optimizer, and the schedule over the trainer's estimated number of steps."""
        optimizer = self._configure_optimizer()
        if self._schedule is None:
            return optimizer
        total_steps = self.trainer.estimated_stepping_batches
        steps = int(total_steps) if math.isfinite(total_steps) else -1  # training without an end
        return {"optimizer": optimizer, "lr_scheduler": self._schedule(optimizer, steps)}

    def _configure_optimizer(self) -> Optimizer:
        """Build the optimizer, with a separate parameter group if the head has its own learning rate."""
        if self._head_lr_ratio == 1:
            return self._build_optimizer(self.parameters())
        parts = zip(("backbone", "head"), self.network.split_parameters(), strict=True)
        groups = [{"params": parameters, "name": name} for name, parameters in parts]
        optimizer = self._build_optimizer(groups)
        optimizer.param_groups[1]["lr"] *= self._head_lr_ratio
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what prediction needs, as plain values."""
        checkpoint[ENTRY] = make_entry(
            network_config=self.network.config,
            crop_spec=self.origin.crop_spec,
            decision=self.decision,
            provenance=self.origin.provenance,
            learning=self.origin.learning,
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the decision and the weights on resume.

        If weight averaging is off now but was on before, training continues from the plain weights, not the average.
        The loss keeps its configured weights if the stored ones belong to another loss.
        """
        self.decision = Decision.from_dict(checkpoint[ENTRY]["decision"])
        callbacks = [] if self._trainer is None else self._trainer.callbacks  # type: ignore[attr-defined]
        averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
        if "current_model_state" in checkpoint and not averages:
            checkpoint["state_dict"] = checkpoint.pop("current_model_state")
        own = {key: value for key, value in self.state_dict().items() if key.startswith(_LOSS_PREFIX)}
        for name in {"state_dict", "current_model_state"} & checkpoint.keys():
            state = checkpoint[name] = upgrade_weights(checkpoint[name])
            if {key for key in state if key.startswith(_LOSS_PREFIX)} != own.keys():
                kept = {key: value for key, value in state.items() if not key.startswith(_LOSS_PREFIX)}
                checkpoint[name] = kept | own
