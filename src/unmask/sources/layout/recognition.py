"""Tell which sources read a folder, so that a refusal can name the way on."""

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from unmask.config import find_targets
from unmask.media.listing import is_passed_over

_MAX_FOLDERS = 60
"""Folders below and above the root that are looked at: a wrong root lies one or two folders off."""


@dataclass(frozen=True)
class Recognition:
    """A source that reads a folder.

    Args:
        source: Its name on the command line.
        root: The folder.
        reason: What was recognized there, such as `'Celeb-real/' and 'Celeb-synthesis/'`.
    """

    source: str
    root: Path
    reason: str


@runtime_checkable
class RecognizingSource(Protocol):
    """A source that can tell its layout from the names in a folder."""

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Return what in the folder shows that this source reads it, or None where it does not."""
        ...


def recognize_folder(root: Path) -> list[Recognition]:
    """Return the sources that read a folder as it is, by the name of their config."""
    found = []
    for name, target in find_targets("source").items():
        module, _, attribute = target.rpartition(".")
        source = getattr(importlib.import_module(module), attribute)
        reason = source.recognize(root) if isinstance(source, RecognizingSource) else None
        if reason is not None:
            found.append(Recognition(name, root, reason))
    return found


def suggest_source(root: Path, *, refused_by: str) -> str:
    """Return a sentence that names the sources which read a folder, or one just below or above it; "" for none.

    Args:
        root: A folder that a source has refused.
        refused_by: Name of that source; it may still read another folder.
    """
    for folder in _list_places(root):
        found = [
            one for one in recognize_folder(folder)
            if (one.source, folder) != (refused_by, root) and _is_about(one, root)
        ]  # fmt: skip
        if found:
            ways = " or ".join(f"source={one.source} source.root='{one.root}' ({one.reason})" for one in found)
            return f"Another layout is recognized: use {ways}."
    return ""


def _is_about(found: Recognition, root: Path) -> bool:
    """Tell whether what was recognized in a folder above the root leads to the root, and is not beside it."""
    own, other = Path(os.path.abspath(root)), Path(os.path.abspath(found.root))
    return not own.is_relative_to(other) or own == other or f"'{own.relative_to(other).parts[0]}/" in found.reason


def _list_places(root: Path) -> Iterator[Path]:
    """Yield the folder, those at most two levels below it, and the two above it."""
    level, num_left = [root], _MAX_FOLDERS
    for _ in range(3):
        yield from level
        level = [child for folder in level for child in _list_children(folder)][:num_left]
        num_left -= len(level)
    yield from list(Path(os.path.abspath(root)).parents)[:2]


def _list_children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not is_passed_over(path.name))
    except OSError:
        return []
