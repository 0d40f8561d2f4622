"""UADFV (Yang, Li and Lyu, Exposing Deep Fakes Using Inconsistent Head Poses, ICASSP 2019)."""

import logging
import re
from pathlib import Path

from unmask.sources.folders import (
    DownloadedSource,
    check_media,
    descend,
    kind_of,
    list_clips,
    list_folders,
    list_visible_names,
    warn_of_absent,
)
from unmask.sources.labels import PeopleSplit
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, Video

METHOD = "FakeApp"

_PARTS = {"real": Label.REAL, "fake": Label.FAKE}
_FAKE_NAME = re.compile(r"(\d+)_fake(\.\w+)?")

logger = logging.getLogger(__name__)


class UADFV(DownloadedSource):
    """Read `real/0000.mp4` and `fake/0000_fake.mp4`, which was made from it.

    The videos, or folders of frames, may be one level deeper (`videos/` or `frames/`). All fakes show the same donor,
    who is in no real video and therefore does not count as an identity: that would tie the whole dataset together.

    Args:
        root: Folder that contains `real` and `fake`.
        name: First part of every `video_id`.
        splits: `test` puts everything into test, as these 98 videos usually serve for cross-dataset evaluation;
            `identity` splits by pair of original and fake.
        val_fraction: Share of the pairs for validation, with `identity`.
        test_fraction: Share of the pairs for test, with `identity`.
        seed: Seed of the split, with `identity`.
        media: `videos`, `images` or `frames` of each part; None for the first that exists.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "uadfv",
        splits: str = "test",
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        seed: int = 0,
        media: str | None = None,
        follow_links: bool = False,
    ) -> None:
        self.root = Path(root)
        self.name = name
        self.split = PeopleSplit(splits, val_fraction, test_fraction, seed)
        check_media(media)
        self.media = media
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize a fake by its name, such as `fake/0000_fake.mp4`."""
        folder = _find_parts(root).get(Label.FAKE)
        if folder is None:
            return None
        found = next((name for name in list_visible_names(folder) if _FAKE_NAME.fullmatch(name)), None)
        return f"'{folder.relative_to(root).as_posix()}/{found}'" if found else None

    def list_videos(self) -> list[Video]:
        """Return every video in the folders; the dataset has no list of its videos."""
        self._start_listing()
        if self.recognize(self.root) is None and not self._has_originals_alone():
            raise refuse_layout(
                self.root, source="uadfv", layout="UADFV", looked_for="'real/0000.mp4' and 'fake/0000_fake.mp4'",
                advice="Set source.root to the folder that contains 'real' and 'fake'.",
            )  # fmt: skip
        parts = _find_parts(self.root, self.media)
        warn_of_absent(self.root, [name for name, label in _PARTS.items() if label not in parts])
        clips = [
            (label, path) for name, label in _PARTS.items() if label in parts
            for path in list_clips(parts[label], self, name)
        ]  # fmt: skip
        known = {path.stem for label, path in clips if label == Label.REAL}
        videos = [self._make_video(label, path, known) for label, path in clips]
        return self.split.apply(videos)

    def part_of(self, video: Video) -> str:
        """Return the folder of a video, `real` or `fake`."""
        return video.label.name.lower()

    def _has_originals_alone(self) -> bool:
        """Return whether only `real/` was downloaded, with the numbered names of this dataset."""
        parts = _find_parts(self.root)
        return set(parts) == {Label.REAL} and any(
            Path(name).stem.isdigit() for name in list_visible_names(parts[Label.REAL])
        )

    def _make_video(self, label: Label, path: Path, known: set[str]) -> Video:
        number = path.stem.removesuffix("_fake")
        return Video(
            video_id=self._make_id(label, path.stem),
            path=path,
            label=label,
            method=METHOD if label == Label.FAKE else ORIGINAL,
            kind=kind_of(path),
            identities=(number,),
            original=self._make_id(Label.REAL, number) if label == Label.FAKE and number in known else None,
        )

    def _make_id(self, label: Label, stem: str) -> str:
        return "/".join((self.name, METHOD if label == Label.FAKE else ORIGINAL, stem))


def _find_parts(root: Path, media: str | None = None) -> dict[Label, Path]:
    folders = {folder.name.lower(): folder for folder in list_folders(root)}
    return {label: descend(folders[name], media) for name, label in _PARTS.items() if name in folders}
