"""A callback."""

from typing import Any

import lightning as L
import torch


class GradientNorm(L.Callback):
    """Log the norm of all gradients as `train/gradient_norm`.

    Args:
        every: Steps between two values.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Log before the optimizer changes the weights."""
        if trainer.global_step % self.every == 0:
            norms = [each.grad.norm() for each in pl_module.parameters() if each.grad is not None]
            pl_module.log("train/gradient_norm", torch.stack(norms).norm())
