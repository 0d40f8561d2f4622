"""Read a source: list its videos, refuse paths that lead out of it, and note what it does not read."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unmask.errors import SourceError, list_problems
from unmask.media.listing import list_folder
from unmask.sources.folders import DownloadedSource, Source, Unexpected, quote_some, refuse_links
from unmask.types import MediaKind, Video

_ROOTS = ("root", "media_root", "ffpp_root", "celebdf_root")
"""Attributes of sources that name a folder to read; a link or `../` may lead from one into another."""

_SHOWN = 8

logger = logging.getLogger(__name__)


def read_source(source: Source) -> list[Video]:
    """Return the videos of a source, after the checks that every downloaded dataset needs.

    Logs and notes the files below its root that it does not read.

    Args:
        source: Source to read; one that is not a `DownloadedSource` is not checked.

    Raises:
        SourceError: The source cannot be read, or a path leads out of it by `../` or by a symbolic link.
    """
    videos = source.list_videos()
    if isinstance(source, DownloadedSource):
        _check_paths(source, videos)
        _note_unread(source)
    return videos


def _check_paths(source: DownloadedSource, videos: Sequence[Video]) -> None:
    """Raise a SourceError for paths that lead out of the folders of the source without its leave."""
    given = [Path(str(root)) for name in _ROOTS if (root := getattr(source, name, None)) is not None]
    links = _Links([root.parent if root.is_file() else root for root in given])
    climbing: list[str] = []
    for path in _list_paths(videos):
        root = links.find_root(path)
        if root is None:
            continue
        if ".." in path and not os.path.normpath(path).startswith(os.path.normpath(root)):
            climbing.append(path)
        elif not source.follow_links:
            links.follow(path, root)
    if climbing and not getattr(source, "allow_outside", False):
        can_allow = "Allow it with source.allow_outside=true, or write" if hasattr(source, "allow_outside") else "Write"
        raise SourceError(
            f"{len(climbing)} paths lead out of '{links.roots[0]}' by '../':\n"
            f"{list_problems(map(repr, climbing))}\n{can_allow} paths below it."
        )
    if links.leading_out:
        raise refuse_links(source.root, [Path(link) for link in sorted(links.leading_out)])


def _list_paths(videos: Sequence[Video]) -> Iterator[str]:
    """Yield the path of each video, and those of its frames that are listed or are links."""
    for video in videos:
        path = str(video.path)
        yield path
        yield from map(str, video.frames)
        if video.kind is MediaKind.FRAMES and not video.frames and os.path.isdir(path):
            with os.scandir(path) as entries:
                yield from [entry.path for entry in entries if entry.is_symlink()]


class _Links:
    """Symbolic links on the way from a root to a file that lead out of all roots."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = [str(root) for root in roots]
        self.real = [os.path.realpath(root) for root in roots]
        self.leading_out: set[str] = set()
        self._seen: dict[str, bool] = {}

    def find_root(self, path: str) -> str | None:
        """Return the root that a path begins with, or None for a path elsewhere."""
        relative = next((root for root in self.roots if root == os.curdir and not os.path.isabs(path)), None)
        return next((root for root in self.roots if path.startswith(root.rstrip("/") + "/")), relative)

    def follow(self, path: str, root: str) -> bool:
        """Return whether a link on the way to a path leads out, and keep the link."""
        if path in (root, "") or len(path) <= len(root):
            return False
        known = self._seen.get(path)
        if known is None:
            known = self.follow(os.path.dirname(path), root)
            if not known and os.path.islink(path) and not self._is_inside(os.path.realpath(path)):
                self.leading_out.add(path)
                known = True
            self._seen[path] = known
        return known

    def _is_inside(self, real: str) -> bool:
        return any(real == root or real.startswith(root.rstrip("/") + "/") for root in self.real)


def _note_unread(source: DownloadedSource) -> None:
    """Log and note what lies below the root in folders that the source does not read."""
    if not source.__dict__.get("read") or not source.root.is_dir() or source.root in source.read:
        return
    listing = list_folder(source.root, follow_links=source.follow_links, skip=source.read)
    above = {source.root, *(parent for path in source.read for parent in path.parents)}
    counts: Counter[str] = Counter()
    for path in listing.files:
        top = path.parent
        while top not in above and top.parent not in above:
            top = top.parent
        counts[top.relative_to(source.root).as_posix()] += 1
    shown = counts.most_common(_SHOWN)
    rest = counts.total() - sum(count for _, count in shown)
    found = [Unexpected("", "in a folder that is not read", count, (folder,)) for folder, count in shown]
    found += [Unexpected("", "in further folders that are not read", rest)] if rest else []
    found += [Unexpected("", reason, count) for reason, count in listing.passed_over.items()]
    source.unexpected += found
    if counts:
        logger.info(
            "source=%s does not read %s files in other folders of '%s': %s.",
            source.name, f"{counts.total():,}", source.root,
            quote_some(f"{folder}/ ({count:,})" for folder, count in counts.most_common()),
        )  # fmt: skip
    passed_over = listing.describe_passed_over()
    if passed_over:
        level = logging.WARNING if listing.num_media_passed_over else logging.INFO
        logger.log(level, "Skipped in '%s': %s.", source.root, passed_over)


def read_entries(path: Path, *, example: str) -> dict[str, dict[str, Any]]:
    """Return the entries of a JSON object of objects, such as the metadata of DFDC.

    Args:
        path: JSON file.
        example: Example of its content, for error messages.

    Raises:
        SourceError: It is not such an object, or names an entry twice with different content.
    """
    problems: list[str] = []

    def unite(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        united: dict[str, Any] = {}
        for name, value in pairs:
            if united.setdefault(name, value) != value:
                problems.append(f"'{name}': {json.dumps(united[name])} and {json.dumps(value)}")
        return united

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unite)
        entries = {str(name): dict(entry) for name, entry in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise SourceError(f"'{path}' is not an object such as {example}: {error}. Download it again.") from error
    if problems:
        raise SourceError(
            f"{len(problems)} entries of '{path}' are there twice, with different content:\n{list_problems(problems)}\n"
            f"Keep the right one of each, or download the file again."
        )
    return entries
