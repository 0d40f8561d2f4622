"""The exponential moving average of the weights, as the network that is judged and kept."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from unmask.errors import ConfigError


def build_ema(*, decay: float | None) -> "AveragedWeights | None":
    """Return the callback, or None without a decay: what `callbacks.ema` builds."""
    return None if decay is None else AveragedWeights(decay=decay)


class AveragedWeights(WeightAveraging):
    """Keep an exponential moving average of weights and running statistics (Polyak and Juditsky, 1992).

    Lightning's `WeightAveraging` puts the average in the place of the weights for every validation, and into the
    checkpoint as the weights, beside those that training goes on with. So the average is what is validated, chosen,
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
