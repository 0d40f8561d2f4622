"""A metric: how many fakes are found while almost no real face is accused."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class RecallAtFalseAlarms(Metric):
    """Share of fakes that score above all but a share of the real faces.

    Args:
        false_alarms: Share of real faces that may score higher.
    """

    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, false_alarms: float = 0.05) -> None:
        super().__init__()
        self.false_alarms = false_alarms
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add scores in [0, 1] and labels, both of shape `(N,)`."""
        self.scores.append(preds)
        self.labels.append(target)

    def compute(self) -> Tensor:
        """Return the share."""
        scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
        real, fake = scores[labels == 0], scores[labels == 1]
        if not len(real) or not len(fake):
            return torch.zeros((), device=scores.device)
        return (fake > real.quantile(1 - self.false_alarms)).float().mean()
