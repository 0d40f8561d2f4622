"""PyTorch, which runs the network of a checkpoint."""

from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unmask.inference.backend import Scored, to_scores

if TYPE_CHECKING:
    from unmask.models.grad_cam import GradCam


class TorchBackend:
    """Runs a network with PyTorch.

    Args:
        network: In evaluation mode, on `device`; takes uint8 of shape `(N, 3, size, size)`, returns logits.
        device: A `torch.device`.
        maps: Whether a network that pools in its own way gets maps too, by Grad-CAM, which more than doubles the time.
    """

    name = "torch"
    num_streams = 1  # PyTorch's threads are those of the whole process

    def __init__(self, network: Any, *, device: Any, maps: bool = True) -> None:
        self.network = network
        self.device = device
        self._maps = maps
        self._lock = Lock()

    def score(self, images: npt.NDArray[np.uint8], *, in_stream: bool = False) -> Scored:
        """Score a batch."""
        import torch

        from unmask.models.export import NetworkWithMap
        from unmask.models.network import FaceNetwork

        batch = torch.from_numpy(images).to(self.device)
        has_map = isinstance(self.network, FaceNetwork) and self.network.has_map
        if isinstance(self.network, FaceNetwork) and not has_map and self._maps:
            with self._lock:  # the package keeps what it saw between the passes
                logits, found = self._grad_cam.score(batch)
            return Scored(to_scores(logits.float().cpu().numpy()), found)
        with torch.inference_mode():
            if not has_map:
                return Scored(to_scores(self.network(batch).float().cpu().numpy()), None)
            logits, maps = NetworkWithMap(self.network).eval()(batch)
        return Scored(to_scores(logits.float().cpu().numpy()), maps.float().cpu().numpy())

    @cached_property
    def _grad_cam(self) -> "GradCam":
        from unmask.models.grad_cam import GradCam

        return GradCam(self.network)
