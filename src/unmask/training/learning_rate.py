"""The learning rate as a curve."""

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor


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
