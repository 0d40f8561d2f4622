"""Weights as people publish them: a network's tensors below any prefix, with a head or without, among other things."""

import argparse
import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmask.errors import CheckpointError
from unmask.paths import expand_home, show_command

logger = logging.getLogger(__name__)

_FIX = "Use 'imagenet', a file of its weights, or null."
_NUM_SHOWN = 5
_COUNTER = ".num_batches_tracked"
"""Of batch normalisation; PyTorch before 0.4.1 did not have it, and nothing is computed from it here."""
_PLAIN_CLASSES: tuple[Any, ...] = (argparse.Namespace, np.dtype, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"})
"""What checkpoints hold beside tensors, such as their training's arguments: classes without code of their own."""


def read_weights(weights: str) -> Mapping[str, Any]:
    """Read a file of PyTorch or of safetensors without running anything in it.

    Args:
        weights: Path, as `model.weights` has it.

    Raises:
        CheckpointError: Absent, not such a file, or one that could run code.
    """
    path = Path(expand_home(weights))
    if not path.is_file():
        raise CheckpointError(f"No such file: model.weights='{weights}'. Use 'imagenet', a file, or null.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        scalar: Any = np.float64(0).__reduce__()[0]
        with torch.serialization.safe_globals([*_PLAIN_CLASSES, scalar]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of something else make the reader fail in every way there is
        if (needed := _find_code(error, path)) is not None:
            raise CheckpointError(_refuse_code(path, weights, needed)) from error
        raise CheckpointError(
            f"model.weights='{weights}' cannot be read as weights of PyTorch. Use 'imagenet', a file, or null."
        ) from error
    return content if isinstance(content, Mapping) else {}


def _find_code(error: Exception, path: Path) -> str | None:
    """Return what code a file needs that PyTorch refused to run; None where the file is of something else."""
    if "TorchScript" in str(error):
        return "TorchScript"
    if not isinstance(error, pickle.UnpicklingError):
        return None
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named:
        return named[1]
    with path.open("rb") as file:
        return "pickled objects" if file.read(2).startswith((b"PK", b"\x80")) else None


def _refuse_code(path: Path, weights: str, needed: str) -> str:
    convert = (
        "import sys, torch; content = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
        "torch.save(content.state_dict() if hasattr(content, 'state_dict') else content['state_dict'], sys.argv[2])"
    )
    return (
        f"model.weights='{weights}' is not read: it needs the code of {needed}, and running code out of a file can do "
        f"anything. Where you trust it, write its tensors alone into another file: "
        f"{show_command('-c', convert, path, path.with_name(f'{path.stem}-weights.pth'))}"
    )


def load_backbone(module: nn.Module, content: Mapping[str, Any], *, weights: str, of: str) -> None:
    """Copy the tensors of a file into a network without its head, and log what of the file was left out.

    The tensors may stand below any name (`state_dict`, `model`) and have any prefix (`module.`, `backbone.`): the one
    with which most of the network's names are found is taken.

    Args:
        module: The network.
        content: Of the file.
        weights: What messages call the file.
        of: Whose weights they must be, for messages.

    Raises:
        CheckpointError: A tensor is missing, of another size, or of a larger network; says which.
    """
    tensors = dict(_flatten(content))
    wanted = module.state_dict()
    prefix = _find_prefix(tensors, wanted)
    found = {name: tensors[prefix + name] for name in wanted if prefix + name in tensors}
    named = [key.removeprefix(prefix) for key in tensors if key.startswith(prefix)]
    left = [name for name in named if name not in wanted]
    problems = _list_problems(wanted, found, left, tensors)
    if problems:
        raise CheckpointError(f"model.weights='{weights}' does not hold {of}: {'; '.join(problems)}. {_FIX}")
    module.load_state_dict({**wanted, **found})
    dropped = [*dict.fromkeys(name.partition(".")[0] for name in left), *_list_others(content, prefix)]
    logger.info(
        "model.weights='%s': %d tensors loaded%s; left out: %s.",
        weights, len(found), f" from below '{prefix}'" if prefix else "", ", ".join(dropped) or "nothing",
    )  # fmt: skip


def _flatten(content: Mapping[Any, Any], prefix: str = "", *, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries under dotted names."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping) and depth < 4:
            yield from _flatten(value, f"{prefix}{key}.", depth=depth + 1)


def _find_prefix(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return what stands before most of the wanted names; the first such where several are complete."""
    ends: dict[str, list[str]] = {}
    for name in wanted:
        ends.setdefault(name.rpartition(".")[2], []).append(name)
    counts: dict[str, int] = {}
    for key in tensors:
        for name in ends.get(key.rpartition(".")[2], ()):
            if key == name or key.endswith(f".{name}"):
                counts[key.removesuffix(name)] = counts.get(key.removesuffix(name), 0) + 1
    return max(counts, key=lambda prefix: counts[prefix], default="")


def _list_problems(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], left: list[str], tensors: Mapping[str, Tensor]
) -> list[str]:
    needed = [name for name in wanted if not name.endswith(_COUNTER)]
    missing = [name for name in needed if name not in found]
    if len(missing) == len(needed):
        return [f"it has {_show(list(tensors)) or 'no tensors'}, and none of the network's {_show(missing)}"]
    sizes = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}"
        for name, tensor in found.items()
        if tensor.shape != wanted[name].shape
    ]
    parts = {name.partition(".")[0] for name in wanted}
    beyond = [name for name in left if name.partition(".")[0] in parts and not name.endswith(_COUNTER)]
    problems = {
        f"{len(missing)} of its {len(needed)} tensors are missing": missing,
        f"{len(sizes)} have another size": sizes,
        f"{len(beyond)} are of a larger network": beyond,
    }
    return [f"{text} ({_show(names)})" for text, names in problems.items() if names]


def _show(names: list[str]) -> str:
    return ", ".join(names[:_NUM_SHOWN]) + (", ..." if len(names) > _NUM_SHOWN else "")


def _list_others(content: Mapping[str, Any], prefix: str) -> list[str]:
    """Return what stands beside the tensors at the top of the file."""
    if prefix == "" or any(isinstance(value, Tensor) for value in content.values()):
        return [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    return [str(key) for key in content if not prefix.startswith(f"{key}.")]
