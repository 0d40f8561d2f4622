"""The LightningModule: trains a `FaceNetwork` to tell fake from real."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from unmask.decision import Decision
from unmask.faces.spec import CropSpec
from unmask.models.checkpoint import ENTRY, make_entry
from unmask.models.network import FaceNetwork
from unmask.models.schedules import Schedule


@dataclass(frozen=True)
class Origin:
    """What goes into the checkpoint beside the weights.

    Args:
        crop_spec: How the crops of the training were made.
        provenance: Dataset, commit, seed and the like, plain values.
    """

    crop_spec: CropSpec
    provenance: dict[str, Any]


class DeepfakeClassifier(L.LightningModule):
    """Train on crops, judge on the validation split after every epoch.

    Args:
        network: Maps pictures to logits.
        loss: Of logits and targets, both of shape `(N,)`.
        optimizer: Gets the parameters.
        schedule: Of the learning rate, or None to leave it.
        metrics: Takes `preds`, `target` and `videos` of the validation split.
        origin: For the checkpoint.
    """

    def __init__(
        self,
        *,
        network: FaceNetwork,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Schedule | None,
        metrics: MetricCollection,
        origin: Origin,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.loss = loss
        self.val_metrics = metrics.clone(prefix="val/")
        self.origin = origin
        self.decision = Decision()
        self._build_optimizer = optimizer
        self._schedule = schedule

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape `(N,)`; see `FaceNetwork.forward`."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the mean loss of a batch."""
        loss, _ = self._shared_step(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch["label"]))
        self.log("train/step_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Collect the scores of a batch."""
        loss, logits = self._shared_step(batch)
        self.log("val/loss", loss, on_epoch=True, sync_dist=True, batch_size=len(batch["label"]))
        self.val_metrics.update(preds=logits.sigmoid(), target=batch["label"], videos=batch["video"])

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the validation split."""
        figures = self.val_metrics.compute()
        self.log_dict(figures)
        self.val_metrics.reset()

    def _shared_step(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        # Losses and metrics in float32: under bf16 the scores of a good model would tie.
        logits = self(batch["image"]).float()
        return self.loss(logits, batch["label"].float()), logits

    def configure_optimizers(self) -> Any:
        """Build the optimizer, and the schedule over the steps that the trainer foresees."""
        optimizer = self._build_optimizer(self.parameters())
        if self._schedule is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": self._schedule(optimizer, total_steps)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what prediction needs, as plain values."""
        checkpoint[ENTRY] = make_entry(
            network_config=self.network.config,
            crop_spec=self.origin.crop_spec,
            decision=self.decision,
            provenance=self.origin.provenance,
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the decision back on resume."""
        self.decision = Decision.from_dict(checkpoint[ENTRY]["decision"])
