"""Celeb-DF v1 and v2 (Li et al., Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics, CVPR 2020)."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.forgeries import Forgeries
from unmask.media.kinds import VIDEO_SUFFIXES
from unmask.media.listing import holds_frames
from unmask.sources.folders import (
    Unexpected,
    check_root,
    find_forgeries,
    list_entries,
    list_folders,
    note_unexpected,
    quote_some,
    refuse_layout,
)
from unmask.sources.labels import split_people
from unmask.types import ORIGINAL, Label, MediaKind, Video

TEST_LIST = "List_of_testing_videos.txt"

_CELEBRITIES, _YOUTUBE, _FAKES = "Celeb-real", "YouTube-real", "Celeb-synthesis"
_PARTS = (_CELEBRITIES, _YOUTUBE, _FAKES)
_PERSON = re.compile(r"id\d+")

logger = logging.getLogger(__name__)


class CelebDF:
    """Read `Celeb-real/id0_0000.mp4`, `YouTube-real/00000.mp4` and `Celeb-synthesis/id0_id1_0000.mp4`.

    `id0_id1_0000` shows the face of id1 in a video of id0. The videos, or folders of frames, may be one level deeper
    (`videos/` or `frames/`). In the test list, 1 means real and 0 means fake, and it must agree with the folders.

    Args:
        root: Folder that contains the three folders and the test list.
        name: First part of every `video_id`.
        splits: `official` for the test list, with a validation split of separate people taken from the rest; None to
            let `prepare` split by identity, as far as the swaps allow.
        val_fraction: Share of the people outside the test list for validation.
        seed: Seed of the validation split.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "celebdf",
        splits: str | None = "official",
        val_fraction: float = 0.15,
        seed: int = 0,
    ) -> None:
        if splits not in (None, "official"):
            raise ConfigError(f"source.splits='{splits}' is unknown. Choose official or null.")
        if not 0 <= val_fraction < 1:
            raise ConfigError(f"source.val_fraction={val_fraction} must be at least 0 and less than 1.")
        self.root = Path(root)
        self.name = name
        self.splits = splits
        self.val_fraction = val_fraction
        self.seed = seed
        self.unexpected: list[Unexpected] = []
        self.known_leaks: list[str] = []

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the folders `Celeb-real` and `Celeb-synthesis`."""
        there = _find_parts(root)
        return f"'{_CELEBRITIES}/' and '{_FAKES}/'" if {_CELEBRITIES, _FAKES} <= there.keys() else None

    @property
    def forgeries(self) -> Forgeries:
        """Who made the fakes: others, unless Unmask wrote the folder."""
        return find_forgeries(self.root)

    def list_videos(self) -> list[Video]:
        """Return every video in the folders, and missing ones from the test list."""
        check_root(self.root)
        self.unexpected, self.known_leaks = [], []
        parts = _find_parts(self.root)
        if not parts:
            raise refuse_layout(
                self.root, source="celebdf", layout="Celeb-DF", looked_for=quote_some(f"{part}/" for part in _PARTS),
                advice="Set source.root to the folder that contains them.",
            )  # fmt: skip
        absent = [part for part in _PARTS if part not in parts]
        if absent:
            logger.warning("Missing in '%s': %s.", self.root, quote_some(absent))
        videos = {
            f"{part}/{path.stem}": self._make_video(part, path)
            for part, folder in parts.items()
            for path in self._list_clips(part, folder)
        }
        if self.splits is None:
            return list(videos.values())
        listed = self._read_test_list()
        for key, label in listed.items():
            part, _, stem = key.partition("/")
            video = videos.setdefault(key, self._make_video(part, parts.get(part, self.root / part) / f"{stem}.mp4"))
            if video.label != label:
                raise SourceError(
                    f"'{TEST_LIST}' labels '{key}' {label.name.lower()}, but its folder is "
                    f"{video.label.name.lower()} (in this list 1 means real). Download the list again."
                )
        return self._split(videos, listed)

    def part_of(self, video: Video) -> str:
        """Return the folder of a video: `Celeb-real`, `YouTube-real` or `Celeb-synthesis`."""
        return next(part for part in _PARTS if part in video.video_id.split("/"))

    def _list_clips(self, part: str, folder: Path) -> list[Path]:
        passed_over: list[str] = []
        clips, others = [], []
        for path in list_entries(folder, skipped=passed_over):
            if path.suffix.lower() in VIDEO_SUFFIXES or holds_frames(path):
                clips.append(path)
            else:
                others.append(path.name)
        if others:
            logger.warning("Skipped in '%s': %s.", folder, quote_some(others))
        note_unexpected(self, part, "of another kind", others)
        note_unexpected(self, part, "hidden or unfinished", passed_over)
        return clips

    def _split(self, videos: Mapping[str, Video], listed: Iterable[str]) -> list[Video]:
        test = [replace(videos[key], split="test") for key in listed]
        others = [video for key, video in videos.items() if key not in set(listed)]
        kept, mixed = split_people(
            others, fractions={"train": 1 - self.val_fraction, "val": self.val_fraction}, seed=self.seed
        )
        if mixed:
            logger.warning(
                "Dropped %d of %d fakes outside the test list that mix people from train and val. "
                "source.val_fraction=0 keeps them all; prepare then takes val from train.",
                len(mixed), sum(video.label == Label.FAKE for video in others),
            )  # fmt: skip
        people_of_test = {person for video in test for person in video.identities}
        shared = people_of_test & {person for video in kept for person in video.identities}
        if shared:
            self.known_leaks = [f"{len(shared)} of the {len(people_of_test)} people in test are in train or val too"]
            logger.warning(
                "%d of the %d people in the official test list are also in train or val. This is a flaw of the "
                "published list, which is kept for comparability: metrics on it overestimate performance on unseen "
                "people.",
                len(shared), len(people_of_test),
            )  # fmt: skip
        # The overlap is part of the published list and was logged above; renaming keeps the audit from refusing it.
        apart = [
            replace(video, identities=tuple(f"{person} (test list)" for person in video.identities)) for video in test
        ]
        videos_of_all = kept + apart
        split_of = {video.video_id: video.split for video in videos_of_all}
        return [
            video if split_of.get(str(video.original)) == video.split else replace(video, original=None)
            for video in videos_of_all
        ]

    def _make_video(self, part: str, path: Path) -> Video:
        people = _PERSON.findall(path.stem) if part != _YOUTUBE else []
        is_fake = part == _FAKES
        original = None
        if is_fake and len(people) == 2:
            original = self._make_id(ORIGINAL, _CELEBRITIES, f"{people[0]}_{path.stem.rpartition('_')[2]}")
        return Video(
            video_id=self._make_id(_FAKES if is_fake else ORIGINAL, part, path.stem),
            path=path,
            label=Label.FAKE if is_fake else Label.REAL,
            method=_FAKES if is_fake else ORIGINAL,
            kind=MediaKind.FRAMES if path.is_dir() else MediaKind.VIDEO,
            identities=tuple(people) or (f"{part}/{path.stem}",),
            original=original,
        )

    def _make_id(self, method: str, part: str, stem: str) -> str:
        return "/".join((self.name, method, stem) if method == part else (self.name, method, part, stem))

    def _read_test_list(self) -> dict[str, Label]:
        """Return the label of each listed video by `<part>/<stem>`; in the list, 1 means real."""
        path = self.root / TEST_LIST
        if not path.is_file():
            raise SourceError(
                f"No test list '{path}'. Download it again, or split by identity with source.splits=null."
            )
        listed, problems = {}, []
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if not line.strip():
                continue
            match = re.fullmatch(r"([01])\s+(\S+)/([^/\s]+)\.\w+", line.strip())
            part = match and _name_part(match.group(2).split("/")[0])
            if not match or not part:
                problems.append(f"line {number}: '{line.strip()}'")
            else:
                listed[f"{part}/{match.group(3)}"] = Label.REAL if match.group(1) == "1" else Label.FAKE
        if problems:
            raise SourceError(
                f"'{path}' has {len(problems)} lines not in the format '1 YouTube-real/00170.mp4':\n"
                f"{list_problems(problems)}\nDownload it again."
            )
        return listed


def _name_part(name: str) -> str | None:
    """Return the part of the dataset that a folder name stands for; some copies write `Youtube-real`."""
    return next((part for part in _PARTS if part.lower() == name.lower()), None)


def _find_parts(root: Path) -> dict[str, Path]:
    found = {part: folder for folder in list_folders(root) if (part := _name_part(folder.name))}
    return {part: _descend(found[part]) for part in _PARTS if part in found}


def _descend(folder: Path) -> Path:
    return next((folder / name for name in ("videos", "frames") if (folder / name).is_dir()), folder)
