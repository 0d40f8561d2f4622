"""Find the sources that recognize a folder, and the error for a layout that a source does not have."""

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from omegaconf import OmegaConf

from unmask.config import config_dir, find_targets
from unmask.errors import SourceError
from unmask.sources.folders import Source, describe_folder, list_folders

AT_ANY_DEPTH = "image_folder"
"""Source that reads labels at any depth, so that a folder above those it recognizes is a root of it too."""

_MAX_FOLDERS = 60
"""Maximum number of folders below the root to examine; a wrong root is usually one or two levels off."""


@dataclass(frozen=True)
class Recognition:
    """A source that can read a folder.

    Args:
        source: Name of the source on the command line.
        root: Folder to set as `source.root`.
        reason: Recognized names, such as `'Celeb-real/' and 'Celeb-synthesis/'`.
    """

    source: str
    root: Path
    reason: str


@runtime_checkable
class RecognizingSource(Protocol):
    """A source that recognizes its layout by the names in a folder."""

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Return the names by which this source recognizes the folder, or None if it does not."""
        ...


def recognize_folder(root: Path) -> list[Recognition]:
    """Return the sources that recognize a folder; a class that has several names counts once, under the first.

    A source with a true class attribute `is_generic`, which reads any folder of its kind, counts only if no other does.
    """
    found: list[Recognition] = []
    generic: list[Recognition] = []
    names = {target: name for name, target in reversed(find_targets("source").items())}
    for target, name in reversed(names.items()):
        source = _import_target(target)
        reason = source.recognize(root) if isinstance(source, RecognizingSource) else None
        if reason is not None:
            (generic if getattr(source, "is_generic", False) else found).append(Recognition(name, root, reason))
    return found or generic


def build_source(found: Recognition, *, follow_links: bool = False) -> Source:
    """Build a recognized source as its config does: its root, and the default of every key that is not given here.

    Args:
        found: Recognized source.
        follow_links: Its key `follow_links`, if it has one.
    """
    node = OmegaConf.to_container(OmegaConf.load(config_dir() / "source" / f"{found.source}.yaml"), resolve=False)
    assert isinstance(node, dict)
    options = {str(key): value for key, value in node.items() if not str(value).startswith("${")}
    options |= {"follow_links": follow_links} if "follow_links" in options else {}
    source: Source = _import_target(str(options.pop("_target_")))(**options | {"root": found.root})
    return source


def _import_target(target: str) -> Any:
    module, _, attribute = target.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def suggest_source(root: Path, *, refused_by: str) -> str:
    """Return a sentence that suggests sources for a folder, or for folders just below or above it; "" if none.

    Args:
        root: Folder that a source has refused.
        refused_by: Name of that source, which may still be suggested for another folder.
    """
    for folder in (place for level in list_levels(root) for place in level):
        found = [
            one for one in recognize_folder(folder)
            if (one.source, folder) != (refused_by, root) and _is_about(one, root, refused_by)
        ]  # fmt: skip
        if found:
            ways = " or ".join(f"source={one.source} source.root='{one.root}' ({one.reason})" for one in found)
            return f"Recognized another layout: use {ways}."
    return ""


def _is_about(found: Recognition, root: Path, refused_by: str) -> bool:
    """Return whether what is recognized in a folder above the root concerns the root, not a sibling.

    That is so if its names lead to the root, or if it is the source that the user means; not if that is `AT_ANY_DEPTH`,
    which recognizes any two folders.
    """
    own, other = Path(os.path.abspath(root)), Path(os.path.abspath(found.root))
    if not own.is_relative_to(other) or own == other or (found.source == refused_by != AT_ANY_DEPTH):
        return True
    return f"'{own.relative_to(other).parts[0]}/" in found.reason


def list_levels(root: Path) -> Iterator[list[Path]]:
    """Yield the folder alone, its subfolders, theirs, and the two folders above it."""
    level, num_left = [root], _MAX_FOLDERS
    for _ in range(3):
        yield level
        level = [child for folder in level for child in _list_children(folder)][:num_left]
        num_left -= len(level)
    yield list(Path(os.path.abspath(root)).parents)[:2]


def list_nearby(root: Path) -> list[Path]:
    """Return where a companion of a dataset may lie: the root, up to two levels below it, above it, and beside it."""
    *below, _ = list_levels(root)
    parent = root.absolute().parent
    return [*(folder for level in below for folder in level), parent, *_list_children(parent)]


def _list_children(folder: Path) -> list[Path]:
    try:
        return list_folders(folder)
    except OSError:
        return []


def refuse_layout(root: Path, *, source: str, layout: str, looked_for: str, advice: str = "") -> SourceError:
    """Return the error for an unexpected layout: what was expected, what was found, and which source can read it.

    Args:
        root: Value of `source.root`.
        source: Name of the source on the command line.
        layout: Expected layout, such as `Celeb-DF`.
        looked_for: Files or folders that are missing.
        advice: Fix to suggest if no other source can read the folder.
    """
    suggestion = suggest_source(root, refused_by=source)
    return SourceError(
        f"'{root}' does not have the layout of {layout}: looked for {looked_for}; found: {describe_folder(root)}. "
        f"{suggestion or advice or 'Set source.root to the folder that contains them.'}"
    )
