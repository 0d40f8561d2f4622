"""Wrap any image network: normalization in front, a single logit behind."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.faces.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from unmask.models.backbones import PooledNetwork
from unmask.models.checkpoint import name_network, upgrade_network
from unmask.trust import build_from_file

OWN_KEYS = ("input_size", "mean", "std", "head", "heatmap_layer")
"""Keys of `model` that are arguments of `FaceNetwork`; all others are arguments of the `_target_`."""

_FROM_WEIGHTS = {"weights": None, "pretrained": False}
"""Arguments that make a network load weights, and their values when the weights come from a checkpoint."""
_EXPECTED = "(N,), (N, 1) or (N, 2)"
_NUM_TRIED = 3


class FaceNetwork(nn.Module):
    """Map decoded images to one logit each.

    Images are normalized here, on the device, so batches stay uint8 (0 to 255) until then.

    Args:
        module: Network that maps normalized images `(N, 3, size, size)` to logits `(N,)`, `(N, 1)` or `(N, 2)`; the
            second of two logits belongs to the fake class.
        config: `_target_` and arguments that built the module, and the settings below, as plain values.
        input_size: Side of the input in pixels.
        mean: Mean of each RGB channel, for values in [0, 1].
        std: Standard deviation of each RGB channel, for values in [0, 1].
        head: Dotted name of the submodule that `optimizer.head_lr_ratio` and `callbacks.freeze` treat as the head;
            None for the attribute `head`, or else the last linear layer.
        heatmap_layer: Dotted name of the layer for Grad-CAM; None for the class activation map if there is one, and
            no heat maps otherwise.

    Raises:
        ConfigError: The module has no layer of that name.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        config: Mapping[str, Any],
        input_size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        head: str | None = None,
        heatmap_layer: str | None = None,
    ) -> None:
        super().__init__()
        self.input_spec = InputSpec.from_dict({"size": int(input_size), "mean": mean, "std": std})
        self.name = name_network(config)
        self.config: dict[str, Any] = {
            **config,
            "input_size": self.input_spec.size,
            "mean": list(self.input_spec.mean),
            "std": list(self.input_spec.std),
        }
        self.module = module
        self.heatmap_layer = _check_layer(module, heatmap_layer, key="model.heatmap_layer")
        self._head_name = _check_layer(module, head, key="model.head") or _find_head(module)
        self.register_buffer("mean", torch.tensor(self.config["mean"]).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(self.config["std"]).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit per image; its sigmoid is P(fake).

        Args:
            images: RGB images from 0 to 255, uint8 or float, shape `(N, 3, size, size)`.

        Returns:
            Logits, shape `(N,)`.
        """
        return fold_logits(self.module(self.normalise(images).contiguous(memory_format=torch.channels_last)))

    def normalise(self, images: Tensor) -> Tensor:
        """Normalize images for the module."""
        return (images.float() - self.mean) / self.std

    @property
    def head(self) -> nn.Module:
        """Submodule that maps features to logits.

        Raises:
            ConfigError: The module has no linear layer, and `model.head` is not set.
        """
        if self._head_name is None:
            raise ConfigError(
                f"'{self.name}' has no submodule 'head' and no linear layer. Set model.head=<dotted name> to the "
                f"submodule that is its head, or leave out optimizer.head_lr_ratio and callbacks.freeze."
            )
        return self.module.get_submodule(self._head_name)

    @property
    def backbone(self) -> Any:
        """Feature extractor of one of our own networks."""
        return self.module.backbone

    def split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the parameters of the backbone and of the head."""
        head = list(self.head.parameters())
        in_head = set(map(id, head))
        return [each for each in self.module.parameters() if id(each) not in in_head], head

    def set_backbone_trainable(self, is_trainable: bool) -> None:
        """Freeze or unfreeze everything except the head; the frozen part stays in evaluation mode."""
        for parameter in self.split_parameters()[0]:
            parameter.requires_grad_(is_trainable)
        mode = is_trainable and self.training
        if isinstance(self.module, PooledNetwork):
            self.module.backbone.train(mode)
            return
        self.module.train(mode)
        self.head.train(self.training)

    @cached_property
    def cam_layers(self) -> tuple[str, str] | None:
        """Names of the feature layer and the linear head that give a class activation map, or None without one."""
        if isinstance(self.module, PooledNetwork):
            return ("backbone", "head") if self.module.has_map else None
        return _find_cam_layers(self)

    @property
    def has_map(self) -> bool:
        """Whether a class activation map comes with the logit, without a backward pass."""
        return self.cam_layers is not None


def build_network(config: Mapping[str, Any], *, build: Callable[[dict[str, Any]], Any]) -> FaceNetwork:
    """Build a network with normalization in front.

    Args:
        config: Config node `model` as plain values: `_target_` and its arguments, and `OWN_KEYS`.
        build: Function that calls the `_target_` of a node.

    Raises:
        ConfigError: The `_target_` does not return a network, or its logits have an unsupported shape.
    """
    settings = upgrade_network(config)
    own = {key: settings.pop(key) for key in OWN_KEYS if key in settings}
    module = build(dict(settings))
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"model._target_={settings.get('_target_')} returns an object of type {type(module).__name__}. It must "
            f"return a torch.nn.Module that maps normalised images (N, 3, S, S) to logits {_EXPECTED}."
        )
    if isinstance(module, PooledNetwork) and "name" in settings:
        settings["name"] = module.name
    stored = {key: _FROM_WEIGHTS.get(key, value) for key, value in settings.items()} | own
    network = FaceNetwork(module, config=stored, **own)
    if not isinstance(module, PooledNetwork):
        check_logits(network)
    return network


