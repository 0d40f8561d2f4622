"""The convolutional part of a network: from a normalised picture to a map of features."""

from collections import OrderedDict
from collections.abc import Mapping
from difflib import get_close_matches
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

_WITHOUT_HEAD: dict[str, Any] = {"num_classes": 0, "global_pool": ""}


def build_backbone(name: str, *, library: str, weights: str | None) -> tuple[nn.Module, int]:
    """Return a module from `(N, 3, size, size)` to `(N, features, h, w)`, and the number of features.

    Args:
        name: One of `NETWORKS`, or a name of timm's.
        library: `torchvision` or `timm`.
        weights: `imagenet`, a file of the library's weights, or None for a random start.

    Raises:
        ConfigError: An unknown name.
        CheckpointError: Weights that are absent or do not fit.
    """
    _check_name(name, library=library)
    if library == "timm":
        return _build_timm(name, weights)
    return _build_tiny() if name == "tiny" else _build_resnet(name, weights)


def check_backbone(name: str, *, library: str) -> None:
    """Raise unless a network exists and gives a map of features, before its weights are downloaded or anything is run.

    The shape of what a network of timm's gives is found with tensors that have no values, at no cost.

    Args:
        name: See `build_backbone`.
        library: See `build_backbone`.

    Raises:
        ConfigError: It does not, with names near it; or it gives no map.
    """
    _check_name(name, library=library)
    if library != "timm":
        return
    import timm

    try:
        with torch.device("meta"), torch.no_grad():
            network: Any = timm.create_model(name, pretrained=False, **_WITHOUT_HEAD).eval()
            shape = tuple(network(torch.zeros(1, *network.pretrained_cfg["input_size"])).shape)
    except AssertionError as error:  # of a network that cannot do without its own pooling
        shape, reason = (), str(error)
    else:
        reason = f"of shape {shape}"
    if len(shape) != 4 or shape[1] != count_features(network):
        raise ConfigError(
            f"'{name}' (model.name) gives no map of features ({reason}): no heat map comes of it. Choose a "
            f"convolutional network, such as efficientnet_b4 or convnext_tiny."
        )


def count_features(network: nn.Module) -> int:
    """Return the number of channels of the map that a network of timm's gives without pooling and head."""
    return int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]


def _check_name(name: str, *, library: str) -> None:
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

    if weights == "imagenet":
        try:
            network = timm.create_model(name, pretrained=True, **_WITHOUT_HEAD)
        except Exception as error:  # the hub it downloads from fails in ways of its own
            raise CheckpointError(
                f"timm's weights of '{name}' cannot be downloaded: {str(error).splitlines()[0]} Name a file with "
                f"model.weights=<file>, or train from scratch with model.weights=null."
            ) from error
    else:
        network = timm.create_model(name, pretrained=False, **_WITHOUT_HEAD)
        if weights is not None:
            _load_state(network, _read_file(weights), weights=weights, of=f"timm's weights of {name}")
    return network, count_features(network)


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
