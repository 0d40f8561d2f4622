"""Loss functions of logits and labels."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from unmask.errors import ConfigError


class SmoothedBCE(nn.Module):
    """Binary cross entropy with label smoothing and class weights.

    Args:
        label_smoothing: Amount of label smoothing in [0, 1): 0.1 trains towards 0.05 and 0.95.
        fake_weight: Weight of a fake crop relative to a real one.
    """

    def __init__(self, *, label_smoothing: float = 0.0, fake_weight: float = 1.0) -> None:
        super().__init__()
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise ConfigError(f"loss.label_smoothing={label_smoothing} must be at least 0 and less than 1.")
        _check_weight(fake_weight)
        self.label_smoothing = label_smoothing
        self.fake_weight = fake_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss.

        Args:
            logits: Logits, shape `(N,)`.
            labels: Labels 0 or 1, shape `(N,)`.
        """
        targets = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights = _weigh(labels, self.fake_weight)
        return binary_cross_entropy_with_logits(logits, targets, weight=weights, reduction="sum") / weights.sum()


class FocalLoss(nn.Module):
    """Cross entropy with less weight for easy examples (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017).

    Args:
        gamma: Strength of the down-weighting; 0 is plain cross entropy.
        fake_weight: Weight of a fake crop relative to a real one.
    """

    def __init__(self, *, gamma: float = 2.0, fake_weight: float = 1.0) -> None:
        super().__init__()
        if not isinstance(gamma, int | float) or not 0 <= gamma < float("inf"):
            raise ConfigError(f"loss.gamma={gamma} must be at least 0.")
        _check_weight(fake_weight)
        self.gamma = gamma
        self.fake_weight = fake_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss; see `SmoothedBCE.forward`."""
        losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
        weights = _weigh(labels, self.fake_weight)
        # exp(-loss) is the probability given to the true class
        return (weights * (1 - torch.exp(-losses)) ** self.gamma * losses).sum() / weights.sum()


def _weigh(labels: Tensor, fake_weight: float) -> Tensor:
    return torch.where(labels > 0.5, torch.full_like(labels, fake_weight), torch.ones_like(labels))


def _check_weight(fake_weight: float) -> None:
    if not isinstance(fake_weight, int | float) or not 0 < fake_weight < float("inf"):
        raise ConfigError(f"loss.fake_weight={fake_weight} must be more than 0.")
