"""The network: from a picture of a face to one logit."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unmask.faces.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from unmask.models.backbones import build_backbone, find_name

logger = logging.getLogger(__name__)


class FaceNetwork(nn.Module):
    """A backbone, global average pooling or its own, dropout, and a linear head of one output.

    Where the pooling is global and average, `has_map` is true: the features before it make a class activation map.

    Pictures come as they are decoded, 0 to 255, and are normalised here, on the device: batches stay uint8 until then.

    Args:
        name: `resnet18`, `resnet34`, `resnet50`; `tiny`, for tests; or a name of timm's.
        library: `torchvision`, or `timm` for its names.
        weights: `imagenet`, a file of the library's weights, or None for a random start.
        dropout: Share of pooled features that are dropped in training.
        input_size: Side of the input in pixels.
        mean: Per RGB channel, of values in [0, 1].
        std: Per RGB channel, of values in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        name: str = "resnet18",
        library: str = "torchvision",
        weights: str | None = None,
        dropout: float = 0.0,
        input_size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        given, name = name, find_name(name, library=library)
        if name != given:
            logger.info("model.name=%s is called '%s' in %s; that one is taken.", given, name, library)
        self.config: dict[str, Any] = {
            "name": name,
            "library": library,
            "dropout": float(dropout),
            "input_size": int(input_size),
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
        }
        backbone = build_backbone(name, library=library, weights=weights, input_size=input_size)
        self.backbone, self.has_map = backbone.module, backbone.has_map
        self.pool = nn.AdaptiveAvgPool2d(1) if backbone.has_map else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.num_features, 1)
        self.register_buffer("mean", torch.tensor(self.config["mean"]).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(self.config["std"]).view(1, 3, 1, 1) * 255, persistent=False)

    @property
    def input_spec(self) -> InputSpec:
        """How crops must come."""
        return InputSpec.from_dict({"size": self.config["input_size"], **self.config})

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit per picture; its sigmoid is P(fake).

        Args:
            images: RGB in 0 to 255, uint8 or float, shape `(N, 3, size, size)`.

        Returns:
            Logits, shape `(N,)`.
        """
        normalised = (images.float() - self.mean) / self.std
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.head(self.dropout(self.pool(features).flatten(1)))
        return logits.squeeze(1)


def rebuild_network(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> FaceNetwork:
    """Build a trained network from plain values, in evaluation mode on the CPU.

    Args:
        config: `FaceNetwork.config`.
        state: Its `state_dict`.
    """
    network = FaceNetwork(**{**config, "weights": None})  # all come from the state: nothing is fetched, whoever asks
    network.load_state_dict(dict(state))
    return network.eval().to(memory_format=torch.channels_last)
