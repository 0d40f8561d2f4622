"""DeepFake Detection Challenge dataset in parts, as published on Kaggle (Dolhansky et al., 2020)."""

import csv
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.media.kinds import VIDEO_SUFFIXES
from unmask.media.listing import holds_frames, list_folder
from unmask.sources.folders import (
    DownloadedSource,
    check_media,
    descend,
    kind_of,
    list_entries,
    list_folders,
    log_choice_of_media,
    note_unexpected,
    quote_some,
)
from unmask.sources.labels import SPLIT_NAMES
from unmask.sources.reading import read_entries
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, Video

METADATA, LABELS = "metadata.json", "labels.csv"
METHOD = "dfdc"
GROUPS = (None, "part", "original")

_LABELS = {"REAL": Label.REAL, "FAKE": Label.FAKE}
_FEWEST_PARTS = 3
"""Minimum number of parts for splitting by part; with fewer, one of the three splits would be empty."""

logger = logging.getLogger(__name__)


class DFDC(DownloadedSource):
    """Read `dfdc_train_part_0/{metadata.json,*.mp4}`, one part or a folder of parts, or a test set with `labels.csv`.

    Args:
        root: A part, or the folder that contains parts.
        name: First part of every `video_id`.
        groups: Unit that stays in one split: `part`, because parts do not share people, or `original`, an original
            with its fakes; None for `part` if there are three or more parts, otherwise `original`.
        media: `videos`, `images` or `frames` of each part; None for the first that exists, or the part itself.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "dfdc",
        groups: str | None = None,
        media: str | None = None,
        follow_links: bool = False,
    ) -> None:
        if groups not in GROUPS:
            raise ConfigError(f"source.groups='{groups}' is unknown. Choose part, original or null.")
        self.root = Path(root)
        self.name = name
        self.groups = groups
        check_media(media)
        self.media = media
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize valid metadata in the folder or its subfolders."""
        for folder in (root, *list_folders(root)):
            path = folder / METADATA
            if path.is_file() and _holds_labels(path):
                return f"'{path.relative_to(root)}'"
        return f"'{LABELS}'" if _read_label_rows(root / LABELS) is not None else None

    def list_videos(self) -> list[Video]:
        """Return every video listed in the metadata, whether it exists or not."""
        self._start_listing()
        parts, lacking = _find_parts(self.root)
        if not parts:
            raise refuse_layout(
                self.root, source="dfdc", layout="DFDC",
                looked_for=f"'{METADATA}' or '{LABELS}', in it or in folders such as 'dfdc_train_part_0/'",
                advice=f"Set source.root to the folder that contains them. The download of each part holds its "
                f"'{METADATA}'; videos whose labels you know otherwise need a table (source=csv).",
            )  # fmt: skip
        for folder in lacking:
            videos_there = [path.name for path in list_entries(folder) if path.suffix.lower() in VIDEO_SUFFIXES]
            note_unexpected(self, folder.name, f"in a folder without '{METADATA}'", videos_there)
        self.read |= set(lacking)
        entries = {part: _read_part(part) for part in parts}
        by_part = self.groups == "part" or (self.groups is None and len(parts) >= _FEWEST_PARTS)
        logger.info(
            "Parts read: %s; %s stays in one split (source.groups).",
            quote_some(part.name for part in parts), "each part" if by_part else "each original with its fakes",
        )  # fmt: skip
        videos = [video for part in parts for video in self._list_part(part, entries[part], by_part=by_part)]
        splits = {video.split for video in videos}
        # Kaggle's metadata assigns everything to train, which is not a split.
        return [replace(video, split=None) for video in videos] if splits == {"train"} else videos

    def part_of(self, video: Video) -> str:
        """Return the folder of a video, such as `dfdc_train_part_0`."""
        return video.video_id.removeprefix(f"{self.name}/{video.method}/").partition("/")[0]

    def _list_part(self, part: Path, entries: Mapping[str, Mapping[str, Any]], *, by_part: bool) -> list[Video]:
        problems = [
            f"{name}: label '{entry.get('label')}'" for name, entry in entries.items()
            if str(entry.get("label")).upper() not in _LABELS
        ]  # fmt: skip
        if problems:
            raise SourceError(
                f"{len(problems)} entries of '{part}' have a label other than REAL or FAKE:\n"
                f"{list_problems(problems)}\nDownload '{METADATA}' or '{LABELS}' again."
            )
        passed_over: list[str] = []
        media = descend(part, self.media)
        log_choice_of_media(media)
        entries_there = list_entries(media, skipped=passed_over)
        self.read |= {media, part / METADATA, part / LABELS}
        note_unexpected(self, part.name, "hidden or unfinished", passed_over)
        paths = _find_files(part, media, entries)
        used = {place for path in paths.values() for place in (path, *path.parents)}
        there = [path.name for path in entries_there if path.suffix.lower() in VIDEO_SUFFIXES]
        known = {METADATA, LABELS, *there}
        others = [path.name for path in entries_there if path.name not in known and path not in used]
        note_unexpected(self, part.name, "of another kind", others)
        unexpected = [name for name in there if name not in entries]
        if unexpected:
            logger.warning(
                "Skipped %d videos in '%s' that are not listed in its metadata: %s.",
                len(unexpected), part, quote_some(unexpected),
            )  # fmt: skip
        note_unexpected(self, part.name, "not in the metadata", unexpected)
        return [self._make_video(part, name, paths[name], entries, by_part=by_part) for name in sorted(entries)]

    def _make_video(
        self, part: Path, file: str, path: Path, entries: Mapping[str, Mapping[str, Any]], *, by_part: bool
    ) -> Video:
        entry = entries[file]
        label = _LABELS[str(entry["label"]).upper()]
        original = str(entry.get("original") or "")
        method = ORIGINAL if label == Label.REAL else METHOD
        # Fakes of the same original belong together even if the original was not downloaded.
        origin = original if label == Label.FAKE else file
        return Video(
            video_id=self._make_id(method, part, file),
            path=path,
            label=label,
            method=method,
            kind=kind_of(path),
            identities=(part.name,) if by_part else (f"{part.name}/{origin}",) if origin else (),
            original=self._make_id(ORIGINAL, part, original) if original in entries else None,
            split=SPLIT_NAMES.get(str(entry.get("split", "")).lower()),
        )

    def _make_id(self, method: str, part: Path, file: str) -> str:
        return "/".join((self.name, method, part.name, Path(file).with_suffix("").as_posix()))


