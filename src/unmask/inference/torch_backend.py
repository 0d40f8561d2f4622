"""PyTorch, which runs the network of a checkpoint."""

from typing import Any

import numpy as np
import numpy.typing as npt

from unmask.inference.backend import Scored, to_scores


class TorchBackend:
    """Runs a network with PyTorch.

    Args:
        network: In evaluation mode, on `device`; takes uint8 of shape `(N, 3, size, size)`, returns logits.
        device: A `torch.device`.
    """

    name = "torch"
    num_streams = 1  # PyTorch's threads are those of the whole process

    def __init__(self, network: Any, *, device: Any) -> None:
        self.network = network
        self.device = device

    def score(self, images: npt.NDArray[np.uint8], *, in_stream: bool = False) -> Scored:
        """Score a batch."""
        import torch

        from unmask.models.export import NetworkWithMap
        from unmask.models.network import FaceNetwork

        batch = torch.from_numpy(images).to(self.device)
        has_map = isinstance(self.network, FaceNetwork) and hasattr(self.network.head, "weight")
        with torch.inference_mode():
            if not has_map:
                return Scored(to_scores(self.network(batch).float().cpu().numpy()), None)
            logits, maps = NetworkWithMap(self.network).eval()(batch)
        return Scored(to_scores(logits.float().cpu().numpy()), maps.float().cpu().numpy())
