"""A network: a small stack of depthwise separable convolutions."""

from itertools import pairwise

from torch import Tensor, nn


class SmallNet(nn.Module):
    """Map normalized images `(N, 3, S, S)` to two logits, real and fake, shape `(N, 2)`.

    Args:
        widths: Channels of each stage.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for before, after in pairwise((3, *widths)):
            stages += [
                nn.Conv2d(before, before, 3, stride=2, padding=1, groups=before, bias=False),
                nn.Conv2d(before, after, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.SiLU(),
            ]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return the two logits of each image."""
        logits: Tensor = self.head(self.stages(images).mean(dim=(2, 3)))
        return logits
