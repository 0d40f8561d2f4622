"""The part of a network before its head: from a normalised picture to features."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from unmask.errors import CheckpointError, ConfigError
from unmask.models import timm_networks
from unmask.models.weights_file import load_backbone, read_weights
from unmask.names import strip_signs

RESNETS = {"resnet18": ("ResNet-18", 512), "resnet34": ("ResNet-34", 512), "resnet50": ("ResNet-50", 2048)}
"""Names in words, and features; He et al., Deep Residual Learning for Image Recognition, CVPR 2016."""

NETWORKS = (*RESNETS, "tiny")

LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class Backbone:
    """A network without its head.

    Args:
        module: Takes `(N, 3, size, size)`.
        num_features: Channels of what it gives.
        has_map: Whether it gives a map `(N, num_features, h, w)`, which is still to be pooled; otherwise it gives
            `(N, num_features)`, pooled in its own way, such as a transformer's class token.
    """

    module: nn.Module
    num_features: int
    has_map: bool


def build_backbone(name: str, *, library: str, weights: str | None, input_size: int) -> Backbone:
    """Build a network without its head.

    Args:
        name: One of `NETWORKS`, or a name of timm's, as `find_name` gives it.
        library: `torchvision` or `timm`.
        weights: `imagenet`, a file of the library's weights, or None for a random start.
        input_size: Side of its input in pixels.

    Raises:
        CheckpointError: Weights that are absent or do not fit.
    """
    if library == "timm":
        return _build_timm(name, weights, input_size)
    return _build_tiny(weights) if name == "tiny" else _build_resnet(name, weights)


def check_backbone(name: str, *, library: str, input_size: int) -> None:
    """Raise unless a network exists and takes such pictures, before its weights are downloaded or anything is run.

    What a network of timm's does is found with tensors that have no values, at no cost.

    Raises:
        ConfigError: It does not, with names near it.
    """
    name = find_name(name, library=library)
    if library == "timm":
        timm_networks.find_features(name, input_size)


def find_name(name: str, *, library: str) -> str:
    """Return a library's own name of a network, which people may know by an older name or spell otherwise.

    Raises:
        ConfigError: No such library or network.
    """
    if library not in LIBRARIES:
        raise ConfigError(f"No library '{library}' (model.library). Choose one of: {', '.join(LIBRARIES)}")
    return timm_networks.find_name(name) if library == "timm" else _find_ours(name)


def _find_ours(name: str) -> str:
    spelled = {strip_signs(each): each for each in NETWORKS}
    if strip_signs(name) in spelled:
        return spelled[strip_signs(name)]
    try:
        of_timm = f"; timm has it: model=timm model.name={timm_networks.find_name(name)}"
    except ConfigError:
        of_timm = "; or one of timm's: model=timm"
    raise ConfigError(f"No network '{name}' (model.name). Choose one of: {', '.join(NETWORKS)}{of_timm}")


def _build_resnet(name: str, weights: str | None) -> Backbone:
    import torchvision

    title, num_features = RESNETS[name]
    resnet = torchvision.models.get_model(name, weights=None)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    module = nn.Sequential(OrderedDict((part, getattr(resnet, part)) for part in names))
    if weights is not None:
        content = _download_resnet_weights(name) if weights == "imagenet" else read_weights(weights)
        load_backbone(module, content, weights=weights, of=f"torchvision's weights of {title}")
    return Backbone(module, num_features, has_map=True)


def _download_resnet_weights(name: str) -> Mapping[str, Tensor]:
    """Read ImageNet weights from torchvision's download cache, or fetch them."""
    import torchvision

    known = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        downloaded: Mapping[str, Tensor] = known.get_state_dict(progress=True, check_hash=True)
        return downloaded
    except (URLError, OSError) as error:
        file = known.url.rpartition("/")[2]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise CheckpointError(
            f"The ImageNet weights '{file}' are not in '{folder}' and cannot be downloaded: {error}. Put the file "
            f"there, name it with model.weights=<file>, or train from scratch with model.weights=null."
        ) from error


def _build_timm(name: str, weights: str | None, input_size: int) -> Backbone:
    features = timm_networks.find_features(name, input_size)
    if weights == "imagenet":
        network = timm_networks.download(name, features)
    else:
        network = timm_networks.create(name, features)
        if weights is not None:
            load_backbone(network, read_weights(weights), weights=weights, of=f"timm's weights of {name}")
    return Backbone(network, features.count, features.has_map)


def _build_tiny(weights: str | None) -> Backbone:
    """Four strided convolutions: trains in seconds, for tests."""
    if weights == "imagenet":
        raise ConfigError("model.name=tiny has no ImageNet weights (model.weights). Use a file, or null.")
    widths = (3, 16, 32, 64, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    module = nn.Sequential(*layers)
    if weights is not None:
        load_backbone(module, read_weights(weights), weights=weights, of="weights of tiny")
    return Backbone(module, widths[-1], has_map=True)
