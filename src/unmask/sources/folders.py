"""What a source is, and how it lists folders and notes what it skips."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.forgeries import Forgeries, SourceRecord
from unmask.media.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from unmask.media.listing import Listing, holds_frames, is_passed_over, list_folder, list_visible
from unmask.types import MediaKind, Video

logger = logging.getLogger(__name__)


class Source(Protocol):
    """A raw dataset in its authors' layout.

    Constructors only store and check their arguments; `list_videos` reads the folder.

    A source may have a property `forgeries` (`unmask.forgeries.Forgeries`) that states who made its fakes, or a
    property `records` (a tuple of `SourceRecord`) that lists the sources it combines. Without either, the origin of
    its fakes is recorded as unknown in every model trained on it.

    Attributes that `list_videos` may fill for `task=check`: `unexpected`, a list of `Unexpected`, states what it
    skipped; `known_leaks`, a list of sentences, names what its published splits share. A method `part_of(video)`
    returns the part of the dataset that a video belongs to, where that is not its method and compression.
    """

    name: str

    def list_videos(self) -> list[Video]:
        """Return every video that the source lists, including those whose file is missing.

        Raises:
            SourceError: The folder is missing or has a different layout; names what was expected and found.
        """
        ...


@runtime_checkable
class CreatedSource(Source, Protocol):
    """A source that creates its files before it lists them."""

    def create(self, *, num_workers: int) -> None:
        """Write the files that do not exist yet.

        Args:
            num_workers: Number of worker processes; 0 runs in this process.
        """
        ...


@dataclass(frozen=True)
class Unexpected:
    """Entries of a dataset that its source skips.

    Args:
        part: Part of the dataset, as `name_part` returns it; "" if the entries belong to none.
        reason: Why the source skips them, such as `not in the split lists`.
        count: Number of entries.
        examples: First names.
    """

    part: str
    reason: str
    count: int
    examples: tuple[str, ...] = ()


def note_unexpected(source: "DownloadedSource", part: str, reason: str, names: Sequence[str]) -> None:
    """Add skipped entries to the `unexpected` of a source, unless there are none."""
    if names:
        source.unexpected.append(Unexpected(part, reason, len(names), tuple(names[:8])))


def name_part(source: Source, video: Video) -> str:
    """Return the part of the dataset that a video belongs to: that of the source, or its method and compression."""
    part_of: Callable[[Video], str] | None = getattr(source, "part_of", None)
    return part_of(video) if part_of else f"{video.method} {video.compression}".strip()


def record_source(source: Source) -> tuple[SourceRecord, ...]:
    """Return the records of a source, or of the sources it combines; call `list_videos` first.

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
        raise SourceError(f"No such folder: source.root='{root}'. Set it to the folder that contains the dataset.")
    if not root.is_dir():
        raise SourceError(f"source.root='{root}' is a file. Set it to the folder that contains the dataset.")


def list_root(root: Path, *, source: "DownloadedSource") -> Listing:
    """List the media below the root of a source, without what it has read; log and note skipped entries.

    Args:
        root: Root folder of the source.
        source: Source whose `unexpected` gets what is skipped.

    Raises:
        SourceError: A link points outside of the root, and the source does not follow such links.
    """
    listing = list_folder(root, follow_links=source.follow_links, skip=source.read)
    source.read.add(root)
    if listing.links_out:
        raise refuse_links(root, listing.links_out)
    passed_over = listing.describe_passed_over()
    if passed_over:
        level = logging.WARNING if listing.num_media_passed_over else logging.INFO
        logger.log(level, "Skipped in '%s': %s.", root, passed_over)
    source.unexpected += [Unexpected("", reason, count) for reason, count in listing.passed_over.items()]
    return listing


def refuse_links(root: Path, links: Sequence[Path]) -> SourceError:
    """Return the error for symbolic links that point outside of the root."""
    rows = (f"'{link}' -> '{link.readlink()}'" for link in links)
    return SourceError(
        f"{len(links)} links in '{root}' point outside of it:\n{list_problems(rows)}\n"
        f"Follow them with source.follow_links=true, or remove them."
    )


def list_entries(folder: Path, *, skipped: list[str] | None = None) -> list[Path]:
    """Return the sorted entries of a folder, empty if it does not exist, and log skipped entries.

    Args:
        folder: Folder to list.
        skipped: List to which the names of skipped entries are added.
    """
    if not folder.is_dir():
        return []
    entries = list(folder.iterdir())
    passed_over = sorted(path.name for path in entries if is_passed_over(path.name))
    if passed_over:
        logger.warning(
            "Skipped %d hidden entries or unfinished downloads in '%s': %s.",
            len(passed_over), folder, quote_some(passed_over),
        )  # fmt: skip
    if skipped is not None:
        skipped += passed_over
    names = set(passed_over)
    return sorted((path for path in entries if path.name not in names), key=lambda path: path.name)


def list_clips(folder: Path, source: "DownloadedSource", part: str = "") -> list[Path]:
    """Return the sorted videos and folders of frames directly in a folder; log and note everything else in it.

    They may be one level deeper, in `videos/`, `images/` or `frames/`, as DeepfakeBench lays them out.

    Args:
        folder: Folder to list.
        source: Source whose `unexpected` gets what is skipped.
        part: Part of the dataset that the folder belongs to.
    """
    folder = descend(folder, source.media)
    log_choice_of_media(folder)
    source.read.add(folder)
    passed_over: list[str] = []
    entries = list_entries(folder, skipped=passed_over)
    clips = [path for path in entries if path.suffix.lower() in VIDEO_SUFFIXES or holds_frames(path)]
    taken = set(clips)
    others = [path.name for path in entries if path not in taken]
    if others:
        logger.warning("Skipped in '%s': %s.", folder, quote_some(others))
    note_unexpected(source, part, "of another kind", others)
    note_unexpected(source, part, "hidden or unfinished", passed_over)
    return clips


