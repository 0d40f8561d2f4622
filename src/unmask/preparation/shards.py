"""Prepare a source in shards, on several machines at once, and merge them into one face dataset.

A shard takes every n-th video of the listing. It writes crops, a journal and a note of its settings, and no tables, so
that shards may share a folder: no two of them write the same file.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from unmask.data.audit import find_damaged
from unmask.errors import ConfigError, DatasetError, list_problems
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.paths import show_command, write_bytes, writing
from unmask.preparation.prepare import Preparation, PrepareResult, count_outcomes, finish
from unmask.preparation.records import JOURNAL_FILE, MERGED_FILE, SHARD_FILES, Journal, Shard, VideoRecord
from unmask.preparation.work import Runner, Task, Worked, Workshop, remove_outdated_tables, remove_remains, work_through
from unmask.sources.folders import CreatedSource, Source
from unmask.types import Video

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class ShardResult:
    """Result of `prepare_shard`.

    Args:
        dataset: Folder of the shard.
        shard: Shard.
        num_videos: Number of videos of the whole source.
        outcomes: Number of videos of the shard by outcome.
        num_reused: Number of those finished by an earlier, interrupted run.
        num_repaired: Number of missing or damaged crops in those videos that were recreated.
        num_faces: Number of crops of the shard.
        seconds: Wall time in seconds.
    """

    dataset: Path
    shard: Shard
    num_videos: int
    outcomes: dict[str, int]
    num_reused: int
    num_repaired: int
    num_faces: int
    seconds: float


Prepared = PrepareResult | ShardResult
"""Result of preparing all videos of a source, or those of a shard."""


def prepare_shard(
    preparation: Preparation,
    shard: Shard,
    *,
    output: Path,
    detector: Detector | None,
    num_workers: int,
    runner: Runner,
    settings: Mapping[str, Any],
    overrides: Sequence[str] = (),
) -> ShardResult:
    """Prepare the videos of a shard; `merge` makes a face dataset of all shards.

    Resumes an interrupted run of the same shard in the same folder.

    Args:
        preparation: Source and settings, equal for all shards.
        shard: Shard to prepare.
        output: Folder of the shard; other shards may use it at the same time.
        detector: Face detector; None if the images are already crops.
        num_workers: Number of worker processes of a source that creates its files.
        runner: Where the videos are prepared.
        settings: Settings to record; see `Note`.
        overrides: Overrides to record; see `Note`.

    Raises:
        DatasetError: The folder has crops or shards made with other settings, or a worker died.
        OutputError: The disk is full; finished videos are kept.
    """
    start = time.monotonic()
    with _creating_alone(preparation.source, output):
        split = preparation.select(root=None, num_workers=num_workers)
    own = shard.take_videos(split.videos, preparation.spec)
    logger.info("Shard %s: %s of %s videos.", shard, f"{len(own):,}", f"{len(split.videos):,}")
    older = output / JOURNAL_FILE
    Journal(older, spec=preparation.spec).check_spec()
    claim(output, Note.of(shard, split.videos, settings=settings, overrides=overrides))
    (output / MERGED_FILE).unlink(missing_ok=True)
    workshop = Workshop(detector, preparation.spec, output, preparation.max_pixels, shard=shard.name)
    journal = Journal(output / f"prepare.{shard.name}.jsonl", spec=preparation.spec, videos=own, older=older)
    worked = work_through(own, workshop, journal, runner=runner)
    records = [worked.records[video.video_id] for video in own]
    return ShardResult(
        output, shard, len(split.videos), count_outcomes(records), worked.num_reused, worked.num_repaired,
        sum(len(record.crops) for record in records), time.monotonic() - start,
    )  # fmt: skip


@contextmanager
def _creating_alone(source: Source, output: Path) -> Iterator[None]:
    """Let shards that start at the same time create the files of a source one after another."""
    if not isinstance(source, CreatedSource):
        yield
        return
    root = Path(getattr(source, "root", output))
    with writing(root):
        root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        yield


def merge(
    preparation: Preparation,
    notes: Mapping[Path, Note],
    *,
    output: Path,
    num_workers: int,
) -> PrepareResult:
    """Make one face dataset of shards: the same tables and crops as without shards.

    Crops of shards in other folders are linked, or copied to another disk. The files of shards in `output` become the
    journal of the dataset.

    Args:
        preparation: Source and settings of the shards.
        notes: Result of `read_notes`.
        output: Folder of the face dataset.
        num_workers: Number of worker processes of a source that creates its files.

    Raises:
        DatasetError: Videos or whole shards are unfinished, or crops are damaged; names the commands that finish them.
        LeakageError: As for `prepare`.
        OutputError: The disk is full.
    """
    start = time.monotonic()
    split = preparation.select(root=output, num_workers=num_workers)
    merged = replace(next(iter(notes.values())), shard=None)
    found = _gather(split.videos, notes, output=output, spec=preparation.spec)
    workshop = Workshop(None, preparation.spec, output, preparation.max_pixels)
    for video in split.videos:
        if video.video_id not in found and not video.is_there:
            found[video.video_id] = (workshop.work(Task(video)), output)  # the record of a missing file
    _check_finished(split.videos, notes, found, spec=preparation.spec, output=output)
    journal = Journal(output / JOURNAL_FILE, spec=preparation.spec, videos=split.videos)
    journal.check_spec()
    remove_remains(output)
    remove_outdated_tables(workshop)
    for record, folder in found.values():
        _bring(record, folder, output)
    records = {name: record for name, (record, _) in found.items()}
    journal.rewrite(split.videos, records)
    merged.write(output)
    result = finish(preparation, split, Worked(records, len(records), 0), root=output, start=start)
    for path in output.glob(SHARD_FILES):
        path.unlink(missing_ok=True)
    return result


def _gather(
    videos: Sequence[Video], notes: Mapping[Path, Note], *, output: Path, spec: CropSpec
) -> dict[str, tuple[VideoRecord, Path]]:
    """Return the record of each finished video and the folder with its crops, from its own shard if that has one."""
    found: dict[str, tuple[VideoRecord, Path]] = {}
    known = Journal(output / JOURNAL_FILE, spec=spec, videos=videos).read(videos)
    found |= {name: (record, output) for name, record in known.items()}
    for path, note in notes.items():
        if note.shard is None:
            continue
        own = {video.video_id for video in note.shard.take_videos(videos, spec)}
        records = Journal(path.with_suffix(".jsonl"), spec=spec, videos=videos).read(videos)
        for name, record in records.items():
            if name in own or name not in found:
                found[name] = (record, path.parent)
    return found


def _check_finished(
    videos: Sequence[Video],
    notes: Mapping[Path, Note],
    found: Mapping[str, tuple[VideoRecord, Path]],
    *,
    spec: CropSpec,
    output: Path,
) -> None:
    """Raise a DatasetError that names unfinished videos and damaged crops, and the command of each shard for them."""
    problems = {video.video_id: "is not finished" for video in videos if video.video_id not in found}
    crops: dict[Path, list[str]] = defaultdict(list)
    for record, folder in found.values():
        crops[folder] += [row.crop for row in record.crops if not os.path.isabs(row.crop)]  # not those indexed in place
    for folder, names in crops.items():
        damaged = find_damaged(names, root=folder, size=spec.crop_size)
        problems |= {
            record.video_id: f"has a missing or damaged crop, '{folder / row.crop}'"
            for record, home in found.values() if home == folder for row in record.crops if row.crop in damaged
        }  # fmt: skip
    if not problems:
        return
    homes = {note.shard: path.parent for path, note in notes.items() if note.shard is not None}
    first, count = next(iter(notes.values())), next((shard.count for shard in homes), 0)
    shards = [Shard(number, count) for number in range(1, count + 1)]
    lines = []
    for shard in shards or (None,):
        own = [video.video_id for video in (videos if shard is None else shard.take_videos(videos, spec))]
        left = [name for name in own if name in problems]
        folder = output if shard is None else homes.get(shard, output)
        if left:
            name = "All" if shard is None else f"Shard {shard}"
            state = f"'{left[0]}' {problems[left[0]]}" if shard is None or shard in homes else "it has not begun"
            command = first.show_command(folder, shard)
            lines.append(f"{name} ({len(left):,} of {len(own):,} videos): {state}. Finish it with: {command}")
    raise DatasetError(
        f"{len(problems):,} of {len(videos):,} videos are not finished, or their files have changed since (even "
        f"if only in their time: copy sources with cp -p or rsync -a):\n{list_problems(lines, limit=100)}"
    )


def _bring(record: VideoRecord, folder: Path, output: Path) -> None:
    """Link the crops of a video into the dataset, or copy them if the folder of the shard is on another disk."""
    if folder.resolve() == output.resolve():
        return
    target = output / "crops" / record.video_id
    shutil.rmtree(target, ignore_errors=True)  # of other settings, or of an interrupted merge
    for row in record.crops:
        if os.path.isabs(row.crop):  # indexed in place
            continue
        with writing(output / row.crop):
            (output / row.crop).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(folder / row.crop, output / row.crop)
            except OSError:
                write_bytes(output / row.crop, (folder / row.crop).read_bytes())
