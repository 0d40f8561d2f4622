"""The network as ONNX: from uint8 crops to logits, and class activation maps where it has them, without PyTorch."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from unmask.models.network import FaceNetwork


class NetworkWithMap(nn.Module):
    """A network that also says where in the picture its logit comes from.

    The map is the class activation map of Zhou et al. (Learning Deep Features for Discriminative Localization, CVPR
    2016): the features before pooling, weighted as the head weighs them; its mean plus the head's bias is the logit.
    """

    def __init__(self, network: FaceNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, shape `(N,)`, and maps, shape `(N, h, w)`."""
        network = self.network
        features = network.backbone((images.float() - network.mean) / network.std)
        pooled = network.pool(features).flatten(1)
        logit = network.head(pooled).squeeze(1)
        activation_map = (features * network.head.weight.view(1, -1, 1, 1)).sum(dim=1)
        return logit, activation_map


def export_onnx(network: FaceNetwork, path: Path) -> None:
    """Write a network as ONNX.

    Its input `images` is uint8 RGB of shape `(N, 3, size, size)`; its outputs are `logit`, shape `(N,)`, whose sigmoid
    is P(fake), and `activation_map`, shape `(N, h, w)`, high where the face looks fake. A network that pools in its own
    way has no such map, and only the first output.

    Args:
        network: On the CPU.
        path: Of the file.
    """
    was_training = network.training
    model = (NetworkWithMap(network) if network.has_map else network).eval()
    outputs = ["logit", "activation_map"] if network.has_map else ["logit"]
    size = network.input_spec.size
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        # The newer exporter takes six times as long, and writes its own report to standard output.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, size, size, dtype=torch.uint8),),
            str(path),
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "N"} for name in ("images", *outputs)},
            opset_version=17,
            dynamo=False,
        )
    network.train(was_training)
