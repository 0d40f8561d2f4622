"""Range checks for numeric parameters."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from unmask.errors import ConfigError


@contextmanager
def as_config_error() -> Iterator[None]:
    """Turn the ValueError of a check into a `ConfigError`, for keys that no constructor checks."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_number(name: str, value: Any, *, least: float, most: float = math.inf) -> None:
    """Raise unless a value is a finite number in [least, most].

    Raises:
        ValueError: Names the parameter and its value.
    """
    if not _is_number(value) or not least <= value <= most:
        bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
        raise ValueError(f"{name}={value} must be a number {bounds}.")


def check_whole(name: str, value: Any, *, least: int, most: float = math.inf) -> None:
    """Raise unless a value is a whole number in [least, most].

    Raises:
        ValueError: Names the parameter and its value.
    """
    check_number(name, value, least=least, most=most)
    if value != int(value):
        raise ValueError(f"{name}={value} must be a whole number.")


def check_range(name: str, value: Any, *, least: float, most: float = math.inf, whole: bool = False) -> None:
    """Raise unless a value is a pair of numbers in [least, most], the lower one first.

    Args:
        name: Name of the parameter.
        value: Value to check.
        least: Lower bound, inclusive.
        most: Upper bound, inclusive.
        whole: Whether both numbers must be whole.

    Raises:
        ValueError: Names the parameter and its value.
    """
    is_pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not is_pair or not all(_is_number(end) and (not whole or end == int(end)) for end in value) or not (
        least <= value[0] <= value[1] <= most
    ):  # fmt: skip
        bounds = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
        shown = value if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"{name}={shown} must be two {kind} {bounds}, the lower one first.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
