"""Where in an image a logit comes from: class activation maps, and Grad-CAM where a network has none.

The map of Zhou et al. (Learning Deep Features for Discriminative Localization, CVPR 2016) comes with the logit: the
features before pooling, weighted as the head weighs them; its mean plus the head's bias is the logit. Other networks
have maps by Grad-CAM (Selvaraju et al., ICCV 2017), which Gildenblat's package pytorch-grad-cam computes. A pass
backwards comes to that forwards, so that a crop takes more than twice as long.
"""

import math
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unmask.models.network import FaceNetwork, fold_logits


class NetworkWithMap(nn.Module):
    """A network that returns its class activation map beside the logit.

    Args:
        network: One with such a map (`FaceNetwork.has_map`).
    """

    def __init__(self, network: FaceNetwork) -> None:
        super().__init__()
        self.network = network
        self._lock = Lock()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, shape `(N,)`, and maps, shape `(N, h, w)`."""
        layers = self.network.cam_layers
        assert layers is not None
        body, head = (self.network.module.get_submodule(name) for name in layers)
        seen: list[Tensor] = []
        with self._lock:  # or the features of another thread's batch would be seen
            hook = body.register_forward_hook(lambda _, inputs, output: seen.append(output))
            try:
                logit = fold_logits(self.network.module(self.network.normalise(images)))
            finally:
                hook.remove()
        weights = head.get_parameter("weight")
        weight = weights if len(weights) == 1 else weights[1:] - weights[:1]
        return logit, (seen[-1] * weight.view(1, -1, 1, 1)).sum(dim=1)


def explain_missing_maps(network: FaceNetwork) -> str | None:
    """Return why a network has no heat maps and what gives it some; None where it has them."""
    if network.has_map or network.heatmap_layer is not None or _list_known_layers(network):
        return None
    return (
        f"'{network.name}' has no heat maps: its head is not one linear layer behind global average pooling. Name the "
        f"layer that Grad-CAM reads with model.heatmap_layer=<dotted name>."
    )


class GradCam:
    """Scores crops, and says where in them the logit comes from.

    Args:
        network: In evaluation mode; its weights get no gradients from now on.
    """

    def __init__(self, network: FaceNetwork) -> None:
        self._network = network.requires_grad_(False)
        found = _find_layer(network)
        self._cam: Any = None
        if found is not None:
            from pytorch_grad_cam import GradCAM

            layer, num_channels, num_prefix, side = found
            self._cam = GradCAM(
                network, [layer], reshape_transform=lambda output: _as_map(output, num_channels, num_prefix)
            )
            # The package would bring maps to the size of the crop, and results hold many of them.
            self._cam.get_target_width_height = lambda images: (side, side)

    def score(self, images: Tensor) -> tuple[Tensor, npt.NDArray[np.float32] | None]:
        """Score a batch.

        Args:
            images: uint8, shape `(N, 3, size, size)`, on the network's device.

        Returns:
            Logits, shape `(N,)`; and maps from 0 to 1, shape `(N, h, w)`, None where no layer has places.
        """
        if self._cam is None:
            with torch.inference_mode():
                return self._network(images), None
        from pytorch_grad_cam.utils.model_targets import RawScoresOutputTarget

        with torch.enable_grad():
            maps = self._cam(images.float().requires_grad_(), targets=[RawScoresOutputTarget()] * len(images))
        logits: Tensor = self._cam.outputs.detach()
        self._cam.outputs = None  # or the whole graph is held
        return logits, np.asarray(maps, np.float32)


def _list_known_layers(network: FaceNetwork) -> list[tuple[nn.Module, int | None]]:
    """Return the layers whose output may be a map, the deepest last, and their channels where they are known."""
    if network.heatmap_layer is not None:
        return [(network.module.get_submodule(network.heatmap_layer), None)]
    body = getattr(network.module, "backbone", network.module)  # of timm, which lists its layers
    modules = dict(body.named_modules())
    infos = getattr(body, "feature_info", None)
    listed = [info for info in infos or [] if isinstance(info, dict) and info.get("module") in modules]
    return [(modules[info["module"]], int(info["num_chs"])) for info in listed]


def _find_layer(network: FaceNetwork) -> tuple[nn.Module, int, int, int] | None:
    """Return the deepest layer whose places bear on the logit, its channels, its tokens without place, and its side.

    In a transformer that reads its class token alone, the other tokens of the last block lead nowhere.
    """
    known = _list_known_layers(network)
    outputs: dict[nn.Module, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: outputs.update({layer: output})) for layer, _ in known
    ]
    size = network.input_spec.size
    device = network.mean.device
    noise = torch.rand(1, 3, size, size, device=device, generator=torch.Generator(device).manual_seed(0)) * 255
    try:
        with torch.enable_grad():
            logit = network(noise.requires_grad_()).sum()
    finally:
        for hook in hooks:
            hook.remove()
    for layer, count in reversed(known):
        output = outputs.get(layer)
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            continue
        num_channels = count or int(output.shape[1] if output.ndim == 4 else output.shape[2])
        num_prefix = _count_prefix(network, output, num_channels)
        if num_prefix is None:
            continue
        (gradient,) = torch.autograd.grad(logit, output, retain_graph=True, allow_unused=True)
        if gradient is not None:
            places = _as_map(gradient, num_channels, num_prefix)
            if places.shape[-1] > 1 and places.shape[-1] == places.shape[-2] and bool(places.abs().max() > 0):
                return layer, num_channels, num_prefix, int(places.shape[-1])
    return None


def _count_prefix(network: FaceNetwork, output: Tensor, num_channels: int) -> int | None:
    """Return how many tokens stand before those with a place, such as the class token; None for no map at all."""
    if output.ndim == 4 and num_channels in (output.shape[1], output.shape[3]):
        return 0
    if output.ndim != 3 or output.shape[2] != num_channels:
        return None
    body = getattr(network.module, "backbone", network.module)
    told = int(getattr(body, "num_prefix_tokens", 0) or 0)
    return next(
        (count for count in (told, 0, 1, 2) if math.isqrt(output.shape[1] - count) ** 2 == output.shape[1] - count),
        None,
    )


def _as_map(output: Tensor, num_channels: int, num_prefix: int) -> Tensor:
    """Return tokens `(N, T, C)`, or a map with its channels last, as `(N, C, h, w)`."""
    if output.ndim == 4:
        return output if output.shape[1] == num_channels else output.permute(0, 3, 1, 2)
    side = math.isqrt(output.shape[1] - num_prefix)
    return output[:, num_prefix:].transpose(1, 2).reshape(len(output), num_channels, side, side)
