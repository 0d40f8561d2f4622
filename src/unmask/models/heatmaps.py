"""Locate the evidence for a logit in an image, with class activation maps or Grad-CAM.

A class activation map (Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016) comes with the
logit: it is the sum of the features before pooling, weighted by the head; its mean plus the head's bias is the logit.
Other networks use Grad-CAM (Selvaraju et al., ICCV 2017), computed by Gildenblat's package pytorch-grad-cam. It needs a
backward pass, so a crop takes more than twice as long.
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
    """Wrap a network to return its class activation map beside the logit.

    Args:
        network: Network with a class activation map (`FaceNetwork.has_map`).
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
        with self._lock:  # keeps the features of batches in other threads apart
            hook = body.register_forward_hook(lambda _, inputs, output: seen.append(output))
            try:
                logit = fold_logits(self.network.module(self.network.normalise(images)))
            finally:
                hook.remove()
        weights = head.get_parameter("weight")
        weight = weights if len(weights) == 1 else weights[1:] - weights[:1]
        return logit, (seen[-1] * weight.view(1, -1, 1, 1)).sum(dim=1)


def explain_missing_maps(network: FaceNetwork) -> str | None:
    """Explain why a network has no heatmaps and how to get them; return None if it has them."""
    if network.has_map or network.heatmap_layer is not None or _list_known_layers(network):
        return None
    return (
        f"'{network.name}' has no heat maps: its head is not a single linear layer after global average pooling. Set "
        f"model.heatmap_layer=<dotted name> to a layer for Grad-CAM."
    )


class GradCam:
    """Score crops and compute their Grad-CAM maps.

    Args:
        network: Network in evaluation mode; gradients of its weights are turned off for good.
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
            # Keep the layer's resolution: the package would enlarge maps to the crop, and results contain many of them.
            self._cam.get_target_width_height = lambda images: (side, side)

    def score(self, images: Tensor) -> tuple[Tensor, npt.NDArray[np.float32] | None]:
        """Score a batch.

        Args:
            images: Crops as uint8, shape `(N, 3, size, size)`, on the network's device.

        Returns:
            Logits, shape `(N,)`, and maps in [0, 1], shape `(N, h, w)`, or None if no layer has a spatial output.
        """
        if self._cam is None:
            with torch.inference_mode():
                return self._network(images), None
        from pytorch_grad_cam.utils.model_targets import RawScoresOutputTarget

        with torch.enable_grad():
            maps = self._cam(images.float().requires_grad_(), targets=[RawScoresOutputTarget()] * len(images))
        logits: Tensor = self._cam.outputs.detach()
        self._cam.outputs = None  # frees the graph
        return logits, np.asarray(maps, np.float32)


def _list_known_layers(network: FaceNetwork) -> list[tuple[nn.Module, int | None]]:
    """Return the layers whose output may be a map, deepest last, with their number of channels if known."""
    if network.heatmap_layer is not None:
        return [(network.module.get_submodule(network.heatmap_layer), None)]
    body = getattr(network.module, "backbone", network.module)  # a timm network, which lists its layers
    modules = dict(body.named_modules())
    infos = getattr(body, "feature_info", None)
    listed = [info for info in infos or [] if isinstance(info, dict) and info.get("module") in modules]
    return [(modules[info["module"]], int(info["num_chs"])) for info in listed]


def _find_layer(network: FaceNetwork) -> tuple[nn.Module, int, int, int] | None:
    """Return the deepest layer with a spatial gradient, its channels, number of prefix tokens, and side.

    In a transformer whose head reads only the class token, the patch tokens of the last block have no gradient.
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
    """Return the number of prefix tokens, such as the class token, or None if the output is not a map."""
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
    """Reshape tokens `(N, T, C)` or a channels-last map to `(N, C, h, w)`."""
    if output.ndim == 4:
        return output if output.shape[1] == num_channels else output.permute(0, 3, 1, 2)
    side = math.isqrt(output.shape[1] - num_prefix)
    return output[:, num_prefix:].transpose(1, 2).reshape(len(output), num_channels, side, side)
