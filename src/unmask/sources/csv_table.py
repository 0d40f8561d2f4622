"""CSV and TSV tables that list media with their labels."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from unmask.errors import SourceError, list_problems
from unmask.sources.folders import (
    DownloadedSource,
    describe_folder,
    kind_of,
    list_folders,
    note_unexpected,
    quote_some,
)
from unmask.sources.labels import SPLIT_NAMES, Words, check_frames_of, find_frame_folders, read_split
from unmask.sources.recognition import suggest_source
from unmask.sources.table import SUFFIXES, Row, find_columns, read_header, read_labels, read_table
from unmask.types import ORIGINAL, Label, MediaKind, Video

_SAMPLE = 50
"""Approximate number of rows sampled to find the folder that paths are relative to."""

_MAX_FOLDERS = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    """A parsed row.

    Args:
        where: Table and line, for error messages.
        split: Split of the table or row, or None.
        row: Values of the row.
        label: Label of the medium.
        path: File or folder of the medium.
    """

    where: str
    split: str | None
    row: Row
    label: Label
    path: Path


class CsvTable(DownloadedSource):
    """Read `path,label[,video,identity,method,split]`: one table, or train, val and test tables in a folder.

    A path is an image, a video or a folder of frames. Image rows with the same `video` are its frames. Logs how labels
    were interpreted, and raises an error if they contradict the folder names in most paths.

    Args:
        root: A table, or a folder with one table or one per split.
        name: First part of every `video_id`.
        media_root: Folder that paths are relative to; None to search the table's folder and its subfolders.
        columns: Column names in the table for `path`, `label`, `video`, `identity`, `method` and `split`.
        fake_label: Value that means fake; None for `1` and `fake`. In some tables 1 means real.
        real_label: Value that means real; None for all values other than `fake_label`, if that is set.
        replace: Path prefixes from another machine, and their replacements on this one.
        frames_of: `folder` if the listed images of each folder are the frames of one video, `none` if no folder's are,
            None to infer it: images numbered anew in each folder are frames. A column `video` comes first.
        allow_outside: Whether `../` in a path may lead out of the table's folder; otherwise it raises an error.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    is_generic = True

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "csv",
        media_root: str | Path | None = None,
        columns: Mapping[str, str | None] | None = None,
        fake_label: str | int | None = None,
        real_label: str | int | None = None,
        replace: Mapping[str, str] | None = None,
        frames_of: str | None = None,
        allow_outside: bool = False,
        follow_links: bool = False,
    ) -> None:
        self.root = Path(root)
        self.name = name
        self.media_root = None if media_root is None else Path(media_root)
        self.columns = dict(columns or {})
        find_columns(list(filter(None, self.columns.values())), columns=self.columns)  # raises for unknown keys
        self.fake_label = None if fake_label is None else str(fake_label)
        self.real_label = None if real_label is None else str(real_label)
        self.replace = dict(replace or {})
        check_frames_of(frames_of)
        self.frames_of = frames_of
        self.allow_outside = allow_outside
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize tables with columns for path and label."""
        paths = [root] if root.is_file() else _list_tables(root)
        for path in paths:
            if {"path", "label"} <= find_columns(read_header(path), columns={}).keys():
                return f"'{path.name}' with columns for path and label"
        return None

    def list_videos(self) -> list[Video]:
        """Return a video for each row, or for each group of rows with the same `video`, whether it exists or not."""
        self.unexpected, self.read = [], set()
        entries: list[_Entry] = []
        tables = self._find_tables()
        rows_of = {path: read_table(path, columns=self.columns) for path, _ in tables}
        for path, rows in rows_of.items():
            _check_cells(path, rows)
        folder = self._find_media_folder(tables[0][0].parent, [row for rows in rows_of.values() for row in rows])
        for path, split in tables:
            rows = rows_of[path]
            labels = read_labels(path, rows, fake_label=self.fake_label, real_label=self.real_label)
            for row, label in zip(rows, labels, strict=True):
                where = f"'{path.name}' line {row.line}"
                entries.append(_Entry(where, split or _read_split_of(row), row, label, self._place(row, folder)))
        self._check_there(entries)
        kept = _drop_repeated(entries)
        kept_ids = set(map(id, kept))
        repeated = [f"{one.where}: {one.row.values['path']}" for one in entries if id(one) not in kept_ids]
        note_unexpected(self, "", "row that repeats a path of the same split", repeated)
        return list(self._make_videos(kept, has_tables=len(tables) > 1))

    def _find_tables(self) -> list[tuple[Path, str | None]]:
        if not self.root.exists():
            raise SourceError(f"No such table or folder: source.root='{self.root}'. Check the path.")
        if self.root.is_file():
            return [(self.root, None)]
        tables = _list_tables(self.root)
        of_splits = [(path, split) for path in tables if (split := read_split(path.stem))]
        if of_splits:
            others = [path.name for path in tables if path not in dict(of_splits)]
            if others:
                logger.warning("Skipped in '%s': %s.", self.root, quote_some(others))
            note_unexpected(self, "", "table not named after a split", others)
            return list(of_splits)
        if len(tables) == 1:
            return [(tables[0], None)]
        suggestion = "" if tables else suggest_source(self.root, refused_by="csv")
        raise SourceError(
            f"'{self.root}' contains {len(tables)} tables (.csv, .tsv), but must contain one, or train.csv, val.csv "
            f"and test.csv; found: {describe_folder(self.root)}. {suggestion or 'Set source.root to a table.'}"
        )

    def _find_media_folder(self, top: Path, rows: Sequence[Row]) -> Path:
        """Return the folder in which most paths exist: the table's own or a subfolder."""
        if self.media_root is not None:
            return self.media_root
        names = [self._rename(row.values["path"]) for row in rows[:: max(1, len(rows) // _SAMPLE)]]
        best, most = top, 0
        for folder in _list_places(top):
            found = sum((folder / name).exists() for name in names)
            if found > most:
                best, most = folder, found
            if most == len(names):
                break
        if best != top:
            logger.info("The paths are relative to '%s'.", best)
        return best

    def _rename(self, name: str) -> str:
        for old, new in self.replace.items():
            if name.startswith(old):
                name = new + name[len(old) :]
        return name.replace("\\", "/") if "\\" in name and os.sep == "/" else name

    def _place(self, row: Row, folder: Path) -> Path:
        return folder / self._rename(row.values["path"])

    def _check_there(self, entries: Sequence[_Entry]) -> None:
        missing = [entry for entry in entries if not entry.path.exists()]
        if missing and len(missing) == len(entries):
            raise SourceError(
                f"None of the {len(entries)} files listed in '{self.root}' exists, such as '{missing[0].path}' "
                f"({missing[0].where}). Set source.media_root to the folder that paths are relative to, or replace "
                f"path prefixes: '+source.replace={{/old/folder: /new/folder}}'."
            )
        if missing:
            logger.warning(
                "%d of %d rows list files that do not exist, such as '%s' (%s).",
                len(missing), len(entries), missing[0].path, missing[0].where,
            )  # fmt: skip

    def _make_videos(self, entries: Sequence[_Entry], *, has_tables: bool) -> Iterator[Video]:
        videos: dict[str, list[_Entry]] = defaultdict(list)
        frame_folders = self._find_frame_folders(entries)
        for entry in entries:
            video = entry.row.values.get("video") or frame_folders.get(entry.path.parent)
            parts = PurePosixPath(self._rename(video or entry.row.values["path"])).parts
            prefix = (entry.split,) if has_tables and entry.split else ()
            video_id = "/".join((self.name, *prefix, *(part for part in parts if part not in ("/", "..", "."))))
            key, number = video_id.replace(":", "_"), 1
            while not video and key in videos:  # `a.mp4` and `../a.mp4`, or the same file in two splits
                number += 1
                key = f"{video_id.replace(':', '_')}~{number}"
            videos[key].append(entry)
        for video_id, members in videos.items():
            yield self._make_video(video_id, members, is_video=members[0].path.parent in frame_folders)

    def _find_frame_folders(self, entries: Sequence[_Entry]) -> dict[Path, str]:
        """Return the folders whose listed images are the frames of one video, with their paths as the table has them.

        Folders named after a label or a split, and those whose images differ in label, split or method, are none.
        """
        members: dict[Path, list[_Entry]] = defaultdict(list)
        for entry in entries:
            if not entry.row.values.get("video"):
                members[entry.path.parent].append(entry)
        words = Words()
        alike = {
            folder: [entry.path for entry in rows] for folder, rows in members.items()
            if len({(entry.label, entry.split, entry.row.values.get("method")) for entry in rows}) == 1
            and words.read(folder.name) is None and read_split(folder.name) is None
        }  # fmt: skip
        found = find_frame_folders(alike, frames_of=self.frames_of)
        if found:
            logger.info(
                "Treating the images of %d folders, such as '%s', as the frames of one video each. Set "
                "source.frames_of=none to treat every image separately.",
                len(found), min(found),
            )  # fmt: skip
        return {
            folder: PurePosixPath(self._rename(members[folder][0].row.values["path"])).parent.as_posix()
            for folder in found
        }

    def _make_video(self, video_id: str, members: Sequence[_Entry], *, is_video: bool) -> Video:
        first = members[0]
        for name, values in (
            ("label", {entry.label.name.lower() for entry in members}),
            ("split", {entry.split for entry in members}),
        ):
            if len(values) > 1:
                where = ", ".join(entry.where for entry in members[:4])
                raise SourceError(f"The rows of video '{video_id}' have more than one {name}: {values} ({where}).")
        method = first.row.values.get("method") or "fake"
        identities = {name for entry in members for name in _split_cell(entry.row.values.get("identity", ""))}
        video = Video(
            video_id=video_id,
            path=first.path,
            label=first.label,
            method=ORIGINAL if first.label == Label.REAL else method,
            kind=kind_of(first.path),
            identities=tuple(sorted(identities)),
            split=first.split,
        )
        if video.kind is MediaKind.IMAGE and (first.row.values.get("video") or is_video):
            frames = tuple(entry.path for entry in members)
            return replace(video, path=first.path.parent, kind=MediaKind.FRAMES, frames=frames)
        if len(members) > 1:
            where = ", ".join(entry.where for entry in members[:4])
            raise SourceError(
                f"{len(members)} rows have the same video '{video_id}', but their files are not images: {where}. Only "
                f"images can be frames of one video. Remove the column, or choose another with "
                f"source.columns.video=..."
            )
        return video


def _list_tables(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")


def _list_places(folder: Path) -> Iterator[Path]:
    """Yield a folder and its subfolders down to three levels."""
    level, num_left = [folder], _MAX_FOLDERS
    for _ in range(4):
        yield from level
        level = [child for parent in level for child in list_folders(parent)][:num_left]
        num_left -= len(level)


def _check_cells(path: Path, rows: Sequence[Row]) -> None:
    """Raise a SourceError for a table without rows, and for rows without a path or with an unknown split."""
    if not rows:
        raise SourceError(f"The table '{path}' has no rows below its header.")
    problems = [f"line {row.line}: no path" for row in rows if not row.values["path"]]
    problems += [
        f"line {row.line}: split '{row.values['split']}'" for row in rows
        if row.values.get("split") and row.values["split"].lower() not in SPLIT_NAMES
    ]  # fmt: skip
    if problems:
        raise SourceError(
            f"{len(problems)} rows of '{path}' are invalid:\n{list_problems(problems)}\nEach row needs a path, and a "
            f"split must be one of {', '.join(SPLIT_NAMES)}; choose another column with source.columns.split=..."
        )


def _read_split_of(row: Row) -> str | None:
    return SPLIT_NAMES.get(row.values.get("split", "").lower())


def _split_cell(text: str) -> list[str]:
    """Return the people in a cell; a fake may have two, as `id1;id2` or `id1|id2`."""
    return [part.strip() for part in text.replace("|", ";").split(";") if part.strip()]


def _drop_repeated(entries: Sequence[_Entry]) -> list[_Entry]:
    """Drop rows that repeat a path within a split; raise a SourceError if a path has two labels."""
    first: dict[Path, _Entry] = {}
    kept, problems, seen, num_repeated = [], [], set[tuple[Path, str | None]](), Counter[str]()
    for entry in entries:
        path = Path(os.path.normpath(entry.path))
        known = first.setdefault(path, entry)
        if known.label != entry.label:
            problems.append(
                f"'{path}': {known.label.name.lower()} in {known.where}, {entry.label.name.lower()} in {entry.where}"
            )
        if (path, entry.split) in seen:
            num_repeated[str(entry.split)] += 1
        else:
            seen.add((path, entry.split))
            kept.append(entry)
    if problems:
        raise SourceError(
            f"{len(problems)} paths are listed with two labels:\n{list_problems(problems)}\nKeep only one row for each."
        )
    if num_repeated:
        logger.warning("Dropped %d rows that repeat a path of the same split.", num_repeated.total())
    return kept
