"""Read a command line before Hydra does: tell paths, overrides and flags apart, and quote values for Hydra."""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import parse as parse_interpolation

from unmask.config import COMMANDS, config_dir, escape_interpolation, list_typed_keys
from unmask.paths import expand_home, is_path_key

_ASSIGNMENT = re.compile(r"(\+{0,2}[A-Za-z_][\w.\-/@]*)=(.+)", re.DOTALL)
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|extend_list|str|int|float|bool|json_str)\(")
_PIECE = re.compile(r"""(\s*(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')\s*|[^,]*)(?:,|$)""", re.DOTALL)
_FOLDER_FLAGS = ("--config-dir", "-cd", "--config-path", "-cp")
_NO_TEXT = ("null", "???")


_ONE_OR_SEVERAL = {"evaluate": ("checkpoint", "dataset.root")}
"""Keys, by root config, that take a path, or a list of paths in brackets."""


def quote_arguments(arguments: Sequence[str], *, config_name: str) -> list[str]:
    """Return a command line whose paths and texts Hydra reads as they stand.

    - What is in quotes of Hydra's already stays as it is; so does an interpolation `${...}`, unless such a path exists.
    - In a sweep (`-m`) a comma separates values, unless a path with that comma exists.
    - A key that takes a list has `[a,b]`, or one value alone.

    Args:
        arguments: Without the name of the program, and without plain paths.
        config_name: Root config, whose keys say what is text.
    """
    hints = dict(list_typed_keys(COMMANDS[config_name]))
    is_sweep = any(re.match(r"(-m|--multirun)$|sweep=(?!null$)|hydra\.mode=MULTIRUN$", text) for text in arguments)
    quoted: list[str] = []
    for argument in arguments:
        flag, equals, folder = argument.partition("=")
        match = _ASSIGNMENT.fullmatch(argument)
        if flag in _FOLDER_FLAGS and equals:
            quoted.append(f"{flag}={expand_home(folder)}")
        elif quoted and quoted[-1] in _FOLDER_FLAGS:
            quoted.append(expand_home(argument))
        elif match and (quote := _choose(match[1].lstrip("+"), hints, is_sweep=is_sweep)):
            takes_list = match[1].lstrip("+") in _ONE_OR_SEVERAL.get(config_name, ()) and _is_list(match[2])
            quoted.append(f"{match[1]}={_quote_list(match[2]) if takes_list else quote(match[2])}")
        else:
            quoted.append(argument)
    return quoted


def _choose(key: str, hints: dict[str, Any], *, is_sweep: bool) -> Callable[[str], str] | None:
    """Return what quotes the values of a key; None for a key whose values are Hydra's to read."""
    if (config_dir() / key).is_dir():
        return _quote_option
    if hints.get(key) == list[str]:
        return _quote_list
    if hints.get(key) in (str, str | None) or (hints.get(key, Any) is Any and is_path_key(key)):
        return _quote_several if is_sweep else _quote
    return None


def _quote(value: str) -> str:
    is_there = _exists(value)
    text = value if not is_there and _is_interpolation(value) else escape_interpolation(value)
    parsed = _parse(value)
    if value in _NO_TEXT or (isinstance(parsed, QuotedString) and not is_there) or value == text == parsed:
        return value
    return QuotedString(text, Quote.double).with_quotes()


def _quote_option(value: str) -> str:
    """Quote an option of a config group that reads as a number, such as `precision=16`: Hydra takes text alone."""
    return f'"{value}"' if isinstance(_parse(value), int | float) else value


def _quote_several(value: str) -> str:
    """Quote each value of a sweep; pieces between commas that together are a path which exists are one value."""
    if _FUNCTION.match(value) and _parse(value) is not None:
        return value
    pieces, values = _PIECE.findall(value.removesuffix(","))[:-1], []
    while pieces:
        joined = (count for count in range(len(pieces), 1, -1) if _exists(",".join(pieces[:count])))
        count = next(joined, 1)
        values.append(_quote(",".join(pieces[:count])))
        pieces = pieces[count:]
    return ",".join(values)


def _is_list(value: str) -> bool:
    return value.startswith("[") and value.endswith("]") and not _exists(value)


def _quote_list(value: str) -> str:
    if not _is_list(value):
        parsed = _parse(value)
        is_hydras = value in _NO_TEXT or not isinstance(parsed, str | QuotedString | None)
        return value if is_hydras and not _exists(value) else f"[{_quote(value)}]"
    inner = value[1:-1]
    return f"[{_quote_several(inner)}]" if inner.strip() else value


def _parse(value: str) -> Any:
    """Return what Hydra reads; None where it cannot."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")._value
    except HydraException:
        return None


def _is_interpolation(value: str) -> bool:
    if "${" not in value:
        return False
    try:
        parse_interpolation(value)
    except OmegaConfBaseException:
        return False
    return True


def _exists(value: str) -> bool:
    try:
        return Path(expand_home(value)).exists()
    except (OSError, ValueError):  # too long for a name, or with a null byte
        return False


# What Hydra's grammar takes for an override: key=value, +key=value, ++key=value, ~key, ~key=value.
_OVERRIDE = re.compile(r"(\+{0,2}|~)[A-Za-z_][\w.\-/@]*(:[\w.]*)?=|~[A-Za-z_][\w.\-/@]*$")


@dataclass(frozen=True)
class Arguments:
    """A command line taken apart.

    Args:
        paths: Files, folders and patterns, in order.
        overrides: The rest, for Hydra.
    """

    paths: tuple[str, ...]
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """What a command line asks Hydra to compose.

    Args:
        config_name: Root config: that of the command, or of `--config-name`.
        overrides: `key=value` and the like; no flag, and no value of a flag.
        config_dir: Folder of `--config-dir`, or None.
    """

    config_name: str
    overrides: tuple[str, ...]
    config_dir: Path | None = None

    @property
    def search_path(self) -> tuple[str, ...]:
        """Overrides by which Hydra finds the configs of `config_dir` too."""
        return () if self.config_dir is None else (f"hydra.searchpath=['file://{self.config_dir.absolute()}']",)


def read_call(arguments: Sequence[str], *, config_name: str) -> Call:
    """Read a command line as Hydra's own parser does.

    Args:
        arguments: Without the name of the program, and without paths.
        config_name: Root config of the command.
    """
    with accept_lazy_help():
        parser = get_args_parser()
    read, _ = parser.parse_known_args(put_flags_first(arguments))
    folder = None if read.config_dir is None else Path(expand_home(read.config_dir))
    return Call(read.config_name or config_name, tuple(read.overrides), folder)


@cache
def _list_flags() -> Mapping[str, argparse.Action]:
    """Return Hydra's flags by their names, short and long."""
    with accept_lazy_help():
        actions = get_args_parser()._actions
    return {name: action for action in actions for name in action.option_strings}


def _find_flag(argument: str) -> argparse.Action | None:
    """Return the flag that an argument is, abbreviated or not, with or without `=value`."""
    name, flags = argument.partition("=")[0], _list_flags()
    if name in flags:
        return flags[name]
    begun = {id(action): action for known, action in flags.items() if name[:2] == "--" and known.startswith(name)}
    return next(iter(begun.values())) if len(begun) == 1 and len(name) > 2 else None


def _takes_value(argument: str, following: str) -> bool:
    """Tell whether a flag takes the argument that follows it for its value."""
    flag = _find_flag(argument) if argument.startswith("-") and "=" not in argument else None
    if flag is None:
        return False
    return flag.nargs is None or (flag.nargs == "?" and following in (flag.choices or ()))


def split_arguments(arguments: Sequence[str]) -> Arguments:
    """Sort the arguments of a command into paths and overrides.

    A path is what exists, even as `a=b.jpg` or `-1.jpg`; else what looks neither like an override (`key=value`,
    `+key=value`, `~key`) nor like a flag (`--help`); and everything after `--`.

    Args:
        arguments: Without the name of the program.
    """
    paths: list[str] = []
    overrides: list[str] = []
    is_value = False
    for position, argument in enumerate(arguments):
        if is_value:
            overrides.append(argument)
            is_value = False
        elif argument == "--":
            paths += arguments[position + 1 :]
            break
        elif argument.startswith("-") and argument != "-" and (_is_flag(argument) or not _exists(argument)):
            overrides.append(argument)
            is_value = _takes_value(argument, next(iter(arguments[position + 1 :]), ""))
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
    is_value = False
    for position, argument in enumerate(arguments):
        (flags if is_value or argument.startswith("-") else others).append(argument)
        is_value = not is_value and _takes_value(argument, next(iter(arguments[position + 1 :]), ""))
    return flags + others


def _is_flag(argument: str) -> bool:
    return _find_flag(argument) is not None


@contextmanager
def accept_lazy_help() -> Iterator[None]:
    """Turn help that is not text into text where a parser takes it: that of Hydra 1.3, which Python 3.14 refuses.

    Python 3.14 looks into every help text as soon as it is added. Hydra gives an object that becomes text later, so
    that each of its commands ended there, before a single argument was read (hydra issue 3121).
    """
    parser: Any = argparse.ArgumentParser
    add = parser.add_argument

    def add_with_text(self: argparse.ArgumentParser, *names: str, **options: Any) -> argparse.Action:
        if "help" in options and not isinstance(options["help"], str | None):
            options["help"] = str(options["help"])
        action: argparse.Action = add(self, *names, **options)
        return action

    parser.add_argument = add_with_text
    try:
        yield
    finally:
        parser.add_argument = add
