"""The part of a network before its head: from a normalised picture to features."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from unmask.errors import CheckpointError, ConfigError
from unmask.models import timm_networks

RESNETS = {"resnet18": ("ResNet-18", 512), "resnet34": ("ResNet-34", 512), "resnet50": ("ResNet-50", 2048)}
"""Names in words, and features; He et al., Deep Residual Learning for Image Recognition, CVPR 2016."""

NETWORKS = (*RESNETS, "tiny")


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
        name: One of `NETWORKS`, or a name of timm's.
        library: `torchvision` or `timm`.
        weights: `imagenet`, a file of the library's weights, or None for a random start.
        input_size: Side of its input in pixels.

    Raises:
        ConfigError: An unknown name.
        CheckpointError: Weights that are absent or do not fit.
    """
    check_name(name, library=library)
    if library == "timm":
        return _build_timm(name, weights, input_size)
    return _build_tiny() if name == "tiny" else _build_resnet(name, weights)


def check_backbone(name: str, *, library: str, input_size: int) -> None:
    """Raise unless a network exists and takes such pictures, before its weights are downloaded or anything is run.

    What a network of timm's does is found with tensors that have no values, at no cost.

    Raises:
        ConfigError: It does not, with names near it.
    """
    check_name(name, library=library)
    if library == "timm":
        timm_networks.find_features(name, input_size)


def check_name(name: str, *, library: str) -> None:
    """Raise a ConfigError unless a library has such a network."""
    if library == "timm":
        import timm

        known = timm.list_models()
        if name.partition(".")[0] not in known or ("." in name and name not in timm.list_pretrained()):
            known = timm.list_pretrained() if "." in name else known
            near = get_close_matches(name, known, n=5) or known[:5]
            raise ConfigError(f"timm has no network '{name}' (model.name). Near it: {', '.join(near)}")
    elif library != "torchvision":
        raise ConfigError(f"No library '{library}' (model.library). Choose one of: torchvision, timm")
    elif name not in NETWORKS:
        raise ConfigError(
            f"No network '{name}' (model.name). Choose one of: {', '.join(NETWORKS)}; or one of timm's: model=timm"
        )


def _build_resnet(name: str, weights: str | None) -> Backbone:
    import torchvision

    title, num_features = RESNETS[name]
    resnet = torchvision.models.get_model(name, weights=None)
    if weights is not None:
        _load_state(
            resnet, _read_resnet_weights(name, weights), weights=weights, of=f"torchvision's weights of {title}"
        )
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    parts = OrderedDict((part, getattr(resnet, part)) for part in names)
    return Backbone(nn.Sequential(parts), num_features, has_map=True)


def _read_resnet_weights(name: str, weights: str) -> Mapping[str, Tensor]:
    """Read ImageNet weights from torchvision's download cache, or from a file."""
    import torchvision

    if weights != "imagenet":
        return _read_file(weights)
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
            _load_state(network, _read_file(weights), weights=weights, of=f"timm's weights of {name}")
    return Backbone(network, features.count, features.has_map)


def _read_file(weights: str) -> Mapping[str, Tensor]:
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


def _load_state(network: nn.Module, state: Mapping[str, Tensor], *, weights: str, of: str) -> None:
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"model.weights='{weights}' does not hold {of}: {error}\nUse 'imagenet', a file of its weights, or null."
        ) from error


def _build_tiny() -> Backbone:
    """Four strided convolutions: trains in seconds, for tests."""
    widths = (3, 16, 32, 64, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return Backbone(nn.Sequential(*layers), widths[-1], has_map=True)
