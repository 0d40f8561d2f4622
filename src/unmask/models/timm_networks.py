"""Networks of timm (Wightman, PyTorch Image Models) without their heads."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from unmask.errors import CheckpointError, ConfigError
from unmask.names import strip_signs


@dataclass(frozen=True)
class Features:
    """What a network of timm's gives without its head.

    Args:
        count: Number of features.
        has_map: Whether they come as a map `(N, count, h, w)`, unpooled; otherwise as `(N, count)`.
        options: Of `timm.create_model`, which make it so.
    """

    count: int
    has_map: bool
    options: dict[str, Any] = field(hash=False)


def find_name(name: str) -> str:
    """Return the name that timm has today for a network: of one it has renamed, or that is spelled otherwise.

    Args:
        name: Such as `xception`, `tf_efficientnet_b4_ns` or `EfficientNet-B4`.

    Raises:
        ConfigError: It has none, with names near it.
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
        raise ConfigError(f"timm has no network '{name}' (model.name) any more, and none in its place.")
    if today in known or today in timm.list_pretrained():
        return str(today)
    names = timm.list_pretrained() if "." in name else known
    near = get_close_matches(name.lower().replace("-", "_"), names, n=5) or names[:5]
    raise ConfigError(f"timm has no network '{name}' (model.name). Near it: {', '.join(near)}")


def find_features(name: str, input_size: int) -> Features:
    """Find out what a network gives, with tensors that have no values, at no cost.

    A network with a map of features gets global average pooling and a linear head, so that its class activation map
    comes with the logit. Transformers and the like keep the pooling they were made with.

    Args:
        name: Of timm's.
        input_size: Side of the input in pixels.

    Raises:
        ConfigError: It takes no pictures of that size.
    """
    unpooled: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    try:
        network, shape = _shape_of(name, input_size, unpooled)
    except Exception:  # of a network that cannot do without its own pooling, or that takes one size alone
        shape = ()
    if len(shape) == 4 and shape[1] == _count(network) and min(shape[2:]) > 1:
        return Features(shape[1], has_map=True, options=unpooled)
    sized = {"num_classes": 0, "img_size": input_size}
    reasons = []
    for options in (sized, {"num_classes": 0}):  # not all have a size
        try:
            _, shape = _shape_of(name, input_size, options)
        except Exception as error:
            reasons.append(str(error).partition("\n")[0].rstrip(".") or type(error).__name__)
        else:
            if len(shape) == 2:
                return Features(shape[1], has_map=False, options=options)
            reasons.append(f"its features come in the shape {shape}")
    reason = reasons[-1] if "unexpected keyword" in reasons[0] else reasons[0]
    raise ConfigError(
        f"'{name}' (model.name) cannot be used with pictures of {input_size} pixels (model.input_size): {reason}. "
        f"Give the size it was made for, or choose another network, such as efficientnet_b4 or convnext_tiny."
    )


def create(name: str, features: Features) -> nn.Module:
    """Build a network with random weights."""
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, **features.options)
    return network


def download(name: str, features: Features) -> nn.Module:
    """Build a network with the weights that timm has for it.

    Raises:
        CheckpointError: They cannot be downloaded.
    """
    import timm

    try:
        network: nn.Module = timm.create_model(name, pretrained=True, **features.options)
    except Exception as error:  # the hub it downloads from fails in ways of its own
        raise CheckpointError(
            f"timm's weights of '{name}' cannot be downloaded: {str(error).splitlines()[0]} Name a file with "
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
