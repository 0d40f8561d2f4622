"""Where the videos of FaceForensics++ lie: the tree of its download script, or the flat one of Kaggle."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import ConfigError
from unmask.media.frame_folder import holds_frames
from unmask.media.kinds import PICTURE_SUFFIXES
from unmask.media.listing import MEDIA_SUFFIXES
from unmask.sources.folders import list_entries, list_folders
from unmask.types import MediaKind

MEDIA = ("videos", "images", "frames")
"""Folders of the official tree that hold videos, or the frames somebody extracted from them."""

ACTORS, DEEP_FAKE_DETECTION = "actors", "DeepFakeDetection"
YOUTUBE = "youtube"

_FLAT_ORIGINALS = {YOUTUBE: ("original", "Original", "originals"), ACTORS: ("actors",)}


@dataclass(frozen=True)
class Clips:
    """The clips of one part of the dataset, such as those of a method.

    Args:
        folder: Where they lie, or should lie.
        suffix: Of their files; "" where each is a folder of frames.
        names: Those that are there, sorted.
        others: Names of media of another kind beside them, which are skipped.
    """

    folder: Path
    suffix: str
    names: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def kind(self) -> MediaKind:
        """Video, image, or folder of frames."""
        if not self.suffix:
            return MediaKind.FRAMES
        return MediaKind.PICTURE if self.suffix.lower() in PICTURE_SUFFIXES else MediaKind.VIDEO

    def path(self, name: str) -> Path:
        """Return where a clip lies, there or not."""
        return self.folder / f"{name}{self.suffix}"


@dataclass(frozen=True)
class Tree:
    """A copy of the dataset, whole or in part.

    Args:
        root: The folder that holds `original_sequences` and `manipulated_sequences`, or `original` and the methods.
        compression: `raw`, `c23` or `c40`; a folder of the official tree.
        media: One of `MEDIA`, or None for the first that the originals or a method have.

    Raises:
        ConfigError: `media` is another.
    """

    root: Path
    compression: str
    media: str | None = None

    def __post_init__(self) -> None:
        if self.media not in (None, *MEDIA):
            raise ConfigError(f"source.media='{self.media}' is unknown. Choose {', '.join(MEDIA)} or null.")

    @property
    def is_flat(self) -> bool:
        """Whether the methods are side by side, as in the copy on Kaggle."""
        return not any((self.root / name).is_dir() for name in ("original_sequences", "manipulated_sequences"))

    def find_methods(self, known: Sequence[str]) -> list[str]:
        """Return those of the known methods that have a folder, here or in another compression."""
        parent = self.root if self.is_flat else self.root / "manipulated_sequences"
        there = {folder.name for folder in list_folders(parent)}
        return [method for method in known if method in there]

    def list_originals(self, part: str) -> Clips:
        """Return the originals: those of YouTube, or the actors of DeepFakeDetection."""
        if self.is_flat:
            names = [name for name in _FLAT_ORIGINALS[part] if (self.root / name).is_dir()]
            return _list_clips(self.root / (names or _FLAT_ORIGINALS[part])[0])
        return self._choose(self.root / "original_sequences" / part / self.compression)

    def list_fakes(self, method: str) -> Clips:
        """Return the forgeries of a method."""
        if self.is_flat:
            return _list_clips(self.root / method)
        return self._choose(self.root / "manipulated_sequences" / method / self.compression)

    def _choose(self, folder: Path) -> Clips:
        media = [self.media] if self.media else [name for name in MEDIA if (folder / name).is_dir()]
        return _list_clips(folder / (media or MEDIA)[0])


def _list_clips(folder: Path) -> Clips:
    entries = list_entries(folder)
    known = [path for path in entries if path.suffix.lower() in MEDIA_SUFFIXES or holds_frames(path)]
    suffixes = Counter("" if path.is_dir() else path.suffix for path in known)
    suffix = suffixes.most_common(1)[0][0] if suffixes else ".mp4"
    names = {path.name.removesuffix(suffix) for path in known if ("" if path.is_dir() else path.suffix) == suffix}
    others = [path.name for path in known if ("" if path.is_dir() else path.suffix) != suffix]
    return Clips(folder, suffix, tuple(sorted(names)), tuple(others))
