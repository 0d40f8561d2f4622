"""Choose the source that recognizes a folder."""

import logging
from pathlib import Path

from unmask.errors import SourceError
from unmask.forgeries import SourceRecord
from unmask.paths import show_command
from unmask.sources.folders import Source, Unexpected, check_root, describe_folder, name_part, record_source
from unmask.sources.reading import read_source
from unmask.sources.recognition import (
    AT_ANY_DEPTH,
    Recognition,
    build_source,
    list_levels,
    recognize_folder,
    refuse_layout,
)
from unmask.types import Video

logger = logging.getLogger(__name__)


class AutoSource:
    """Read a folder with the source that recognizes it, or that recognizes a folder up to two levels below.

    All keys but `follow_links` have the defaults of that source, whose name the face dataset records.

    Args:
        root: Folder, or table, of any source.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(self, root: str | Path, *, follow_links: bool = False) -> None:
        self.root = Path(root)
        self.follow_links = follow_links
        self.name = "auto"
        self.chosen: Source | None = None

    @property
    def records(self) -> tuple[SourceRecord, ...]:
        """Records of the chosen source."""
        return () if self.chosen is None else record_source(self.chosen)

    @property
    def unexpected(self) -> list[Unexpected]:
        """What the chosen source skipped."""
        return list(getattr(self.chosen, "unexpected", ()))

    @property
    def known_leaks(self) -> list[str]:
        """What the published splits of the chosen source share."""
        return list(getattr(self.chosen, "known_leaks", ()))

    def part_of(self, video: Video) -> str:
        """Return the part of the dataset that a video belongs to."""
        assert self.chosen is not None
        return name_part(self.chosen, video)

    def list_videos(self) -> list[Video]:
        """Return the videos of the source that recognizes the folder.

        Raises:
            SourceError: No source recognizes it, or several do; or the source cannot read it.
        """
        if not self.root.is_file():
            check_root(self.root)
        found = choose_source(self.root)
        logger.info("source=auto: reading '%s' as source=%s (%s).", found.root, found.source, found.reason)
        self.chosen = build_source(found, follow_links=self.follow_links)
        self.name = self.chosen.name
        return read_source(self.chosen)


def choose_source(root: Path) -> Recognition:
    """Return the one source that recognizes a folder, or a folder up to two levels below it.

    Raises:
        SourceError: None does, or several do; names the command for each.
    """
    *below, _ = list_levels(root)
    for level in below:
        found = [one for folder in level for one in recognize_folder(folder)]
        if found and {one.source for one in found} == {AT_ANY_DEPTH}:
            return Recognition(AT_ANY_DEPTH, root, _name_below(found[0], root))
        if len(found) == 1:
            return found[0]
        if found:
            raise _refuse_several(root, found)
    if root.is_file():
        raise SourceError(
            f"source.root='{root}' is a file that no source recognizes. Name a folder, or a table with columns for "
            f"path and label (source=csv)."
        )
    raise refuse_layout(
        root, source="auto", layout="any source", looked_for="the names that a source recognizes, here and two levels "
        "below", advice="Name the source yourself, such as source=image_folder with source.real=[...] and "
        "source.fake=[...]; docs/datasets.md shows the layout of each.",
    )  # fmt: skip


def _name_below(found: Recognition, root: Path) -> str:
    """Return the reason of a recognition, with its folder if that is below the root."""
    return found.reason if found.root == root else f"{found.reason} in '{found.root.relative_to(root)}'"


def _refuse_several(root: Path, found: list[Recognition]) -> SourceError:
    commands = "\n".join(
        "  " + show_command("prepare.py", f"source={one.source}", f"source.root={one.root}", "output=...")
        + f"  # recognized by {one.reason}"
        for one in found
    )  # fmt: skip
    return SourceError(
        f"source.root='{root}' fits {len(found)} sources, so source=auto cannot choose; found there: "
        f"{describe_folder(root)}. Choose one:\n{commands}"
    )
