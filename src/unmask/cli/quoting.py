"""Take paths and texts as typed in the shell: quoted for Hydra's grammar before Hydra reads the command line."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import parse as parse_interpolation

from unmask.composition import escape_interpolation
from unmask.config import COMMANDS, config_dir, list_typed_keys
from unmask.paths import expand_home, is_path_key

_ASSIGNMENT = re.compile(r"(\+{0,2}[A-Za-z_][\w.\-/@]*)=(.+)", re.DOTALL)
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|extend_list|str|int|float|bool|json_str)\(")
_PIECE = re.compile(r"""(\s*(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')\s*|[^,]*)(?:,|$)""", re.DOTALL)
_FOLDER_FLAGS = ("--config-dir", "-cd", "--config-path", "-cp")
_NO_TEXT = ("null", "???")


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
            quoted.append(f"{match[1]}={quote(match[2])}")
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


def _quote_list(value: str) -> str:
    if _exists(value) or not (value.startswith("[") and value.endswith("]")):
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
