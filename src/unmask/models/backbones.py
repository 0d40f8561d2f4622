"""Networks of configs/model: a torchvision or timm backbone, pooling, dropout and a linear head."""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from unmask.errors import CheckpointError, ConfigError, strip_signs
from unmask.models.weights_file import load_backbone, read_weights
from unmask.parameters import as_config_error, check_number

logger = logging.getLogger(__name__)

MAX_DROPOUT = 0.99


class PooledNetwork(nn.Module):
    """A backbone, pooling, dropout and a linear head with one output.

    Args:
        backbone: Network without its head; takes images `(N, 3, size, size)`.
        name: Name of the backbone in its library.
        num_features: Number of output channels of the backbone.
        dropout: Dropout probability of the pooled features.
        has_map: Whether the backbone returns a feature map `(N, num_features, h, w)`, which is average-pooled here.
            Otherwise it returns `(N, num_features)` after its own pooling, such as a transformer's class token.

    Raises:
        ConfigError: The dropout is out of range.
    """

    def __init__(
        self, backbone: nn.Module, *, name: str, num_features: int, dropout: float = 0.0, has_map: bool = True
    ) -> None:
        super().__init__()
        with as_config_error():
            check_number("model.dropout", dropout, least=0, most=MAX_DROPOUT)
        self.name = name
        self.has_map = has_map
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(1) if has_map else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape `(N, 1)`.

        Args:
            images: Normalised images, shape `(N, 3, size, size)`.
        """
        logits: Tensor = self.head(self.dropout(self.pool(self.backbone(images)).flatten(1)))
        return logits


def build_resnet(*, name: str = "resnet18", weights: str | None = None, dropout: float = 0.0) -> PooledNetwork:
    """Build a torchvision ResNet or ResNeXt (He et al., Deep Residual Learning for Image Recognition, CVPR 2016).

    Args:
        name: Name in torchvision, such as `resnet50`.
        weights: `imagenet`, a file of weights, or None for random initialization.
        dropout: Dropout probability of the pooled features.

    Raises:
        ConfigError: torchvision has no ResNet of this name.
        CheckpointError: The weights are missing or do not fit.
    """
    import torchvision

    name = _log_name(name, find_resnet(name), library="torchvision")
    resnet = torchvision.models.get_model(name, weights=None)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    module = nn.Sequential(OrderedDict((part, getattr(resnet, part)) for part in names))
    if weights is not None:
        content = _download_resnet_weights(name) if weights == "imagenet" else read_weights(weights)
        load_backbone(module, content, weights=weights, of=f"torchvision's weights of {name}")
    return PooledNetwork(module, name=name, num_features=resnet.fc.in_features, dropout=dropout)


def build_timm(*, name: str, image_size: int, weights: str | None = None, dropout: float = 0.0) -> PooledNetwork:
    """Build a timm network (Wightman, PyTorch Image Models) with a head of one output.

    Args:
        name: Name in timm; older names and other spellings are accepted.
        image_size: Side of the images in pixels.
        weights: `imagenet` for timm's own weights, a file of weights, or None for random initialization.
        dropout: Dropout probability of the pooled features.

    Raises:
        ConfigError: timm has no such network, or it does not accept images of this size.
        CheckpointError: The weights are missing or do not fit.
    """
    name = _log_name(name, find_timm(name), library="timm")
    features = find_features(name, image_size)
    if weights == "imagenet":
        network = _download_timm(name, features)
    else:
        network = _create_timm(name, features)
        if weights is not None:
            load_backbone(network, read_weights(weights), weights=weights, of=f"timm's weights of {name}")
    return PooledNetwork(network, name=name, num_features=features.count, dropout=dropout, has_map=features.has_map)


def build_tiny(*, name: str = "tiny", weights: str | None = None, dropout: float = 0.0) -> PooledNetwork:
    """Build a test network of four strided convolutions, which trains in seconds.

    Args:
        name: Name shown in runs and bundles, always `tiny`.
        weights: File of weights, or None for random initialization.
        dropout: Dropout probability of the pooled features.

    Raises:
        ConfigError: The name is not `tiny`, or the weights are `imagenet`.
    """
    if strip_signs(name) != "tiny":
        raise ConfigError(f"model=tiny has no network '{name}'. Set model=resnet18 model.name={find_resnet(name)}.")
    if weights == "imagenet":
        raise ConfigError("model=tiny has no ImageNet weights (model.weights). Use a file, or null.")
    widths = (3, 16, 32, 64, 64)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    module = nn.Sequential(*layers)
    if weights is not None:
        load_backbone(module, read_weights(weights), weights=weights, of="weights of tiny")
    return PooledNetwork(module, name=name, num_features=widths[-1], dropout=dropout)


def _log_name(given: str, name: str, *, library: str) -> str:
    if name != given:
        logger.info("Using '%s', the name of model.name=%s in %s.", name, given, library)
    return name


def find_resnet(name: str) -> str:
    """Return the torchvision name of a ResNet, whatever its spelling.

    Args:
        name: Name such as `resnet18` or `ResNet-18`.

    Raises:
        ConfigError: torchvision has no such ResNet; lists the choices.
    """
    import torchvision

    known = [each for each in torchvision.models.list_models(module=torchvision.models) if "resn" in each]
    known.sort(key=lambda each: (not each.startswith("resnet"), len(each), each))
    spelled = {strip_signs(each): each for each in known}
    if strip_signs(name) in spelled:
        return str(spelled[strip_signs(name)])
    try:
        of_timm = f"; or use the one of timm: model=timm model.name={find_timm(name)}"
    except ConfigError:
        of_timm = "; or a network of timm: model=timm"
    raise ConfigError(f"Unknown network model.name='{name}'. Choose one of: {', '.join(known)}{of_timm}")


def _download_resnet_weights(name: str) -> Mapping[str, Tensor]:
    """Read ImageNet weights from torchvision's cache, or download them."""
    import torchvision

    known = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        downloaded: Mapping[str, Tensor] = known.get_state_dict(progress=True, check_hash=True)
        return downloaded
    except (URLError, OSError) as error:
        file = known.url.rpartition("/")[2]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise CheckpointError(
            f"The ImageNet weights '{file}' are not in '{folder}' and cannot be downloaded: {error}. Copy the file "
            f"there, set model.weights=<file>, or train from scratch with model.weights=null."
        ) from error