def rebuild_network(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    file: str | Path = "checkpoint",
    trusted_modules: Sequence[str] = (),
) -> FaceNetwork:
    """Rebuild a trained network in evaluation mode on the CPU.

    All weights come from `state`; nothing is downloaded.

    Args:
        config: Config of the network, as in `FaceNetwork.config`.
        state: `state_dict` of the network.
        file: File that contains both, for error messages.
        trusted_modules: Packages whose networks may be built, in addition to those of `unmask.trust`.

    Raises:
        UntrustedError: The network is from a package that is not trusted.
    """
    known = {key: _FROM_WEIGHTS.get(key, value) for key, value in config.items()}
    network = build_network(known, build=partial(build_from_file, file=file, trusted_modules=trusted_modules))
    network.load_state_dict(dict(state))
    return network.eval().to(memory_format=torch.channels_last)


def fold_logits(logits: Tensor) -> Tensor:
    """Return one logit per image; of two logits, the fake one minus the real one.

    Args:
        logits: Logits, shape `(N,)`, `(N, 1)` or `(N, 2)`.
    """
    if logits.ndim == 1:
        return logits
    return logits.squeeze(1) if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def check_logits(network: FaceNetwork) -> None:
    """Raise unless the logits of a network have a supported shape.

    Runs three blank images in evaluation mode and leaves the random state unchanged.

    Raises:
        ConfigError: The shape is not supported.
    """
    size, device = network.input_spec.size, next(network.parameters(), network.mean).device
    images = torch.zeros(_NUM_TRIED, 3, size, size, device=device)
    with _evaluating(network):
        try:
            found = network.module(network.normalise(images))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"'{network.name}' (model._target_) fails on images of shape (N, 3, {size}, {size}): {reason}. "
                f"Check model.input_size={size}."
            ) from error
    if isinstance(found, Tensor) and tuple(found.shape) in ((_NUM_TRIED,), (_NUM_TRIED, 1), (_NUM_TRIED, 2)):
        return
    shape = tuple(found.shape) if isinstance(found, Tensor) else f"an object of type {type(found).__name__}"
    raise ConfigError(
        f"'{network.name}' (model._target_) returns {shape} for {_NUM_TRIED} images of shape (3, {size}, {size}). "
        f"It must return logits of shape {_EXPECTED}."
    )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Run a network in evaluation mode without gradients; restore its mode and the random state afterwards."""
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _check_layer(module: nn.Module, name: str | None, *, key: str) -> str | None:
    if name is None:
        return None
    known = [each for each, _ in module.named_modules() if each]
    if name not in known:
        shown = ", ".join(known[-8:])
        raise ConfigError(f"{key}={name} is not a submodule of the network. Its last submodules are: {shown}")
    return name


def _find_head(module: nn.Module) -> str | None:
    if isinstance(getattr(module, "head", None), nn.Module):
        return "head"
    linear = [name for name, part in module.named_modules() if name and isinstance(part, nn.Linear)]
    return linear[-1] if linear else None


def _find_cam_layers(network: FaceNetwork) -> tuple[str, str] | None:
    """Return the layer whose output is global-average-pooled, and the linear layer that maps the average to logits.

    Tested with noise: the spatial mean of the layer's output must equal the input of the last linear layer, whose
    output must equal the logits.
    """
    parts = {name: part for name, part in network.module.named_modules() if name}
    heads = [name for name, part in parts.items() if isinstance(part, nn.Linear) and part.out_features in (1, 2)]
    if not heads:
        return None
    head: Any = parts[heads[-1]]
    outputs: dict[str, Tensor] = {}
    inputs_of_head: list[Tensor] = []

    def keep(name: str, output: Any) -> None:
        outputs.pop(name, None)  # keeps the order of calls
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == head.in_features:
            outputs[name] = output

    hooks = [
        part.register_forward_hook(lambda _, inputs, output, name=name: keep(name, output))
        for name, part in parts.items()
    ]
    hooks.append(head.register_forward_pre_hook(lambda _, inputs: inputs_of_head.append(inputs[0])))
    size, device = network.input_spec.size, network.mean.device
    noise = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device) * 255
    try:
        with _evaluating(network):
            logits = fold_logits(network.module(network.normalise(noise)))
    finally:
        for hook in hooks:
            hook.remove()
    if len(inputs_of_head) != 1 or inputs_of_head[0].ndim != 2 or inputs_of_head[0].abs().max() == 0:
        return None
    (pooled,) = inputs_of_head
    with torch.no_grad():
        if not torch.allclose(logits, fold_logits(head(pooled)), rtol=1e-3, atol=1e-4):
            return None
    for name, output in reversed(outputs.items()):
        if output.shape[-1] > 1 and torch.allclose(output.mean(dim=(2, 3)), pooled, rtol=1e-3, atol=1e-5):
            return name, heads[-1]
    return None
