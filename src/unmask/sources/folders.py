"""What sources share: their protocol, listing folders, recognizing a layout, and refusing what does not fit."""

import importlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from unmask.config import find_targets
from unmask.errors import SourceError, list_problems
from unmask.forgeries import Forgeries, SourceRecord
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.media.listing import Listing, is_passed_over, list_folder, list_visible
from unmask.types import MediaKind, Video

logger = logging.getLogger(__name__)


class Source(Protocol):
    """A raw dataset in its authors' layout.

    Constructors store and check their arguments; `list_videos` reads the folder.

    A source may have a property `forgeries`, of type `unmask.forgeries.Forgeries`, that tells who made its fakes, or a
    property `records`, of `SourceRecord`, that names the sources it mixes. Without either the origin of its fakes is
    unknown, and every model trained on it says so.
    """

    name: str

    def list_videos(self) -> list[Video]:
        """Return every video that the source lists, including those whose file is missing.

        Raises:
            SourceError: The folder is missing or in another layout; names what was expected and what was found.
        """
        ...


@runtime_checkable
class CreatedSource(Source, Protocol):
    """A source that makes its files before it lists them."""

    def create(self, *, num_workers: int) -> None:
        """Write the files that do not exist yet.

        Args:
            num_workers: Number of processes; 0 works in this one.
        """
        ...


def record_source(source: Source) -> tuple[SourceRecord, ...]:
    """Return the records of a source, or of the sources it mixes; call it after `list_videos`.

    Raises:
        SourceError: Its `forgeries` is not one of `Forgeries`.
    """
    records = tuple(getattr(source, "records", ()))
    if records:
        return records
    given = getattr(source, "forgeries", Forgeries.UNKNOWN)
    if given not in tuple(Forgeries):
        raise SourceError(
            f"Unknown value '{given}' in the property `forgeries` of source '{source.name}' ({type(source).__name__}). "
            f"Choose one of: {', '.join(Forgeries)}."
        )
    return (SourceRecord(source.name, Forgeries(given)),)


def check_root(root: Path) -> None:
    """Raise a SourceError unless the root of a source is a folder."""
    if not root.exists():
        raise SourceError(f"No such folder: source.root='{root}'. Name the folder that holds the dataset.")
    if not root.is_dir():
        raise SourceError(f"source.root='{root}' is a file. Name the folder that holds the dataset.")


def list_root(root: Path, *, follow_links: bool = True) -> Listing:
    """List the media below the root of a source, and log what is skipped.

    Args:
        root: The folder.
        follow_links: Whether to follow links that lead out of it; otherwise they raise an error.

    Raises:
        SourceError: There is such a link, and `follow_links` is false.
    """
    listing = list_folder(root, follow_links=follow_links)
    if listing.links_out:
        rows = (f"'{link}' -> '{link.readlink()}'" for link in listing.links_out)
        raise SourceError(
            f"{len(listing.links_out)} links in '{root}' lead out of it:\n{list_problems(rows)}\n"
            f"Follow them with source.follow_links=true, or remove them."
        )
    passed_over = listing.describe_passed_over()
    if passed_over:
        level = logging.WARNING if listing.num_media_passed_over else logging.INFO
        logger.log(level, "Skipped in '%s': %s.", root, passed_over)
    return listing


def list_entries(folder: Path) -> list[Path]:
    """Return the sorted entries of a folder, and log what is skipped; nothing if the folder does not exist."""
    if not folder.is_dir():
        return []
    passed_over = [path.name for path in folder.iterdir() if is_passed_over(path.name)]
    if passed_over:
        logger.warning(
            "Skipped %d hidden entries or unfinished downloads in '%s': %s.",
            len(passed_over), folder, quote_some(sorted(passed_over)),
        )  # fmt: skip
    return list_visible(folder)


def describe_folder(folder: Path, *, limit: int = 8) -> str:
    """List the first names in a folder, such as `'a/', 'b.mp4'`, or say that it is empty or missing."""
    if not folder.is_dir():
        return "nothing, it does not exist"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return quote_some(names, limit=limit) or "nothing, it is empty"


def quote_some(names: Iterable[str], *, limit: int = 8) -> str:
    """Join the first names in quotes, and say how many more there are."""
    known = list(names)
    shown = ", ".join(f"'{name}'" for name in known[:limit])
    return f"{shown} and {len(known) - limit:,} more" if len(known) > limit else shown


def refuse_layout(root: Path, *, source: str, layout: str, looked_for: str, advice: str = "") -> SourceError:
    """Return the error for a folder in another layout: what was expected, what is there, and which source reads it.

    Args:
        root: `source.root`.
        source: Name of the source on the command line.
        layout: Expected layout, such as `Celeb-DF`.
        looked_for: Files or folders that are missing.
        advice: Fix to suggest if no other source reads the folder.
    """
    suggestion = suggest_source(root, refused_by=source)
    return SourceError(
        f"'{root}' is not laid out as {layout}: looked for {looked_for}; found in it: {describe_folder(root)}. "
        f"{suggestion or advice or 'Set source.root to the folder that holds them.'}"
    )


def kind_of(path: Path) -> MediaKind:
    """Tell the kind of a medium by its suffix, or by its being a folder."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return MediaKind.IMAGE
    return MediaKind.FRAMES if path.is_dir() else MediaKind.VIDEO


def list_folders(folder: Path) -> list[Path]:
    """Return the sorted folders in a folder, without hidden ones and those of operating systems."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_passed_over(path.name))


def find_forgeries(root: Path) -> Forgeries:
    """Tell who made the fakes in a folder: Unmask if its mark is there or above, otherwise others.

    The mark decides, not the name of the source: a folder that Unmask wrote can be read as any dataset of its layout.

    Args:
        root: Of the source.
    """
    for folder in (root.absolute(), *root.absolute().parents):
        if (folder / "synthetic.json").is_file():
            return Forgeries.DRAWN
        if (folder / "forge.json").is_file():
            return Forgeries.DRAWN if _is_of_drawn(folder / "forge.json") else Forgeries.SELF_MADE
    return Forgeries.EXTERNAL


def _is_of_drawn(record: Path) -> bool:
    """Tell whether the forged faces had been drawn; an unreadable record counts as no."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("forgeries") == Forgeries.DRAWN


_MAX_FOLDERS = 60
"""Folders to examine below and above the root: a wrong root is usually one or two folders off."""


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