@dataclass(frozen=True)
class Features:
    """Output of a timm network without its head.

    Args:
        count: Number of features.
        has_map: Whether the output is a feature map `(N, count, h, w)`; otherwise it is pooled, `(N, count)`.
        options: Arguments of `timm.create_model` that build the network without its head.
    """

    count: int
    has_map: bool
    options: dict[str, Any] = field(hash=False)


def find_timm(name: str) -> str:
    """Return the current timm name of a network, given an older name or another spelling.

    Args:
        name: Name such as `xception`, `tf_efficientnet_b4_ns` or `EfficientNet-B4`.

    Raises:
        ConfigError: timm has no such network; lists similar ones.
    """
    import timm
    from timm.models import get_deprecated_models

    known, renamed = timm.list_models(), get_deprecated_models()
    if name.partition(".")[0] in known and ("." not in name or name in timm.list_pretrained()):
        return name
    spelled = {strip_signs(each): each for each in (*renamed, *known)}
    given = spelled.get(strip_signs(name), name)
    today = renamed.get(given, given)
    if today is None:
        raise ConfigError(f"timm has removed the network model.name='{name}' without a successor. Choose another.")
    if today in known or today in timm.list_pretrained():
        return str(today)
    names = timm.list_pretrained() if "." in name else known
    near = get_close_matches(name.lower().replace("-", "_"), names, n=5) or names[:5]
    raise ConfigError(f"timm has no network model.name='{name}'. Similar names: {', '.join(near)}")


def find_features(name: str, input_size: int) -> Features:
    """Determine the output of a network without its head, on the meta device, which needs no computation.

    A network with a feature map gets global average pooling and a linear head, so that its class activation map comes
    with the logit. Other networks, such as transformers, keep their own pooling.

    Args:
        name: Name in timm.
        input_size: Side of the input in pixels.

    Raises:
        ConfigError: The network does not accept images of that size.
    """
    unpooled: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    try:
        network, shape = _shape_of(name, input_size, unpooled)
    except Exception:  # networks that need their own pooling, or accept a single size, fail in many ways
        shape = ()
    if len(shape) == 4 and shape[1] == _count(network) and min(shape[2:]) > 1:
        return Features(shape[1], has_map=True, options=unpooled)
    sized = {"num_classes": 0, "img_size": input_size}
    reasons = []
    for options in (sized, {"num_classes": 0}):  # not every network accepts img_size
        try:
            _, shape = _shape_of(name, input_size, options)
        except Exception as error:
            reasons.append(str(error).partition("\n")[0].rstrip(".") or type(error).__name__)
        else:
            if len(shape) == 2:
                return Features(shape[1], has_map=False, options=options)
            reasons.append(f"its features have the shape {shape}")
    reason = reasons[-1] if "unexpected keyword" in reasons[0] else reasons[0]
    raise ConfigError(
        f"model.name='{name}' does not accept images of {input_size} pixels (model.input_size): {reason}. "
        f"Set the size it was made for, or choose another network, such as efficientnet_b4 or convnext_tiny."
    )


def _create_timm(name: str, features: Features) -> nn.Module:
    """Build a network with random weights."""
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, **features.options)
    return network


def _download_timm(name: str, features: Features) -> nn.Module:
    """Build a network with timm's pretrained weights.

    Raises:
        CheckpointError: The weights cannot be downloaded.
    """
    import timm

    try:
        network: nn.Module = timm.create_model(name, pretrained=True, **features.options)
    except Exception as error:  # the model hub raises many kinds of errors
        raise CheckpointError(
            f"timm's weights of '{name}' cannot be downloaded: {str(error).splitlines()[0]} Set "
            f"model.weights=<file>, or train from scratch with model.weights=null."
        ) from error
    return network


def _shape_of(name: str, input_size: int, options: dict[str, Any]) -> tuple[nn.Module, tuple[int, ...]]:
    import timm

    with torch.device("meta"), torch.no_grad():
        network = timm.create_model(name, pretrained=False, **options).eval()
        return network, tuple(network(torch.zeros(1, 3, input_size, input_size)).shape)


def _count(network: nn.Module) -> int:
    return int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]
