"""Maps of networks that pool in their own way, by Grad-CAM through PyTorch (Selvaraju et al., ICCV 2017).

Gildenblat's package pytorch-grad-cam computes it; here the layer is found, and its output brought into the form of a
map. A pass backwards comes to that forwards, so that a crop takes more than twice as long.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import RawScoresOutputTarget
from torch import Tensor, nn

from unmask.models.network import FaceNetwork


class GradCam:
    """Scores crops, and says where in them the logit comes from.

    Args:
        network: In evaluation mode, one of timm's; its weights get no gradients from now on.
    """

    def __init__(self, network: FaceNetwork) -> None:
        self._network = network.requires_grad_(False)
        found = _find_layer(network)
        self._cam: Any = None
        if found is not None:
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
        with torch.enable_grad():
            maps = self._cam(images.float().requires_grad_(), targets=[RawScoresOutputTarget()] * len(images))
        logits: Tensor = self._cam.outputs.detach()
        self._cam.outputs = None  # or the whole graph is held
        return logits, np.asarray(maps, np.float32)


def _find_layer(network: FaceNetwork) -> tuple[nn.Module, int, int, int] | None:
    """Return the deepest layer whose places bear on the logit, its channels, its tokens without place, and its side.

    In a transformer that reads its class token alone, the other tokens of the last block lead nowhere.
    """
    modules = dict(network.backbone.named_modules())
    infos: list[dict[str, Any]] = list(getattr(network.backbone, "feature_info", None) or [])
    known = [(modules[info["module"]], int(info["num_chs"])) for info in infos if info.get("module") in modules]
    outputs: dict[nn.Module, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: outputs.update({layer: output})) for layer, _ in known
    ]
    size = network.input_spec.size
    device = next(network.parameters()).device
    noise = torch.rand(1, 3, size, size, device=device, generator=torch.Generator(device).manual_seed(0)) * 255
    try:
        with torch.enable_grad():
            logit = network(noise.requires_grad_()).sum()
    finally:
        for hook in hooks:
            hook.remove()
    for layer, num_channels in reversed(known):
        output = outputs.get(layer)
        num_prefix = _count_prefix(network, output, num_channels) if isinstance(output, Tensor) else None
        if not isinstance(output, Tensor) or num_prefix is None:
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
    told = int(getattr(network.backbone, "num_prefix_tokens", 0) or 0)
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
