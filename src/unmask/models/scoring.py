"""From crops to scores: the two steps that evaluation and prediction must take alike."""

from typing import TYPE_CHECKING

from unmask.errors import ConfigError
from unmask.names import suggest

if TYPE_CHECKING:
    import torch
    from torch import nn


def choose_device(name: str) -> "torch.device":
    """Turn `auto` into the first GPU, or the CPU where there is none.

    Args:
        name: `auto`, or a device that torch knows, such as `cpu`, `cuda` or `cuda:1`.

    Raises:
        ConfigError: Torch does not know it, or it is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        meant = suggest(name, ("auto", "cpu", "cuda", "mps"), key="device") if ":" not in str(name) else ""
        raise ConfigError(f"device={name} cannot be used: {reason}.{meant} Choose auto, cpu or another GPU.") from error
    return device


def score_crops(network: "nn.Module", images: "torch.Tensor", *, device: "torch.device") -> list[float]:
    """Score a batch of crops in single precision.

    Args:
        network: In evaluation mode, on `device`.
        images: uint8, shape `(N, 3, size, size)`.
        device: Where the network is.

    Returns:
        P(fake) of each crop.
    """
    import torch

    with torch.inference_mode():
        logits = network(images.to(device, non_blocking=True)).float()
        scores: list[float] = torch.sigmoid(logits).reshape(-1).cpu().tolist()
        return scores
