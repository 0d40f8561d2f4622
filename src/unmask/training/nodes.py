"""Build what a node of the configuration describes, and say which of its keys is wrong where that fails."""

import re
import warnings
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from unmask.errors import ConfigError, UnmaskError

_UNKNOWN_ARGUMENT = r"Argument\(s\) .* are not valid for transform"
"""What Albumentations warns of and then ignores."""


def build_node(node: DictConfig, **options: Any) -> Any:
    """Build the object of a node, as `hydra.utils.instantiate` does.

    Args:
        node: With a `_target_`.
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


def build_optimizer(node: DictConfig) -> Any:
    """Return what makes an optimizer of parameters, less our own key `head_lr_ratio`, which makes groups of them.

    Args:
        node: `optimizer` of the configuration.
    """
    return build_node(OmegaConf.masked_copy(node, [str(key) for key in node if key != "head_lr_ratio"]))


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
