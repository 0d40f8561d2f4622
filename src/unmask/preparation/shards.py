"""Shards of a source: which videos each takes, and the notes with which they keep each other to the same settings."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from unmask.errors import ConfigError, DatasetError, list_problems
from unmask.paths import show_command, write_bytes
from unmask.preparation.records import MERGED_FILE, SHARD_FILES
from unmask.types import Video

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the videos of a source.

    Args:
        number: Number of the part, from 1.
        count: Number of parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a shard such as `2/5`.

        Raises:
            ConfigError: It has another form, or is not one of the parts.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), flags=re.ASCII)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(
                f"shard='{text}' is not a part of a whole. Write shard=2/5 for the second of five shards."
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """Name in file names, such as `2-of-5`."""
        return f"{self.number}-of-{self.count}"

    def take(self, items: Sequence[T]) -> list[T]:
        """Return every `count`-th item: parts differ by one item at most, and each has its share of every method."""
        return list(items[self.number - 1 :: self.count])


@dataclass(frozen=True)
class Note:
    """What a shard records about itself, and a merge about its shards.

    Args:
        shard: Shard; None for a merged dataset.
        settings: Nested plain settings that decide its crops and splits, named as the keys of `prepare.yaml`.
        overrides: Overrides of its command line, without `shard` and `output`.
        num_videos: Number of videos of the whole source.
        listing: Hash of their IDs, in order.
    """

    shard: Shard | None
    settings: Mapping[str, Any]
    overrides: tuple[str, ...]
    num_videos: int
    listing: str

    @classmethod
    def of(
        cls, shard: Shard | None, videos: Sequence[Video], *, settings: Mapping[str, Any], overrides: Sequence[str]
    ) -> Self:
        """Return the note of a shard of the videos of a source."""
        digest = hashlib.sha256("\n".join(video.video_id for video in videos).encode())
        return cls(shard, settings, tuple(overrides), len(videos), digest.hexdigest()[:16])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a note.

        Raises:
            DatasetError: The file is not a note.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            shard = None if values["shard"] is None else Shard.parse(values["shard"])
            settings, overrides = dict(values["settings"]), tuple(map(str, values["overrides"]))
            return cls(shard, settings, overrides, int(values["num_videos"]), str(values["listing"]))
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise DatasetError(
                f"'{path}' is not the note of a shard ({error!r}). Delete it, and run the shard again."
            ) from error

    def write(self, folder: Path) -> Path:
        """Write the note into the folder of its dataset, and return its path."""
        path = folder / (MERGED_FILE if self.shard is None else f"prepare.{self.shard.name}.json")
        content = {
            "shard": None if self.shard is None else str(self.shard), "settings": self.settings,
            "overrides": self.overrides, "num_videos": self.num_videos, "listing": self.listing,
        }  # fmt: skip
        write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
        return path

    def compare(self, other: "Note") -> Iterator[tuple[str, Any, Any]]:
        """Yield each key in which two notes differ, with both values."""
        if self.shard is not None and other.shard is not None and self.shard.count != other.shard.count:
            yield "shard", str(self.shard), str(other.shard)
        yield from find_difference(self.settings, other.settings)
        if self.listing != other.listing:
            mine, theirs = (f"{note.num_videos} (IDs {note.listing})" for note in (self, other))
            yield "videos", mine, theirs

    def show_command(self, folder: Path, shard: Shard | None = None) -> str:
        """Return the command that prepares a shard with these settings."""
        return show_command(
            "prepare.py", *self.overrides, f"output={folder}", *([] if shard is None else [f"shard={shard}"])
        )


def find_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each dotted key in which nested settings differ, with both values."""
    first, second = dict(_flatten(one)), dict(_flatten(other))
    for key in dict.fromkeys([*first, *second]):
        if first.get(key) != second.get(key):
            yield key, first.get(key), second.get(key)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of nested settings; `duplicates` and others that change no table are absent."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        elif prefix or key not in ("duplicates", "near_duplicates"):
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def claim(output: Path, note: Note) -> None:
    """Write the note of a shard, and withdraw it if another shard in the folder has other settings.

    Of two shards that start at the same moment, at least one sees the note of the other.
    """
    own = note.write(output)
    try:
        check_same({path: other for path, other in _list_notes(output).items() if other.shard is not None})
    except DatasetError:
        own.unlink(missing_ok=True)
        raise


def _list_notes(folder: Path) -> dict[Path, Note]:
    paths = [path for path in sorted(folder.glob(SHARD_FILES)) if path.suffix == ".json"]
    return {path: Note.read(path) for path in [*paths, folder / MERGED_FILE] if path.is_file()}


def read_notes(folders: Sequence[Path]) -> dict[Path, Note]:
    """Return the notes of all shards in some folders, by file; all have the same settings.

    Raises:
        DatasetError: A folder has no shards, settings differ, or two folders have the same shard.
    """
    notes: dict[Path, Note] = {}
    for folder in folders:
        found = _list_notes(folder)
        if not found:
            what = "has no shards" if folder.is_dir() else "does not exist"
            raise DatasetError(
                f"'{folder}' {what}. Prepare them with: "
                f"{show_command('prepare.py', 'source=...', f'output={folder}', 'shard=1/2')} and shard=2/2."
            )
        notes |= found
    check_same(notes)
    homes: dict[Shard, Path] = {}
    for path, note in notes.items():
        if note.shard is not None and homes.setdefault(note.shard, path) != path:
            raise DatasetError(
                f"Shard {note.shard} is there twice: '{homes[note.shard]}' and '{path}'. Name only one of the folders."
            )
    return notes


def check_same(notes: Mapping[Path, Note]) -> None:
    """Raise a DatasetError that names each key in which the notes of shards differ, the values and the files."""
    files = list(notes)
    rows = {
        key: f"{key}: {one!r} in '{files[0]}', {other!r} in '{file}'"
        for file in reversed(files[1:]) for key, one, other in notes[files[0]].compare(notes[file])
    }  # fmt: skip
    if set(rows) == {"videos"}:
        raise DatasetError(
            f"The source was not the same for all shards:\n{list_problems(rows.values())}\nGive every machine the same "
            f"files. If the source has changed since, delete these files and run every shard again: finished videos "
            f"are kept."
        )
    if rows:
        raise DatasetError(
            f"Shards have different settings:\n{list_problems(rows.values())}\nRun all shards with the same settings "
            f"and the same number of shards, in another output or after deleting the files of the others."
        )
