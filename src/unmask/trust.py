"""What is built from a file: checkpoints, bundles and datasets come from strangers too, and name what to call.

A command line and its configs are the user's own and may name anything; a file may not. From a file only these are
called: the networks and detectors of `unmask` in `_OURS`, the `nn.Module` classes of `torch.nn`, the builders of
`torchvision.models` and `timm.create_model`, both without weights. Every other package has to be named by the user.
All targets of a file are checked before the first is called, and nothing is imported for one that is refused.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unmask.errors import ConfigError, UntrustedError

VARIABLE = "UNMASK_TRUSTED_MODULES"
"""Environment variable with names of trusted packages, separated by commas."""

_OURS = frozenset(
    {
        "unmask.models.backbones.build_resnet",
        "unmask.models.backbones.build_timm",
        "unmask.models.backbones.build_tiny",
        "unmask.faces.detector.WholeImage",
        "unmask.faces.haar.HaarCascade",
        "unmask.faces.retinaface_mobilenet.RetinaFaceMobileNet",
        "unmask.faces.retinaface_resnet50.RetinaFaceResNet50",
    }
)
_TIMM = ("timm.create_model", "timm.models.create_model")
_KEYS = {"_target_", "_args_", "_partial_", "_convert_", "_recursive_"}
_LIBRARIES = {"torch", "torchvision", "timm", "unmask", "builtins"}
_MAX_DEPTH = 40
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"

_LOADS_WEIGHTS = {
    "weights", "weights_backbone", "pretrained", "pretrained_backbone", "pretrained_cfg", "pretrained_cfg_overlay",
    "pretrained_custom_load", "pretrained_filter_fn", "pretrained_strict", "checkpoint_path", "cache_dir",
}  # fmt: skip
"""Arguments by which builders of networks download or read weights."""

Node = Mapping[str, Any]
Build = Callable[..., Any]


def read_trusted(given: Sequence[str] | str = ()) -> tuple[str, ...]:
    """Return the packages that the user trusts: those given, and those of the environment.

    Args:
        given: Names of packages or modules, such as `["mylab"]`.

    Raises:
        ConfigError: One is not the name of a module.
    """
    named = {"trusted_modules": given.split(",") if isinstance(given, str) else [str(name) for name in given]}
    named[VARIABLE] = os.environ.get(VARIABLE, "").split(",")
    found = [(key, name.strip()) for key, names in named.items() for name in names if name.strip()]
    for key, name in found:
        if re.fullmatch(_DOTTED, name) is None:
            raise ConfigError(f"{key}: '{name}' is not the name of a module. Give one such as mylab or mylab.nets.")
    return tuple(dict.fromkeys(name for _, name in found))


def build_from_file(
    node: Node,
    *,
    file: str | Path,
    trusted_modules: Sequence[str] = (),
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """Build the object that a node of a file describes.

    Args:
        node: `_target_` and plain arguments, which may be nodes in turn.
        file: File that holds it, for messages.
        trusted_modules: Packages that may be called too; those of `UNMASK_TRUSTED_MODULES` are added.
        offered: Further arguments of the target, given where it has parameters of these names.

    Raises:
        UntrustedError: A target is not trusted, or the node asks for something that is not built from a file.
    """
    trusted = read_trusted(trusted_modules)
    names = dict.fromkeys(_list_targets(node, file=file))
    for name in names:
        _check_name(name, trusted, file=file)
    known = {name: _find(name, trusted, file=file) for name in names}
    if "_target_" not in node:
        raise UntrustedError(f"'{file}' describes an object without a _target_. It is damaged, or not of unmask.")
    parameters = _list_parameters(known[node["_target_"]])
    further = {key: value for key, value in (offered or {}).items() if key in parameters}
    return _build({**node, **further}, known)


def check_overrides(
    overrides: Sequence[tuple[str, Any]], *, file: str | Path, trusted_modules: Sequence[str] = ()
) -> None:
    """Raise where the overrides of a stranger's run do more than choose options and set plain values.

    Args:
        overrides: Key and value of each.
        file: File that holds them, for messages.
        trusted_modules: Packages that a `_target_` among them may name.

    Raises:
        UntrustedError: One names something to call, refers to another value, or sets up Hydra.
    """
    trusted = read_trusted(trusted_modules)
    for key, value in overrides:
        names = [str(value)] if "_target_" in key else list(_list_targets(value, file=file))
        for name in names:
            if re.fullmatch(_DOTTED, name) is None or not _is_within(name, trusted):
                raise _refuse(name, file=file)
        if key.lstrip("+~").startswith("hydra") or "${" in str(value):
            raise UntrustedError(
                f"'{file}' has the override '{key}={value}', which is only taken from runs below your own outputs. If "
                f"you trust it, repeat it on the command line."
            )


def list_packages(node: Any) -> tuple[str, ...]:
    """Return the packages that the targets of a node lie in: those that its author's own configuration names.

    Args:
        node: Plain values.
    """
    return tuple(dict.fromkeys(name.partition(".")[0] for name in _list_targets(node, file="the configuration")))


def list_untrusted(node: Any) -> tuple[str, ...]:
    """Return the packages that have to be trusted before the node of a file is built.

    Args:
        node: Plain values.
    """
    names = _list_targets(node, file="the configuration")
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names if not _is_known(name)))


def _list_targets(node: Any, *, file: str | Path, depth: int = 0) -> Iterator[str]:
    """Yield every `_target_` of nested plain values."""
    if depth > _MAX_DEPTH:
        raise UntrustedError(f"'{file}' nests values more than {_MAX_DEPTH} deep. It is damaged, or not of unmask.")
    if isinstance(node, Mapping):
        if "_target_" in node:
            if not isinstance(node["_target_"], str):
                raise UntrustedError(f"'{file}' has a _target_ that is not a name: {str(node['_target_'])[:80]!r}.")
            yield node["_target_"]
            unknown = [key for key in node if str(key)[:1] == "_" == str(key)[-1:] and key not in _KEYS]
            if unknown:
                raise UntrustedError(f"'{file}' has the key '{unknown[0]}', which is not built from a file.")
        for value in node.values():
            yield from _list_targets(value, file=file, depth=depth + 1)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _list_targets(value, file=file, depth=depth + 1)


def _check_name(name: str, trusted: Sequence[str], *, file: str | Path) -> None:
    """Raise unless a name is one that may be looked up at all; nothing is imported here."""
    is_name = "." in name and re.fullmatch(_DOTTED, name) is not None
    if not is_name or not (_is_known(name) or _is_within(name, trusted)):
        raise _refuse(name, file=file)


def _is_known(name: str) -> bool:
    return name in _OURS or name in _TIMM or name.startswith(("torch.nn.", "torchvision.models."))


def _find(name: str, trusted: Sequence[str], *, file: str | Path) -> Build:
    """Return what a name means, by a way that leads through nothing else than its own package."""
    found: Build | None
    if name in _TIMM:
        found = _create_timm
    elif name in _OURS or _is_within(name, trusted):
        found = _find_defined(name, trusted, file=file)
    else:
        found = _find_torch(name) if name.startswith("torch.nn.") else _find_torchvision(name)
    if found is None:
        raise _refuse(name, file=file)
    return _without_weights(found) if name in _OURS and name.startswith("unmask.models.") else found


def _find_defined(name: str, trusted: Sequence[str], *, file: str | Path) -> Build | None:
    """Return a class or function that its module, or another of the same trusted package, defines itself."""
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UntrustedError(
            f"'{file}' needs '{name}', and '{module_name}' cannot be imported: {error}. Install the package, or put "
            f"the folder that holds it on PYTHONPATH."
        ) from error
    found = vars(module).get(attribute)
    if not isinstance(found, type) and not inspect.isfunction(found):
        return None
    is_its_own = name in _OURS or _is_within(f"{found.__module__}.", trusted)
    return found if is_its_own else None


def _find_torch(name: str) -> Build | None:
    """Return a class of `torch.nn` that is a module."""
    import torch

    found = vars(torch.nn).get(name.rpartition(".")[2])
    if not isinstance(found, type) or not issubclass(found, torch.nn.Module):
        return None
    is_its_own = found.__module__.startswith("torch.nn.modules.")
    spelled = (f"torch.nn.{found.__name__}", f"{found.__module__}.{found.__name__}")
    return found if is_its_own and name in spelled else None


def _find_torchvision(name: str) -> Build | None:
    """Return a builder of an image classification network of `torchvision.models`."""
    import torchvision

    short = name.rpartition(".")[2]
    if short not in torchvision.models.list_models(module=torchvision.models):
        return None
    builder: Build = torchvision.models.get_model_builder(short)
    spelled = (f"torchvision.models.{short}", f"{builder.__module__}.{short}")
    return _without_weights(builder) if name in spelled else None


def _create_timm(model_name: Any = None, **arguments: Any) -> Any:
    """Build a network of timm by one of its own names: others are addresses, from which it downloads."""
    import timm

    if not isinstance(model_name, str) or model_name.partition(".")[0] not in timm.list_models():
        raise ConfigError(f"timm.create_model: model_name={model_name!r} is not a network that timm itself has.")
    named = {key: value for key, value in arguments.items() if key not in _LOADS_WEIGHTS}
    return timm.create_model(model_name, pretrained=False, **named)


def _without_weights(builder: Build) -> Build:
    """Return a builder that takes named arguments alone, and none by which it would load weights."""

    def build(**arguments: Any) -> Any:
        return builder(**{key: value for key, value in arguments.items() if key not in _LOADS_WEIGHTS})

    build.__signature__ = inspect.signature(builder)  # type: ignore[attr-defined]
    return build


def _build(node: Any, known: Mapping[str, Build]) -> Any:
    if isinstance(node, list | tuple):
        return [_build(value, known) for value in node]
    if not isinstance(node, Mapping):
        return node
    is_deep = node.get("_recursive_", True)
    values = {key: _build(value, known) if is_deep else value for key, value in node.items() if key not in _KEYS}
    if "_target_" not in node:
        return values
    target, positional = known[node["_target_"]], _build(node.get("_args_", []), known)
    return partial(target, *positional, **values) if node.get("_partial_") else target(*positional, **values)


def _list_parameters(target: Build) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # of a class without a readable signature
        return {}


def _is_within(name: str, packages: Sequence[str]) -> bool:
    return any(name.startswith(f"{package}.") for package in packages)


def _refuse(name: str, *, file: str | Path) -> UntrustedError:
    package = name.partition(".")[0]
    shown = name if len(name) <= 200 else f"{name[:200]}..."
    problem = f"'{file}' asks to call '{shown}', and that is not called for a file: it could run any code."
    if package in _LIBRARIES or package in sys.stdlib_module_names or not package.isidentifier():
        return UntrustedError(
            f"{problem} No network or detector is built that way, so do not use this file. Packages of your own are "
            f"allowed with trusted_modules=[<package>] or {VARIABLE}=<package>."
        )
    return UntrustedError(
        f"{problem} If you trust the file and the package '{package}', allow it with trusted_modules=[{package}] or "
        f"{VARIABLE}={package}."
    )
