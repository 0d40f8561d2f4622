"""Read published weights: tensors under any prefix, with or without a head, possibly beside other content."""

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

_FIX = "Use 'imagenet', a file of weights for this network, or null."
_NUM_SHOWN = 5
_COUNTER = ".num_batches_tracked"
"""Counter of batch normalization: missing in files of PyTorch before 0.4.1, and not needed here."""
_PLAIN_CLASSES: tuple[Any, ...] = (argparse.Namespace, np.dtype, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"})
"""Classes in checkpoints beside tensors, such as training arguments, that run no code when loaded."""


def read_weights(weights: str) -> Mapping[str, Any]:
    """Read a PyTorch or safetensors file without running any code in it.

    Args:
        weights: Path, as in `model.weights`.

    Raises:
        CheckpointError: The file is missing, invalid, or could run code.
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
    except Exception as error:  # the readers raise many kinds of errors on invalid files
        if (needed := _find_code(error, path)) is not None:
            raise CheckpointError(_refuse_code(path, weights, needed)) from error
        raise CheckpointError(
            f"model.weights='{weights}' is not a readable file of PyTorch weights. Use 'imagenet', a file, or null."
        ) from error
    return content if isinstance(content, Mapping) else {}


def _find_code(error: Exception, path: Path) -> str | None:
    """Return the code that a file needs and PyTorch refused to run, or None for an invalid file."""
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
        f"model.weights='{weights}' was not read because it needs the code of {needed}, and running code from a file "
        f"is unsafe. If you trust the file, extract its tensors into another one with: "
        f"{show_command('-c', convert, path, path.with_name(f'{path.stem}-weights.pth'))}"
    )


def load_backbone(module: nn.Module, content: Mapping[str, Any], *, weights: str, of: str) -> None:
    """Copy the tensors of a file into a network without its head, and log what was left out.

    The tensors may be nested (`state_dict`, `model`) and have any prefix (`module.`, `backbone.`); the prefix that
    matches most of the network's names is used.

    Args:
        module: Network to fill.
        content: Contents of the file.
        weights: Name of the file, for messages.
        of: Description of the expected weights, for messages.

    Raises:
        CheckpointError: Tensors are missing, have another size, or belong to a larger network.
    """
    tensors = dict(_flatten(content))
    wanted = module.state_dict()
    prefix = _find_prefix(tensors, wanted)
    found = {name: tensors[prefix + name] for name in wanted if prefix + name in tensors}
    named = [key.removeprefix(prefix) for key in tensors if key.startswith(prefix)]
    left = [name for name in named if name not in wanted]
    problems = _list_problems(wanted, found, left, tensors)
    if problems:
        raise CheckpointError(f"model.weights='{weights}' does not contain {of}: {'; '.join(problems)}. {_FIX}")
    module.load_state_dict({**wanted, **found})
    dropped = [*dict.fromkeys(name.partition(".")[0] for name in left), *_list_others(content, prefix)]
    logger.info(
        "Loaded %d tensors%s from model.weights='%s', and left out: %s.",
        len(found), f" with prefix '{prefix}'" if prefix else "", weights, ", ".join(dropped) or "nothing",
    )  # fmt: skip


def _flatten(content: Mapping[Any, Any], prefix: str = "", *, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested dictionaries with dotted names."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping) and depth < 4:
            yield from _flatten(value, f"{prefix}{key}.", depth=depth + 1)


def _find_prefix(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return the prefix that matches most of the wanted names; the first of several equally good ones."""
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
        return [f"it has {_show(list(tensors)) or 'no tensors'}, but none of the network's {_show(missing)}"]
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
        f"{len(beyond)} belong to a larger network": beyond,
    }
    return [f"{text} ({_show(names)})" for text, names in problems.items() if names]


def _show(names: list[str]) -> str:
    return ", ".join(names[:_NUM_SHOWN]) + (", ..." if len(names) > _NUM_SHOWN else "")


def _list_others(content: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the top-level keys of the file that contain no loaded tensors."""
    if prefix == "" or any(isinstance(value, Tensor) for value in content.values()):
        return [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    return [str(key) for key in content if not prefix.startswith(f"{key}.")]
