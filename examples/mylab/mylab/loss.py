"""A loss."""

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class PolyLoss(nn.Module):
    """Binary cross-entropy with one more term of its expansion (Leng et al., PolyLoss, ICLR 2022).

    Args:
        epsilon: Weight of the additional term; 0 is cross-entropy.
    """

    def __init__(self, epsilon: float = 1.0) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits and labels (0 real, 1 fake), both of shape `(N,)`."""
        targets = labels.float()
        error = 1 - (logits.sigmoid() * targets + (1 - logits.sigmoid()) * (1 - targets))
        return binary_cross_entropy_with_logits(logits, targets) + self.epsilon * error.mean()
