"""Folders named after their label, as most picture datasets are published."""

from collections.abc import Iterator
from pathlib import Path

from unmask.errors import SourceError
from unmask.forgeries import Forgeries
from unmask.media.kinds import PICTURE_SUFFIXES, list_media
from unmask.sources.folders import check_root, describe_folder, find_forgeries
from unmask.types import ORIGINAL, Label, MediaKind, Video

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class ImageFolder:
    """Read `real*/` and `fake*/`, or `train|val|valid|test/{real,fake}*/`, with pictures or videos at any depth below.

    The name of a fake folder is its method (`fake_stylegan`); every file is a group of its own, since such datasets
    tell nothing about identities.

    Args:
        root: The folder that holds the label or the split folders.
        name: First part of every `video_id`.
    """

    def __init__(self, root: str | Path, *, name: str = "image_folder") -> None:
        self.root = Path(root)
        self.name = name

    @property
    def forgeries(self) -> Forgeries:
        """Who made the fakes: others, unless the folder is one that Unmask wrote."""
        return find_forgeries(self.root)

    def list_videos(self) -> list[Video]:
        """Return every picture and video below the label folders."""
        check_root(self.root)
        videos = [
            self._make_video(path, label, folder, split)
            for folder, label, split in self._find_label_folders()
            for path in list_media(folder)
        ]
        labels = {video.label for video in videos}
        if labels != {Label.REAL, Label.FAKE}:
            raise SourceError(
                f"'{self.root}' is not laid out by label: looked for 'real*/' and 'fake*/' with pictures or videos, "
                f"there or below 'train/', 'val/' (or 'valid/'), 'test/'; found {len(videos)} files, "
                f"{'none of them ' + ('fake' if Label.REAL in labels else 'real') if videos else 'no label'}, in "
                f"{describe_folder(self.root)}."
            )
        return videos

    def _find_label_folders(self) -> Iterator[tuple[Path, Label, str | None]]:
        parents: list[tuple[Path, str | None]] = [(self.root, None)]
        parents += [(path, _SPLIT_NAMES[path.name.lower()]) for path in _list_folders(self.root) if _is_split(path)]
        for parent, split in parents:
            for folder in _list_folders(parent):
                if folder.name.lower().startswith("real"):
                    yield folder, Label.REAL, split
                elif folder.name.lower().startswith("fake"):
                    yield folder, Label.FAKE, split

    def _make_video(self, path: Path, label: Label, folder: Path, split: str | None) -> Video:
        return Video(
            video_id=f"{self.name}/{path.relative_to(self.root).as_posix()}",
            path=path,
            label=label,
            method=ORIGINAL if label == Label.REAL else folder.name,
            kind=MediaKind.PICTURE if path.suffix.lower() in PICTURE_SUFFIXES else MediaKind.VIDEO,
            split=split,
        )


def _list_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in _SPLIT_NAMES