MEDIA = ("videos", "images", "frames")
"""Folders that contain videos, or frames extracted from them."""


def check_media(media: str | None) -> None:
    """Raise a ConfigError unless `media` is one of `MEDIA`, or None."""
    if media not in (None, *MEDIA):
        raise ConfigError(f"source.media='{media}' is unknown. Choose {', '.join(MEDIA)} or null.")


def descend(folder: Path, media: str | None = None) -> Path:
    """Return the first of the folders `MEDIA` inside a folder if there is one, otherwise the folder itself.

    Args:
        folder: Folder of clips, or of folders of clips.
        media: The one of `MEDIA` to choose; None for the first that exists.
    """
    there = [name for name in MEDIA if (folder / name).is_dir()]
    return folder / (media or there[0]) if there else folder


def log_choice_of_media(folder: Path) -> None:
    """Log which folder of clips is read if it is one of several of `MEDIA` that lie side by side."""
    others = [name for name in MEDIA if folder.name in MEDIA and name != folder.name]
    there = [f"{name}/" for name in others if (folder.parent / name).is_dir()]
    if there and folder.is_dir():
        logger.info(
            "Reading '%s/' in '%s', not %s beside it. source.media=... chooses.", folder.name, folder.parent,
            quote_some(there),
        )  # fmt: skip


def list_visible_names(folder: Path) -> list[str]:
    """Return the sorted names in a folder, without hidden entries and unfinished downloads, and without logging."""
    return [path.name for path in list_visible(folder)] if folder.is_dir() else []


def warn_of_absent(root: Path, absent: Iterable[str]) -> None:
    """Log the parts of a dataset whose folders do not exist, as in a half-finished download."""
    names = quote_some(absent)
    if names:
        logger.warning("Missing in '%s': %s.", root, names)


def keep_first(videos: Iterable[Video], source: "DownloadedSource", *, what: str) -> list[Video]:
    """Return the videos without those whose `video_id` is already taken; log these as `what`, and note them."""
    by_id: dict[str, Video] = {}
    copies = [video.path.name for video in videos if by_id.setdefault(video.video_id, video) is not video]
    if copies:
        logger.warning("Skipped %d %s that are there twice: %s.", len(copies), what, quote_some(copies))
    note_unexpected(source, "", "second copy", copies)
    return list(by_id.values())


def describe_folder(folder: Path, *, limit: int = 8) -> str:
    """List the first names in a folder, such as `'a/', 'b.mp4'`, or state that it is empty or missing."""
    if not folder.is_dir():
        return "nothing, it does not exist"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return quote_some(names, limit=limit) or "nothing, it is empty"


def quote_some(names: Iterable[str], *, limit: int = 8) -> str:
    """Join the first names in quotes, followed by the number of the others."""
    known = list(names)
    shown = ", ".join(f"'{name}'" for name in known[:limit])
    return f"{shown} and {len(known) - limit:,} more" if len(known) > limit else shown


def kind_of(path: Path) -> MediaKind:
    """Return the kind of a medium: a folder holds frames, a file is an image or a video by its extension."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return MediaKind.IMAGE
    return MediaKind.FRAMES if path.is_dir() else MediaKind.VIDEO


def list_folders(folder: Path) -> list[Path]:
    """Return the sorted subfolders of a folder, except hidden and system folders."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # which knows folders without asking for each entry
        return sorted(folder / entry.name for entry in entries if entry.is_dir() and not is_passed_over(entry.name))


def find_forgeries(root: Path) -> Forgeries:
    """Return who made the fakes in a folder: Unmask if the folder or a parent has its marker file, otherwise others.

    The name of the source is not enough, because a folder written by Unmask can be read by any source of that layout.

    Args:
        root: Root folder of the source.
    """
    for folder in (root.absolute(), *root.absolute().parents):
        if (folder / "synthetic.json").is_file():
            return Forgeries.DRAWN
        if (folder / "forge.json").is_file():
            return Forgeries.DRAWN if _is_of_drawn(folder / "forge.json") else Forgeries.SELF_MADE
    return Forgeries.EXTERNAL


class DownloadedSource:
    """Base of the sources that read a folder as its authors published it."""

    name: str
    root: Path
    media: str | None = None
    follow_links = False
    unexpected: list[Unexpected]
    known_leaks: list[str]
    read: set[Path]
    """Folders and tables of which the source accounts for every entry: taken, or noted as unexpected."""

    def _start_listing(self) -> None:
        """Check the root, and forget what an earlier call has skipped."""
        check_root(self.root)
        self.unexpected, self.known_leaks, self.read = [], [], set()

    @property
    def forgeries(self) -> Forgeries:
        """Who made the fakes: others, unless Unmask wrote the folder."""
        return find_forgeries(self.root)


def _is_of_drawn(record: Path) -> bool:
    """Return whether a `forge.json` says that the forged faces were drawn; False if it is unreadable."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("forgeries") == Forgeries.DRAWN
