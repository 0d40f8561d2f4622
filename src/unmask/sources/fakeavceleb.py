"""FakeAVCeleb v1.2 (Khalid et al., FakeAVCeleb: A Novel Audio-Video Multimodal Deepfake Dataset, NeurIPS 2021)."""

import csv
import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.sources.folders import (
    DownloadedSource,
    kind_of,
    list_root,
    note_unexpected,
    quote_some,
    warn_of_absent,
)
from unmask.sources.labels import PeopleSplit
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, Video

TABLE = "meta_data.csv"
FAKE_AUDIO = ("skip", "real")

_REAL, _REAL_FACE = "RealVideo-RealAudio", "RealVideo-FakeAudio"
_TYPES = (_REAL, _REAL_FACE, "FakeVideo-RealAudio", "FakeVideo-FakeAudio")
_PERSON = re.compile(r"id\d+")
_NUM_COLUMNS = 9
"""Columns up to the file name: source, target1, target2, method, category, type, race, gender, file."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Row:
    """A video that the table lists or that is on disk.

    Args:
        place: Path below the root, from the type on.
        method: Method in the table or in the file's name.
        people: People named in the row and in the path.
    """

    place: PurePosixPath
    method: str
    people: tuple[str, ...]


class FakeAVCeleb(DownloadedSource):
    """Read `meta_data.csv` and `<type>/<race>/<gender>/<person>/*.mp4`, with four types such as `FakeVideo-RealAudio`.

    Unmask judges faces. In `RealVideo-FakeAudio` the face is that of `RealVideo-RealAudio`, frame by frame, with
    another voice: as fakes these videos would teach a wrong label, and as reals they are copies of videos that are
    there already. They are therefore left out unless `fake_audio` says otherwise.

    Args:
        root: Folder that contains the four types and `meta_data.csv`.
        name: First part of every `video_id`.
        fake_audio: `skip` leaves out `RealVideo-FakeAudio`; `real` reads it as real with that name as its method.
        splits: `test` puts everything into test; `identity` splits by person, and drops fakes that mix two splits.
        val_fraction: Share of the people for validation, with `identity`.
        test_fraction: Share of the people for test, with `identity`.
        seed: Seed of the split, with `identity`.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "fakeavceleb",
        fake_audio: str = "skip",
        splits: str = "test",
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        seed: int = 0,
        follow_links: bool = False,
    ) -> None:
        if fake_audio not in FAKE_AUDIO:
            raise ConfigError(f"source.fake_audio='{fake_audio}' is unknown. Choose {' or '.join(FAKE_AUDIO)}.")
        self.root = Path(root)
        self.name = name
        self.fake_audio = fake_audio
        self.split = PeopleSplit(splits, val_fraction, test_fraction, seed)
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the folder of a type."""
        return next((f"'{name}/'" for name in _TYPES if (root / name).is_dir()), None)

    def list_videos(self) -> list[Video]:
        """Return every video in the table, whether it exists or not; without the table, every video in the folders."""
        self._start_listing()
        if self.recognize(self.root) is None:
            raise refuse_layout(
                self.root, source="fakeavceleb", layout="FakeAVCeleb",
                looked_for=f"{quote_some(f'{name}/' for name in _TYPES)} and '{TABLE}'",
            )  # fmt: skip
        warn_of_absent(self.root, [name for name in _TYPES if not (self.root / name).is_dir()])
        rows = self._list_rows()
        kept = [row for row in rows if row.place.parts[0] != _REAL_FACE or self.fake_audio == "real"]
        if len(kept) < len(rows):
            left_out = [str(row.place) for row in rows if row not in kept]
            note_unexpected(self, _REAL_FACE, "with real faces (source.fake_audio)", left_out)
            logger.info(
                "Left out %d videos of '%s': their faces are real and the same as in '%s'. source.fake_audio=real "
                "reads them as real.",
                len(rows) - len(kept), _REAL_FACE, _REAL,
            )  # fmt: skip
        originals = {self._make_id(row) for row in kept if row.place.parts[0] == _REAL}
        return self.split.apply([self._make_video(row, originals) for row in kept])

    def _list_rows(self) -> list[_Row]:
        table = self.root / TABLE
        self.read.add(table)
        there = self._list_places()
        if not table.is_file():
            logger.warning("No '%s': methods are read from file names, and missing videos are unknown.", table)
            return [_Row(place, _read_method(place), _find_people(place.parts)) for place in sorted(there)]
        rows = _read_table(table)
        rows = [_find_frames(row, there) for row in rows]
        unlisted = sorted(str(place) for place in there - {row.place for row in rows})
        if unlisted and len(unlisted) == len(there):
            raise SourceError(
                f"None of the {len(rows)} videos in '{table}', such as '{rows[0].place}', is in '{self.root}': found "
                f"{quote_some(unlisted)}. Download '{TABLE}' again, or remove it to read all files."
            )
        if unlisted:
            logger.warning(
                "Skipped %d videos in '%s' that '%s' does not list: %s.", len(unlisted), self.root, TABLE,
                quote_some(unlisted),
            )  # fmt: skip
        for part in _TYPES:
            note_unexpected(self, part, f"not in '{TABLE}'", [name for name in unlisted if name.startswith(f"{part}/")])
        return rows

    def _list_places(self) -> set[PurePosixPath]:
        """Return the videos of the four types, below the root; folders of frames where there are no videos."""
        paths = [path.relative_to(self.root) for path in list_root(self.root, source=self).files]
        others = [path.as_posix() for path in paths if path.parts[0] not in _TYPES]
        if others:
            logger.warning("Skipped %d files in other folders of '%s': %s.", len(others), self.root, quote_some(others))
        note_unexpected(self, "", "in a folder of another name", others)
        videos, frames = set[PurePosixPath](), set[PurePosixPath]()
        for path in (PurePosixPath(path.as_posix()) for path in paths if path.parts[0] in _TYPES):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                frames.add(path.parent)
            else:
                videos.add(path)
        if videos and frames:
            logger.info("Reading videos, not %d folders of images beside them, such as '%s'.", len(frames), min(frames))
            note_unexpected(self, "", "folder of images beside videos, which are read", sorted(map(str, frames)))
        return videos or frames

    def part_of(self, video: Video) -> str:
        """Return the folder of a video, such as `FakeVideo-RealAudio`."""
        return video.path.relative_to(self.root).parts[0]

    def _make_video(self, row: _Row, originals: set[str]) -> Video:
        kind = row.place.parts[0]
        label = Label.FAKE if kind.startswith("Fake") else Label.REAL
        path = self.root / row.place
        person = row.place.parent.name
        # Fakes are named after the clip they were made from: `00109_10_id00476_wavtolip.mp4` after `00109.mp4`.
        source = PurePosixPath(_REAL, *row.place.parts[1:-1], row.place.stem.partition("_")[0])
        original = "/".join((self.name, ORIGINAL, *source.parts[1:]))
        return Video(
            video_id=self._make_id(row),
            path=path,
            label=label,
            method=self._name_method(row),
            kind=kind_of(path),
            # In a real video only the person in front of the camera counts, not the one whose voice was cloned.
            identities=row.people if label == Label.FAKE else (person,),
            original=original if original in originals and kind != _REAL else None,
        )

    def _name_method(self, row: _Row) -> str:
        kind = row.place.parts[0]
        return {_REAL: ORIGINAL, _REAL_FACE: _REAL_FACE}.get(kind, row.method)

    def _make_id(self, row: _Row) -> str:
        kind, *folders = row.place.parent.parts
        types = () if kind == _REAL else (kind,)
        method = self._name_method(row)
        return "/".join((self.name, method, *(name for name in types if name != method), *folders, row.place.stem))


def _read_table(table: Path) -> list[_Row]:
    """Return the rows of `meta_data.csv`, whose last column, the folder, has no name in the header."""
    rows: dict[PurePosixPath, _Row] = {}
    problems = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(reader, None)
        for number, values in enumerate(reader, start=2):
            cells = [value.strip() for value in values]
            if not any(cells):
                continue
            if len(cells) < _NUM_COLUMNS or cells[5] not in _TYPES or not cells[8]:
                problems.append(f"line {number}: '{','.join(cells)}'")
                continue
            folder = cells[9] if len(cells) > _NUM_COLUMNS and cells[5] in cells[9] else ""
            # The published folders start with 'FakeAVCeleb/', above the type.
            parts = PurePosixPath(folder or "/".join((cells[5], cells[6], cells[7], cells[0]))).parts
            place = PurePosixPath(*parts[parts.index(cells[5]) :], cells[8])
            rows[place] = _Row(place, cells[3], _find_people((*place.parts, *cells[:3])))
    if problems or not rows:
        raise SourceError(
            f"'{table}' has {len(problems)} lines that do not read 'source,target1,target2,method,category,type,race,"
            f"gender,file,folder', and {len(rows)} that do:\n{list_problems(problems)}\nDownload it again."
        )
    return list(rows.values())


def _find_frames(row: _Row, there: Collection[PurePosixPath]) -> _Row:
    """Return the row with the folder of its frames as its place, if that is there in place of the video."""
    frames = row.place.with_suffix("")
    return replace(row, place=frames) if row.place not in there and frames in there else row


def _find_people(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(person for word in words for person in _PERSON.findall(word)))


def _read_method(place: PurePosixPath) -> str:
    """Return the last word of a fake's name, such as `wavtolip` in `00109_10_id00476_wavtolip`, or its type."""
    word = place.stem.rpartition("_")[2]
    return word if word and not any(character.isdigit() for character in word) else place.parts[0]
