"""FFIW-10K (Zhou et al., Face Forensics in the Wild, CVPR 2021)."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import SourceError
from unmask.sources.folders import (
    DownloadedSource,
    check_media,
    descend,
    keep_first,
    kind_of,
    list_clips,
    list_folders,
    list_visible_names,
    note_unexpected,
    quote_some,
    warn_of_absent,
)
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, SPLITS, Label, Video

METHOD = "FFIW"

_PARTS = {"source": Label.REAL, "target": Label.FAKE}
_PREFIX = re.compile(r"(train|val|test)_(\w+)", re.I)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Clip:
    """A clip on disk, with what its folders or its name say."""

    path: Path
    label: Label
    split: str
    number: str


class FFIW(DownloadedSource):
    """Read `source/<split>/*.mp4` (real) and `target/<split>/*.mp4` (fake), with `train`, `val` and `test`.

    The root may also be the folder that contains both downloads, `FFIW10K-v1-release` (train and val) and
    `FFIW10K-v1-release-test`. Clips may be one level deeper (`videos/`), or have their split in front of their name
    (`source/videos/test_00000001.mp4`). `target_mask` is not read.

    The dataset names no people. Real and fake clips of the same number in a split form a group, and so do the numbers
    that the pair lists `splits/<split>.json` connect, if they are there. Only some faces in a fake are forged.

    Args:
        root: Folder that contains `source` and `target`, or the downloads.
        name: First part of every `video_id`.
        media: `videos`, `images` or `frames` of each part; None for the first that exists.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self, root: str | Path, *, name: str = "ffiw", media: str | None = None, follow_links: bool = False
    ) -> None:
        self.root = Path(root)
        self.name = name
        check_media(media)
        self.media = media
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize a split inside `source` or `target`."""
        for release in _find_releases(root):
            for part in _PARTS:
                folder = release / part
                for split in SPLITS:
                    if (folder / split).is_dir():
                        return f"'{(folder / split).relative_to(root).as_posix()}/'"
                name = next(
                    (name for name in list_visible_names(descend(folder)) if _PREFIX.fullmatch(Path(name).stem)), None
                )
                if name is not None:
                    return f"'{(descend(folder) / name).relative_to(root).as_posix()}'"
        return None

    def list_videos(self) -> list[Video]:
        """Return every video in the folders; the dataset has no list of all its videos."""
        self._start_listing()
        if self.recognize(self.root) is None:
            raise refuse_layout(
                self.root, source="ffiw", layout="FFIW-10K", looked_for="'source/train/' and 'target/train/'",
                advice="Set source.root to the folder that contains 'source' and 'target'.",
            )  # fmt: skip
        releases = _find_releases(self.root)
        clips = [clip for release in releases for clip in self._list_release(release)]
        there = {(clip.label, clip.split) for clip in clips}
        warn_of_absent(
            self.root,
            [f"{part}/{split}" for part, label in _PARTS.items() for split in SPLITS if (label, split) not in there],
        )
        self.read |= {place for release in releases for split in SPLITS for place in _list_places(release, split)}
        partners = _read_pairs(releases)
        return keep_first((self._make_video(clip, partners) for clip in clips), self, what="videos")

    def _list_release(self, release: Path) -> list[_Clip]:
        clips, unknown = [], []
        for part, label in _PARTS.items():
            splits = [split for split in SPLITS if (release / part / split).is_dir()]
            for split in splits:
                found = list_clips(release / part / split, self, f"{part}/{split}")
                clips += [_Clip(path, label, split, path.stem) for path in found]
            for path in [] if splits else list_clips(release / part, self, part):
                match = _PREFIX.fullmatch(path.stem)
                if match is None:
                    unknown.append(path.name)
                else:
                    clips.append(_Clip(path, label, match[1].lower(), match[2]))
        if unknown:
            logger.warning("Skipped %d videos in '%s' without a split: %s.", len(unknown), release, quote_some(unknown))
        note_unexpected(self, "", "without a split", unknown)
        return clips

    def part_of(self, video: Video) -> str:
        """Return the folder of a video, such as `target/train`."""
        return f"{next(part for part, label in _PARTS.items() if label == video.label)}/{video.split}"

    def _make_video(self, clip: _Clip, partners: Mapping[str, tuple[str, ...]]) -> Video:
        method = METHOD if clip.label == Label.FAKE else ORIGINAL
        own = f"{clip.split}/{_strip(clip.number)}"
        return Video(
            video_id="/".join((self.name, method, clip.split, clip.number)),
            path=clip.path,
            label=clip.label,
            method=method,
            kind=kind_of(clip.path),
            identities=(own, *partners.get(own, ())),
            split=clip.split,
        )


def _find_releases(root: Path) -> list[Path]:
    """Return the folders with `source` or `target`: the root, or folders named FFIW below it, down to two levels."""
    level = [root]
    for _ in range(3):
        found = [folder for folder in level if any((folder / part).is_dir() for part in _PARTS)]
        if found:
            return found
        level = [child for folder in level for child in list_folders(folder) if "ffiw" in child.name.lower()]
    return []


def _read_pairs(releases: list[Path]) -> dict[str, tuple[str, ...]]:
    """Return the partners of each `<split>/<number>` in the pair lists; empty without lists."""
    partners: dict[str, set[str]] = {}
    for release in releases:
        for split in SPLITS:
            path = next((path for path in _list_places(release, split) if path.is_file()), None)
            for one, other in _read_list(path) if path else ():
                first, second = f"{split}/{_strip(one)}", f"{split}/{_strip(other)}"
                partners.setdefault(first, set()).add(second)
                partners.setdefault(second, set()).add(first)
    return {name: tuple(sorted(others - {name})) for name, others in partners.items()}


def _list_places(release: Path, split: str) -> tuple[Path, Path]:
    """Return where the pair list of a split may lie."""
    return release / "splits" / f"{split}.json", release / f"{split}.json"


def _read_list(path: Path) -> list[tuple[str, str]]:
    try:
        return [(str(one), str(other)) for one, other in json.loads(path.read_text(encoding="utf-8-sig"))]
    except (ValueError, TypeError) as error:
        raise SourceError(
            f"'{path}' is not a JSON list of pairs such as [[1, 3], ...]: {error}. Download it again, or remove it."
        ) from error


def _strip(number: str) -> str:
    """Return a number without leading zeros, as the pair lists write it."""
    return number.lstrip("0") or number[-1:]
