"""Text that comes from users, such as names of files, made safe to show."""

import re

_SPECIAL = "\\`*_[]{}()$:~#<>|!&"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of writing, with which `gpj.exe` can look like `exe.jpg`."""

_ADDRESS = re.compile(r"(https?|www|@)(?=[:./\w])", flags=re.IGNORECASE)

_WORD_JOINER = "\u2060"  # takes no room


def printable(text: object) -> str:
    """Replace the characters of a text that are not shown but act."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def plain(text: object) -> str:
    """Return Markdown that shows a text as it is: without marks, pictures, formulas, emoji, HTML or links."""
    unlinked = _ADDRESS.sub(lambda found: found.group() + _WORD_JOINER, printable(text))
    return "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in unlinked)


def code(text: object) -> str:
    """Return Markdown that shows a text in one line in the type of code."""
    shown = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}"


def shorten(text: object, *, length: int = 48) -> str:
    """Cut the middle out of a long text, so that both its start and the suffix of a file stay."""
    shown = printable(text)
    head = (length - 1) // 2
    return shown if len(shown) <= length else f"{shown[:head]}…{shown[-(length - 1 - head) :]}"
