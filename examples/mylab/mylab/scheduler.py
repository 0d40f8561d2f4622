"""A learning-rate scheduler."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class InverseSquareRoot(LRScheduler):
    """Lower the learning rate with the square root of the number of steps.

    Args:
        optimizer: Optimizer whose learning rates are scheduled.
        warmup: Steps before the rate falls.
    """

    def __init__(self, optimizer: Optimizer, *, warmup: int = 10) -> None:
        self.warmup = warmup
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """Return the learning rate of each parameter group."""
        factor = (self.warmup / max(self.last_epoch, self.warmup)) ** 0.5
        return [rate * factor for rate in self.base_lrs]
