"""Turn what a user named into media files: files, folders, patterns."""

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.media.listing import is_passed_over, list_folder
from unmask.paths import expand_home

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """One file to predict, or what a user named in vain.

    Args:
        path: As named, or as found.
        error: Why there is nothing to predict.
    """

    path: Path
    error: str | None = None


def expand_inputs(names: Sequence[str | Path]) -> list[Input]:
    """List the media behind files, folders (searched to the bottom) and patterns such as `clips/*.mp4`.

    A file is taken whatever its suffix; below a folder, pictures and videos are told by suffix, what is hidden is
    passed over (a log line counts it), and links are followed. A name that is a path is never read as a pattern. What
    leads nowhere becomes a row with an error. No file comes twice, however it is spelled (`a.jpg`, `./a.jpg`, through
    a link): the first spelling is kept.
    """
    found: dict[str, Input] = {}
    for name in names:
        for entry in _expand(str(name)):
            found.setdefault(_identify(entry), entry)
    return list(found.values())


def _identify(entry: Input) -> str:
    """Return the same for all spellings of a file; what is none may be spelled in ways that no disk knows."""
    return os.path.realpath(entry.path) if entry.error is None else str(entry.path)


def _expand(name: str) -> list[Input]:
    name = expand_home(name)
    path = Path(name)
    if path.is_dir():
        return _list_folder(path)
    if path.exists() or not glob.has_magic(name):
        return [Input(path, error=None if path.exists() else f"No such file or folder: '{name}'. Check the path.")]
    found = sorted(match for match in glob.glob(name, recursive=True) if not _leads_aside(Path(match), Path(name)))
    matches = [entry for match in found for entry in _expand_match(Path(match))]
    return matches or [Input(path, error=f"Nothing matches the pattern '{name}'. Check it, or quote it for the shell.")]


def _leads_aside(match: Path, pattern: Path) -> bool:
    """Tell whether a match lies in a folder such as `__MACOSX`, which the pattern does not name itself."""
    return any(is_passed_over(part) and part not in pattern.parts for part in match.parent.parts)


def _expand_match(path: Path) -> list[Input]:
    return _list_folder(path) if path.is_dir() else [Input(path)]


def _list_folder(path: Path) -> list[Input]:
    listing = list_folder(path)
    passed_over = listing.describe_passed_over()
    if not listing.files:
        told = f" Passed over: {passed_over}." if passed_over else ""
        return [Input(path, error=f"The folder '{path}' holds no pictures or videos.{told}")]
    if listing.num_media_passed_over:
        logger.warning("Passed over in '%s': %s.", path, passed_over)
    return [Input(file) for file in listing.files]
