"""The convolutional part of a network: from a normalised picture to a map of features."""

from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from unmask.errors import CheckpointError, ConfigError

RESNETS = {"resnet18": ("ResNet-18", 512), "resnet34": ("ResNet-34", 512), "resnet50": ("ResNet-50", 2048)}
"""Names in words, and features; He et al., Deep Residual Learning for Image Recognition, CVPR 2016."""

NETWORKS = (*RESNETS, "tiny")


def build_backbone(name: str, *, library: str, weights: str | None) -> tuple[nn.Module, int]:
    """Return a module from `(N, 3, size, size)` to `(N, features, h, w)`, and the number of features.

    Args:
        name: One of `NETWORKS`, or a name of timm's.
        library: `torchvision` or `timm`.
        weights: `imagenet`, a file of the library's weights, or None for a random start.

    Raises:
        ConfigError: An unknown name, or a network of timm's that has no map of features.
        CheckpointError: Weights that are absent or do not fit.
    """
    if library == "timm":
        return _build_timm(name, weights)
    if library != "torchvision":
        raise ConfigError(f"No library '{library}' (model.library). Choose one of: torchvision, timm")
    if name not in NETWORKS:
        raise ConfigError(
            f"No network '{name}' (model.name). Choose one of: {', '.join(NETWORKS)}; or one of timm's: model=timm"
        )
    return _build_tiny() if name == "tiny" else _build_resnet(name, weights)


def _build_resnet(name: str, weights: str | None) -> tuple[nn.Module, int]:
    import torchvision

    title, num_features = RESNETS[name]
    resnet = torchvision.models.get_model(name, weights=None)
    if weights is not None:
        _load_state(
            resnet, _read_resnet_weights(name, weights), weights=weights, of=f"torchvision's weights of {title}"
        )
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(OrderedDict((part, getattr(resnet, part)) for part in names)), num_features


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


def _build_timm(name: str, weights: str | None) -> tuple[nn.Module, int]:
    """Build any convolutional network of timm (Wightman, PyTorch Image Models) without its pooling and its head."""
    import timm

    if name not in timm.list_models():
        near = ", ".join(timm.list_models(f"*{name}*")[:6]) or "timm.list_models()"
        raise ConfigError(f"timm has no network '{name}' (model.name). Near it: {near}")
    options: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    if weights == "imagenet":
        try:
            network = timm.create_model(name, pretrained=True, **options)
        except Exception as error:  # the hub it downloads from fails in ways of its own
            raise CheckpointError(
                f"timm's weights of '{name}' cannot be downloaded: {str(error).splitlines()[0]} Name a file with "
                f"model.weights=<file>, or train from scratch with model.weights=null."
            ) from error
    else:
        network = timm.create_model(name, pretrained=False, **options)
        if weights is not None:
            _load_state(network, _read_file(weights), weights=weights, of=f"timm's weights of {name}")
    num_features = int(network.num_features)  # type: ignore[arg-type]
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, 3, 224, 224))
    if features.ndim != 4 or features.shape[1] != num_features:
        raise ConfigError(
            f"'{name}' (model.name) gives no map of features but {tuple(features.shape)}: no heat map comes of "
            f"it. Choose a convolutional network, such as efficientnet_b4 or convnext_tiny."
        )
    return network.train(), num_features


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


def _build_tiny() -> tuple[nn.Module, int]:
    """Four strided convolutions: trains in seconds, for tests."""
    widths = (3, 16, 32, 64, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers), widths[-1]
