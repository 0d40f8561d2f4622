"""Build the loggers that `logger` of the configuration names."""

import re
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from lightning.pytorch.loggers.logger import Logger
from omegaconf import DictConfig, OmegaConf

from unmask.errors import ConfigError
from unmask.tracking.logger import MLflowLogger
from unmask.training.nodes import build_node


def build_loggers(node: DictConfig | None, *, folder: Path) -> list[Logger]:
    """Build every logger; none of them writes anything yet.

    Args:
        node: `logger` of the configuration: one logger by its `_target_`, several by name, or nothing.
        folder: Run folder, for loggers whose `save_dir` is null.

    Raises:
        ConfigError: Not a Lightning logger, an unknown key, or a package that is not installed.
    """
    return [_build(entry, key, folder=folder) for key, entry in _list_nodes(node).items()]


def build_mlflow(node: DictConfig | None) -> MLflowLogger | None:
    """Build only our MLflow logger, and return None if it is not among the loggers.

    Args:
        node: `logger` of the configuration.
    """
    for key, entry in _list_nodes(node).items():
        if _is_mlflow(str(entry["_target_"])):
            built: MLflowLogger = _build(entry, key, folder=Path())
            return built
    return None


def find_mlflow(loggers: list[Logger]) -> MLflowLogger | None:
    """Return our MLflow logger, or None if it is not among the loggers."""
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
    try:
        found = get_object(target)
    except Exception:  # building the loggers explains why it cannot be found
        return False
    return isinstance(found, type) and issubclass(found, MLflowLogger)


def _build(node: DictConfig, key: str, *, folder: Path) -> Any:
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
