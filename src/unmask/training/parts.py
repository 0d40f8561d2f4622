"""Build the parts that the configuration names by `_target_`, loggers among them."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from unmask.config import to_plain
from unmask.errors import ConfigError, UnmaskError

if TYPE_CHECKING:  # Lightning takes seconds to import, which nobody who builds a source needs
    from lightning.pytorch.loggers.logger import Logger

    from unmask.models.network import FaceNetwork
    from unmask.models.schedules import Schedule
    from unmask.tracking.logger import MLflowLogger

_OF_LIGHTNING = ("interval", "frequency", "monitor")
"""Keys of a torch scheduler that belong to Lightning's scheduler config, not to the scheduler."""

_UNKNOWN_ARGUMENT = r"Argument\(s\) .* are not valid for transform"
"""What Albumentations warns of and then ignores."""


def build_node(node: DictConfig, **options: Any) -> Any:
    """Build the object of a node, as `hydra.utils.instantiate` does.

    Args:
        node: Node with a `_target_`.
        options: Further arguments of the target.

    Raises:
        ConfigError: The target does not exist, does not know a key, or does not take its value.
        UnmaskError: What the target itself raises.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=_UNKNOWN_ARGUMENT, category=UserWarning)
            return instantiate(node, **options)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UnmaskError):
            raise cause from None
        if not isinstance(cause, Exception):
            raise
        is_of_lightning = type(cause).__name__ == "MisconfigurationException"  # without importing Lightning for it
        if not is_of_lightning and not isinstance(cause, ValueError | TypeError | ImportError | UserWarning):
            raise
        place = re.search(r"full_key: (\S+)", str(error))
        raise ConfigError(_explain(cause, place.group(1) if place else "")) from error


def build_network(node: DictConfig) -> "FaceNetwork":
    """Return the network of a configuration, with normalisation in front.

    Args:
        node: `model` of the configuration: the `_target_` of any network and its arguments, beside them `input_size`,
            `mean`, `std`, `head` and `heatmap_layer`.

    Raises:
        ConfigError: As `build_node`; or what is built is not a network of images, or returns another shape.
    """
    from unmask.models.network import build_network

    return build_network(to_plain(node), build=lambda plain: build_node(OmegaConf.create({"model": plain}).model))


def build_optimizer(node: DictConfig) -> Any:
    """Return what makes an optimizer of parameters, less our own key `head_lr_ratio`, which makes groups of them.

    Args:
        node: `optimizer` of the configuration.
    """
    build = build_node(OmegaConf.masked_copy(node, [str(key) for key in node if key != "head_lr_ratio"]))
    return _explaining(build, node, group="optimizer")


def build_schedule(node: DictConfig, *, max_epochs: int | None) -> "Schedule | None":
    """Return what makes the learning-rate schedule of an optimizer, or None to keep the rate constant.

    Args:
        node: `scheduler` of the configuration: one of our own schedules, or a class of `torch.optim.lr_scheduler` or a
            subclass by its `_target_`, with `interval`, `frequency` and `monitor` as Lightning names them.
        max_epochs: Epochs of the training; None or -1 if it has no end in epochs.

    Raises:
        ConfigError: As `build_node`.
    """
    schedule: Schedule | None = _build_torch_schedule(node, max_epochs=max_epochs, key="scheduler")
    if schedule is None:
        schedule = build_node(node)
    return None if schedule is None else _explaining(schedule, node, group="scheduler")


def _explaining(build: Callable[..., Any], node: DictConfig, *, group: str) -> Callable[..., Any]:
    """Return a function that names the settings of a group where what it calls does not take them."""

    def explained(*arguments: Any) -> Any:
        try:
            return build(*arguments)
        except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
            settings = ", ".join(f"{group}.{key!s}={value}" for key, value in node.items() if str(key)[0] != "_")
            raise ConfigError(f"One of these does not fit: {settings}. {node._target_} says: {error}") from error

    return explained


def _build_torch_schedule(node: DictConfig, *, max_epochs: int | None, key: str) -> Any:
    """Return the schedule of a torch scheduler; None if the target is something else, which its own call builds."""
    from torch.optim.lr_scheduler import LRScheduler

    from unmask.models.schedules import TorchSchedule

    target = str(node.get("_target_"))
    try:
        scheduler = get_object(target)
    except Exception:  # build_node explains why it cannot be found
        return None
    if not (isinstance(scheduler, type) and issubclass(scheduler, LRScheduler)):
        return None
    nested = node.get("schedulers") or ()
    parts = [
        _build_torch_schedule(part, max_epochs=None, key=f"{key}.schedulers[{index}]")
        for index, part in enumerate(nested)
    ]
    if None in parts:
        raise ConfigError(f"{key}.schedulers[{parts.index(None)}]._target_ is not a scheduler of torch.optim.")
    own = [str(name) for name in node if name not in ("_target_", "_partial_", "schedulers", *_OF_LIGHTNING)]
    # Built by Hydra too, since an argument may have a _target_ of its own, such as a function of the step.
    arguments = build_node(OmegaConf.create({"_target_": "builtins.dict", **OmegaConf.masked_copy(node, own)}))
    options = {name: node[name] for name in _OF_LIGHTNING if name in node}
    return TorchSchedule(scheduler, arguments, max_epochs=max_epochs, parts=parts, key=key, **options)


def _explain(cause: Exception, place: str) -> str:
    """Return one line: the dotted key, its value, and what it must be."""
    text = str(cause)
    refused = re.findall(
        r"^(\w+)[\w.,\[\] ]*\n  (.*?) \[type=.*?, input_value=(.*), input_type=\w+\]", text, re.MULTILINE
    )
    if refused:  # by pydantic, which Albumentations checks with: a line for each type that a value could have had
        name, _, value = refused[0]
        reasons = dict.fromkeys(reason.removeprefix("Value error, ") for key, reason, _ in refused if key == name)
        return f"{place}.{name}={value} is not possible: {'; or: '.join(reasons)}."
    if isinstance(cause, ImportError):
        first = text.splitlines()[-1]
        return f"{place}._target_ names nothing that can be imported. {first}"
    if re.match(r"[\w.]+=", text):
        return f"{place}.{text}"
    return f"{place} cannot be built: {text.splitlines()[0] if text else type(cause).__name__}"


def build_loggers(node: DictConfig | None, *, folder: Path) -> "list[Logger]":
    """Build every logger; none of them writes anything yet.

    Args:
        node: `logger` of the configuration: one logger by its `_target_`, several by name, or nothing.
        folder: Run folder, for loggers whose `save_dir` is null.

    Raises:
        ConfigError: Not a Lightning logger, an unknown key, or a package that is not installed.
    """
    return [_build(entry, key, folder=folder) for key, entry in _list_nodes(node).items()]


def build_mlflow(node: DictConfig | None) -> "MLflowLogger | None":
    """Build only our MLflow logger, and return None if it is not among the loggers.

    Args:
        node: `logger` of the configuration.
    """
    for key, entry in _list_nodes(node).items():
        if _is_mlflow(str(entry["_target_"])):
            built: MLflowLogger = _build(entry, key, folder=Path())
            return built
    return None


def find_mlflow(loggers: "list[Logger]") -> "MLflowLogger | None":
    """Return our MLflow logger, or None if it is not among the loggers."""
    from unmask.tracking.logger import MLflowLogger

    return next((logger for logger in loggers if isinstance(logger, MLflowLogger)), None)


def _list_nodes(node: DictConfig | None) -> dict[str, DictConfig]:
    """Return the node of each logger by its dotted key; a null one is left out."""
    if not node:
        return {}
    if "_target_" in node:
        return {"logger": node}
    nodes = {f"logger.{name!s}": entry for name, entry in node.items() if entry is not None}
    for key, entry in nodes.items():
        if not OmegaConf.is_dict(entry) or "_target_" not in entry:
            raise ConfigError(
                f"{key} is not a logger, which has a _target_. Choose a file of configs/logger, such as logger=csv, or "
                f"give each of several loggers a name, as configs/logger/many.yaml does."
            )
    return nodes


def _is_mlflow(target: str) -> bool:
    from unmask.tracking.logger import MLflowLogger

    try:
        found = get_object(target)
    except Exception:  # building the loggers explains why it cannot be found
        return False
    return isinstance(found, type) and issubclass(found, MLflowLogger)


def _build(node: DictConfig, key: str, *, folder: Path) -> Any:
    from lightning.pytorch.loggers.logger import Logger

    options = {"save_dir": str(folder)} if "save_dir" in node and node.save_dir is None else {}
    try:
        logger = build_node(node, **options)
    except ConfigError as error:
        cause = error.__cause__ and error.__cause__.__cause__
        if type(cause) is not ModuleNotFoundError:  # a wrong _target_ is a plain ImportError
            raise
        package = re.search(r"['`]([\w.-]+)", str(cause))
        name = package.group(1) if package else str(cause)
        raise ConfigError(
            f"{key} ({node._target_}) needs the package {name}, which is not installed. Install it with "
            f"'pip install {name}', or choose another logger, such as logger=csv."
        ) from error
    if not isinstance(logger, Logger):
        raise ConfigError(f"{key}._target_={node._target_} does not give a Lightning logger, but {logger!r}.")
    return logger
