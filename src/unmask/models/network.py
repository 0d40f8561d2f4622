"""The network: from a picture of a face to one logit."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from unmask.errors import CheckpointError, ConfigError
from unmask.faces.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec

NETWORKS = ("resnet18", "tiny")


class FaceNetwork(nn.Module):
    """A convolutional backbone, global average pooling, dropout, and a linear head of one output.

    Pictures come as they are decoded, 0 to 255, and are normalised here, on the device: batches stay uint8 until then.

    Args:
        name: `resnet18` (He et al., Deep Residual Learning, CVPR 2016, from torchvision) or `tiny`, for tests.
        weights: `imagenet`, a file of torchvision's weights, or None for a random start.
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
        weights: str | None = None,
        dropout: float = 0.0,
        input_size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise ConfigError(f"No network '{name}' (model.name). Choose one of: {', '.join(NETWORKS)}")
        self.config: dict[str, Any] = {
            "name": name,
            "dropout": float(dropout),
            "input_size": int(input_size),
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
        }
        self.backbone, num_features = _build_resnet18(weights) if name == "resnet18" else _build_tiny()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, 1)
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
    network = FaceNetwork(**config)
    network.load_state_dict(dict(state))
    return network.eval().to(memory_format=torch.channels_last)


def _build_resnet18(weights: str | None) -> tuple[nn.Module, int]:
    from torchvision.models import resnet18

    resnet = resnet18(weights=None)
    if weights is not None:
        state = _load_torchvision_weights(weights)
        try:
            resnet.load_state_dict(state)
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"model.weights='{weights}' does not hold torchvision's weights of ResNet-18: {error}\n"
                f"Use 'imagenet', a file of its weights, or null."
            ) from error
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(OrderedDict((name, getattr(resnet, name)) for name in names)), 512


def _load_torchvision_weights(weights: str) -> Mapping[str, Tensor]:
    """Read ImageNet weights from torchvision's download cache, or from a file."""
    from torchvision.models import ResNet18_Weights

    if weights == "imagenet":
        known = ResNet18_Weights.IMAGENET1K_V1
        try:
            downloaded: Mapping[str, Tensor] = known.get_state_dict(progress=True, check_hash=True)
            return downloaded
        except (URLError, OSError) as error:
            name = known.url.rpartition("/")[2]
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise CheckpointError(
                f"The ImageNet weights '{name}' are not in '{folder}' and cannot be downloaded: {error}. Put the file "
                f"there, name it with model.weights=<file>, or train from scratch with model.weights=null."
            ) from error
    path = Path(weights)
    if not path.is_file():
        raise CheckpointError(f"No such file: model.weights='{weights}'. Use 'imagenet', a file, or null.")
    try:
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of something else make the reader fail in every way there is
        raise CheckpointError(
            f"model.weights='{weights}' cannot be read as weights of PyTorch. Use 'imagenet', a file, or null."
        ) from error
    return state


def _build_tiny() -> tuple[nn.Module, int]:
    """Four strided convolutions: trains in seconds, for tests."""
    widths = (3, 16, 32, 64, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers), widths[-1]
