"""Batches that a network refuses, found before the first step."""

import copy

import torch
from torch import nn

from unmask.errors import ConfigError
from unmask.models.network import FaceNetwork

_LARGEST_TRIED = 512


def check_batch(network: FaceNetwork, *, num_crops: int, batch_size: int) -> None:
    """Raise where a network cannot learn from the smallest batch that will occur.

    It is tried with tensors that have a shape and no values. Batch normalisation needs more than one value per channel,
    for example, and a deep network leaves 1 x 1 of a small crop.

    Args:
        network: As it is trained.
        num_crops: In the smallest batch.
        batch_size: As configured.

    Raises:
        ConfigError: Names the sizes and, where there are any, some that work.
    """
    size = network.input_spec.size
    problem = _try_batch(network, num_crops, size)
    if problem is None:
        return
    advice = []
    if _try_batch(network, num_crops + 1, size) is None:
        more = "more training crops for each process (dataset.limit.train, dataset.samples_per_epoch, trainer.devices)"
        advice.append(more if num_crops < batch_size else f"dataset.batch_size={num_crops + 1}")
    doubled = iter(size << shift for shift in range(1, 10) if size << shift <= _LARGEST_TRIED)
    fitting = next((larger for larger in doubled if _try_batch(network, num_crops, larger) is None), None)
    advice += [f"model.input_size={fitting}"] if fitting is not None else []
    raise ConfigError(
        f"'{network.name}' (model) cannot learn from a batch of {num_crops} at model.input_size={size} "
        f"and dataset.batch_size={batch_size}: {problem}. "
        f"Give {' or '.join(advice) or 'a larger model.input_size and dataset.batch_size, or another network'}."
    )


def _try_batch(network: FaceNetwork, num_crops: int, size: int) -> str | None:
    """Return why a network refuses a batch in training, or None."""
    tensors = (*network.parameters(), *network.buffers())
    empty = {id(tensor): _without_values(tensor) for tensor in tensors}
    twin = copy.deepcopy(network, empty).train()  # copies modules only, and no compiled ones
    try:
        with torch.no_grad():
            twin(torch.zeros(num_crops, 3, size, size, dtype=torch.uint8, device="meta"))
    except NotImplementedError:
        return None  # an operation that needs values: the first step will tell
    except (ValueError, RuntimeError, AssertionError, TypeError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return None


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
