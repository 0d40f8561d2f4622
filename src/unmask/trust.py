"""Build objects described in untrusted files: checkpoints, bundles and datasets name the constructors to call.

A command line and its configs are the user's own and may name anything; a file may not. Files may only name the
networks and detectors of `unmask` in `_OURS`, the `nn.Module` classes of `torch.nn`, the builders of
`torchvision.models` and `timm.create_model`, the last two without weights. The user must trust any other package
explicitly. All targets of a file are checked before the first is called, and a rejected target is never imported.
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
"""Environment variable with a comma-separated list of trusted packages."""

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
"""Arguments with which network builders download or read weights."""

Node = Mapping[str, Any]
Build = Callable[..., Any]


def read_trusted(given: Sequence[str] | str = ()) -> tuple[str, ...]:
    """Return the trusted packages: those given and those in `UNMASK_TRUSTED_MODULES`.

    Args:
        given: Names of packages or modules, such as `["mylab"]`.

    Raises:
        ConfigError: A name is not a valid module name.
    """
    named = {"trusted_modules": given.split(",") if isinstance(given, str) else [str(name) for name in given]}
    named[VARIABLE] = os.environ.get(VARIABLE, "").split(",")
    found = [(key, name.strip()) for key, names in named.items() for name in names if name.strip()]
    for key, name in found:
        if re.fullmatch(_DOTTED, name) is None:
            raise ConfigError(f"{key}: '{name}' is not a module name. Set a name such as mylab or mylab.nets.")
    return tuple(dict.fromkeys(name for _, name in found))


def build_from_file(
    node: Node,
    *,
    file: str | Path,
    trusted_modules: Sequence[str] = (),
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """Build the object that a node from a file describes.

    Args:
        node: `_target_` and plain arguments, which may be nested nodes.
        file: File that contains the node, for messages.
        trusted_modules: Additional trusted packages, beside those in `UNMASK_TRUSTED_MODULES`.
        offered: Additional arguments, passed only if the target has parameters of these names.

    Raises:
        UntrustedError: A target is not trusted, or the node is malformed.
    """
    trusted = read_trusted(trusted_modules)
    names = dict.fromkeys(_list_targets(node, file=file))
    for name in names:
        _check_name(name, trusted, file=file)
    known = {name: _find(name, trusted, file=file) for name in names}
    if "_target_" not in node:
        raise UntrustedError(
            f"'{file}' describes an object without a _target_. It is damaged, or was not written by unmask."
        )
    parameters = _list_parameters(known[node["_target_"]])
    further = {key: value for key, value in (offered or {}).items() if key in parameters}
    return _build({**node, **further}, known)


def check_overrides(
    overrides: Sequence[tuple[str, Any]], *, file: str | Path, trusted_modules: Sequence[str] = ()
) -> None:
    """Raise unless the overrides of an untrusted run only choose options and set plain values.

    Args:
        overrides: Key and value of each override.
        file: File that contains the overrides, for messages.
        trusted_modules: Packages that a `_target_` in the overrides may name.

    Raises:
        UntrustedError: An override names an untrusted target, contains an interpolation, or configures Hydra.
    """
    trusted = read_trusted(trusted_modules)
    for key, value in overrides:
        names = [str(value)] if "_target_" in key else list(_list_targets(value, file=file))
        for name in names:
            if re.fullmatch(_DOTTED, name) is None or not _is_within(name, trusted):
                raise _refuse(name, file=file)
        if key.lstrip("+~").startswith("hydra") or "${" in str(value):
            raise UntrustedError(
                f"'{file}' has the override '{key}={value}', which is only accepted from runs in your own output "
                f"folder. If you trust it, repeat it on the command line."
            )


def list_packages(node: Any) -> tuple[str, ...]:
    """Return the top-level packages of all targets of a node.

    Args:
        node: Nested plain values.
    """
    return tuple(dict.fromkeys(name.partition(".")[0] for name in _list_targets(node, file="the configuration")))


def list_untrusted(node: Any) -> tuple[str, ...]:
    """Return the packages that a user must trust before the node can be built from a file.

    Args:
        node: Nested plain values.
    """
    names = _list_targets(node, file="the configuration")
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names if not _is_known(name)))


def _list_targets(node: Any, *, file: str | Path, depth: int = 0) -> Iterator[str]:
    """Yield every `_target_` of nested plain values."""
    if depth > _MAX_DEPTH:
        raise UntrustedError(
            f"'{file}' nests values more than {_MAX_DEPTH} levels deep. It is damaged, or was not written by unmask."
        )
    if isinstance(node, Mapping):
        if "_target_" in node:
            if not isinstance(node["_target_"], str):
                raise UntrustedError(f"'{file}' has an invalid _target_: {str(node['_target_'])[:80]!r}.")
            yield node["_target_"]
            unknown = [key for key in node if str(key)[:1] == "_" == str(key)[-1:] and key not in _KEYS]
            if unknown:
                raise UntrustedError(f"'{file}' has the key '{unknown[0]}', which is not supported in files.")
        for value in node.values():
            yield from _list_targets(value, file=file, depth=depth + 1)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _list_targets(value, file=file, depth=depth + 1)


def _check_name(name: str, trusted: Sequence[str], *, file: str | Path) -> None:
    """Raise unless a target is known or trusted; imports nothing."""
    is_name = "." in name and re.fullmatch(_DOTTED, name) is not None
    if not is_name or not (_is_known(name) or _is_within(name, trusted)):
        raise _refuse(name, file=file)


def _is_known(name: str) -> bool:
    return name in _OURS or name in _TIMM or name.startswith(("torch.nn.", "torchvision.models."))


def _find(name: str, trusted: Sequence[str], *, file: str | Path) -> Build:
    """Return the class or function of a target, looked up only in its own package."""
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
    """Return a class or function defined in the named module or elsewhere in the same trusted package."""
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UntrustedError(
            f"'{file}' needs '{name}', but '{module_name}' cannot be imported: {error}. Install the package, or add "
            f"its parent folder to PYTHONPATH."
        ) from error
    found = vars(module).get(attribute)
    if not isinstance(found, type) and not inspect.isfunction(found):
        return None
    is_its_own = name in _OURS or _is_within(f"{found.__module__}.", trusted)
    return found if is_its_own else None


def _find_torch(name: str) -> Build | None:
    """Return an `nn.Module` class of `torch.nn`."""
    import torch

    found = vars(torch.nn).get(name.rpartition(".")[2])
    if not isinstance(found, type) or not issubclass(found, torch.nn.Module):
        return None
    is_its_own = found.__module__.startswith("torch.nn.modules.")
    spelled = (f"torch.nn.{found.__name__}", f"{found.__module__}.{found.__name__}")
    return found if is_its_own and name in spelled else None


def _find_torchvision(name: str) -> Build | None:
    """Return a builder of an image classifier in `torchvision.models`."""
    import torchvision

    short = name.rpartition(".")[2]
    if short not in torchvision.models.list_models(module=torchvision.models):
        return None
    builder: Build = torchvision.models.get_model_builder(short)
    spelled = (f"torchvision.models.{short}", f"{builder.__module__}.{short}")
    return _without_weights(builder) if name in spelled else None


def _create_timm(model_name: Any = None, **arguments: Any) -> Any:
    """Build one of timm's own networks; other model names are URLs or hub IDs from which timm would download."""
    import timm

    if not isinstance(model_name, str) or model_name.partition(".")[0] not in timm.list_models():
        raise ConfigError(f"timm.create_model: model_name={model_name!r} is not one of timm's own networks.")
    named = {key: value for key, value in arguments.items() if key not in _LOADS_WEIGHTS}
    return timm.create_model(model_name, pretrained=False, **named)


def _without_weights(builder: Build) -> Build:
    """Return a builder that takes keyword arguments only and drops those that load weights."""

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
    except (TypeError, ValueError):  # some classes have no readable signature
        return {}


def _is_within(name: str, packages: Sequence[str]) -> bool:
    return any(name.startswith(f"{package}.") for package in packages)


def _refuse(name: str, *, file: str | Path) -> UntrustedError:
    package = name.partition(".")[0]
    shown = name if len(name) <= 200 else f"{name[:200]}..."
    problem = f"'{file}' asks to call '{shown}', which is not allowed for files: it could run any code."
    if package in _LIBRARIES or package in sys.stdlib_module_names or not package.isidentifier():
        return UntrustedError(
            f"{problem} No network or detector needs this call, so do not use this file. Allow your own packages "
            f"with trusted_modules=[<package>] or {VARIABLE}=<package>."
        )
    return UntrustedError(
        f"{problem} If you trust the file and the package '{package}', allow it with trusted_modules=[{package}] or "
        f"{VARIABLE}={package}."
    )