def _holds_labels(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return '"label"' in file.read(400)


def _find_parts(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders with metadata (the root, or its subfolders down to two levels), and those that lack it."""
    level = [root]
    for _ in range(3):
        parts = [folder for folder in level if (folder / METADATA).is_file() or (folder / LABELS).is_file()]
        if parts:
            lacking = [folder for folder in level if folder not in parts and any(folder.glob("*.mp4"))]
            if lacking:
                names = quote_some(folder.name for folder in lacking)
                logger.warning("Skipped video folders without '%s': %s.", METADATA, names)
            return parts, lacking
        level = [child for folder in level for child in list_folders(folder)]
    return [], []


def _find_files(part: Path, media: Path, entries: Iterable[str]) -> dict[str, Path]:
    """Return where each listed video or the folder of its frames lies, or else where it should.

    The rows of the test set's table may name files without the subfolder in which they lie.
    """
    paths = {name: media / name for name in entries}
    for name, path in paths.items():
        frames = path.with_suffix("")
        if not path.exists() and holds_frames(frames):
            paths[name] = frames
    absent = {name for name, path in paths.items() if not path.exists()}
    if absent and not (part / METADATA).is_file():
        paths |= {path.name: path for path in list_folder(part).files if path.name in absent}
    return paths


def _read_part(part: Path) -> dict[str, dict[str, Any]]:
    """Return the metadata of each file, or the rows of the test set's table."""
    path = part / METADATA
    if not path.is_file():
        rows = _read_label_rows(part / LABELS)
        if rows is None:
            raise SourceError(f"'{part / LABELS}' has no columns 'filename' and 'label'. Download it again.")
        return rows
    return read_entries(path, example='{"a.mp4": {"label": "FAKE", ...}}')


def _read_label_rows(path: Path) -> dict[str, dict[str, Any]] | None:
    """Return the entries of the test set's table `filename,label` (1 is fake), or None if it is another table."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"filename", "label"} <= set(reader.fieldnames or ()):
            return None
        names = {"0": "REAL", "1": "FAKE"}
        rows: dict[str, dict[str, Any]] = {}
        for row in reader:
            label = names.get(row["label"].strip(), row["label"])
            if rows.setdefault(row["filename"], {"label": label, "split": "test"})["label"] != label:
                raise SourceError(
                    f"'{path}' lists '{row['filename']}' with two labels, '{rows[row['filename']]['label']}' and "
                    f"'{label}' (line {reader.line_num}). Keep the right one, or download the file again."
                )
        return rows
