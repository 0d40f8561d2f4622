"""Tell the files on a command line from the overrides, before Hydra sees either."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.paths import expand_home

# What Hydra's grammar takes for an override: key=value, +key=value, ++key=value, ~key, ~key=value.
_OVERRIDE = re.compile(r"(\+{0,2}|~)[A-Za-z_][\w.\-/@]*(:[\w.]*)?=|~[A-Za-z_][\w.\-/@]*$")
# Hydra's flags whose value is the next argument.
_VALUED = frozenset(
    {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
    | {"--experimental-rerun"}
)
_FLAGS = _VALUED | {
    "--help", "-h", "--hydra-help", "--version", "--multirun", "-m", "--run", "-r", "--resolve", "--info", "-i",
    "--shell-completion", "-sc",
}  # fmt: skip
_INFO_TOPICS = frozenset({"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"})


@dataclass(frozen=True)
class Arguments:
    """A command line taken apart.

    Args:
        paths: Files, folders and patterns, in order.
        overrides: The rest, for Hydra.
    """

    paths: tuple[str, ...]
    overrides: tuple[str, ...]


def split_arguments(arguments: Sequence[str]) -> Arguments:
    """Sort the arguments of a command into paths and overrides.

    A path is what exists, even as `a=b.jpg` or `-1.jpg`; else what looks neither like an override (`key=value`,
    `+key=value`, `~key`) nor like a flag (`--help`); and everything after `--`.

    Args:
        arguments: Without the name of the program.
    """
    paths: list[str] = []
    overrides: list[str] = []
    expects_value = False
    for position, argument in enumerate(arguments):
        previous = arguments[position - 1] if position else ""
        if expects_value or (previous in ("--info", "-i") and argument in _INFO_TOPICS):
            overrides.append(argument)
            expects_value = False
        elif argument == "--":
            paths += arguments[position + 1 :]
            break
        elif argument.startswith("-") and argument != "-" and (_is_flag(argument) or not _exists(argument)):
            overrides.append(argument)
            expects_value = argument in _VALUED
        elif _exists(argument) or not _OVERRIDE.match(argument):
            paths.append(argument)
        else:
            overrides.append(argument)
    return Arguments(tuple(paths), tuple(overrides))


def put_flags_first(arguments: Sequence[str]) -> list[str]:
    """Return a command line with its flags in front: Python's parser takes no override behind a flag in the middle.

    Args:
        arguments: Without the name of the program, and without paths.
    """
    flags: list[str] = []
    others: list[str] = []
    expects_value = False
    for argument in arguments:
        is_flag = argument.startswith("-") or expects_value
        (flags if is_flag else others).append(argument)
        expects_value = argument in _VALUED
    return flags + others


def _is_flag(argument: str) -> bool:
    return argument.partition("=")[0] in _FLAGS


def _exists(argument: str) -> bool:
    try:
        return Path(expand_home(argument)).exists()
    except (OSError, ValueError):  # too long for a name, or with a null byte: no path at any rate
        return False
