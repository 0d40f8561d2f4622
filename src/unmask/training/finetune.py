"""Let the head learn first, then the backbone with it."""

import logging

import lightning as L
from omegaconf import DictConfig

from unmask.errors import ConfigError
from unmask.models.classifier import DeepfakeClassifier

logger = logging.getLogger(__name__)


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
        """Freeze, also when a training goes on in the middle of a frozen epoch."""
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
        callbacks: Of the configuration.

    Raises:
        ConfigError: It is no such number.
    """
    node = callbacks.get("freeze")
    return 0 if node is None else FreezeBackbone(num_epochs=node.num_epochs).num_epochs
