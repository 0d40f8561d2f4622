"""FaceForensics++ in the layout of its download script, or in Kaggle's flat layout.

Roessler et al., FaceForensics++: Learning to Detect Manipulated Facial Images, ICCV 2019 (ondyari/FaceForensics).
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from unmask.errors import ConfigError, SourceError
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.media.listing import MEDIA_SUFFIXES, holds_frames
from unmask.sources.folders import (
    DownloadedSource,
    check_root,
    describe_folder,
    list_entries,
    list_folders,
    quote_some,
    refuse_layout,
)
from unmask.types import ORIGINAL, SPLITS, Label, MediaKind, Video

logger = logging.getLogger(__name__)

MEDIA = ("videos", "images", "frames")
"""Folders of the official tree that contain videos or frames extracted from them."""

ACTORS, DEEP_FAKE_DETECTION = "actors", "DeepFakeDetection"
YOUTUBE = "youtube"

_FLAT_ORIGINALS = {YOUTUBE: ("original", "Original", "originals"), ACTORS: ("actors",)}


@dataclass(frozen=True)
class Clips:
    """The clips of one part of the dataset, such as one method.

    Args:
        folder: Folder of the clips; need not exist.
        suffix: File extension of the clips; "" for folders of frames.
        names: Sorted names, without extension, of the clips that exist.
        others: Names of media of another kind in the folder, which are skipped.
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
        return MediaKind.IMAGE if self.suffix.lower() in IMAGE_SUFFIXES else MediaKind.VIDEO

    def path(self, name: str) -> Path:
        """Return the path of a clip, which need not exist."""
        return self.folder / f"{name}{self.suffix}"


@dataclass(frozen=True)
class Tree:
    """A copy of the dataset, whole or in part.

    Args:
        root: Folder that contains `original_sequences` and `manipulated_sequences`, or `original` and the methods.
        compression: `raw`, `c23` or `c40`; a folder of the official tree.
        media: One of `MEDIA`, or None for the first that exists in each part.

    Raises:
        ConfigError: `media` is unknown.
    """

    root: Path
    compression: str
    media: str | None = None

    def __post_init__(self) -> None:
        if self.media not in (None, *MEDIA):
            raise ConfigError(f"source.media='{self.media}' is unknown. Choose {', '.join(MEDIA)} or null.")

    @property
    def is_flat(self) -> bool:
        """Whether the methods are directly in the root, as in Kaggle's copy."""
        return not any((self.root / name).is_dir() for name in ("original_sequences", "manipulated_sequences"))

    def find_methods(self, known: Sequence[str]) -> list[str]:
        """Return the known methods that have a folder, in whatever compression."""
        parent = self.root if self.is_flat else self.root / "manipulated_sequences"
        there = {folder.name for folder in list_folders(parent)}
        return [method for method in known if method in there]

    def list_originals(self, part: str) -> Clips:
        """Return the originals of `youtube`, or of the `actors` of DeepFakeDetection."""
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


METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")


class FaceForensics(DownloadedSource):
    """Read `original_sequences/youtube/<c>/videos/AAA.mp4` and `manipulated_sequences/<method>/<c>/videos/AAA_BBB.mp4`.

    Also reads Kaggle's layout, `original/AAA.mp4` and `<method>/AAA_BBB.mp4`, and extracted frames: `images/` or
    `frames/` instead of `videos/`, with one folder per clip.

    `AAA_BBB` shows the face of BBB in video AAA, so both are identities of the fake, and its split is that of the pair.

    Args:
        root: Folder that contains `original_sequences` and `manipulated_sequences`, or `original` and the methods.
        name: First part of every `video_id`.
        compression: `raw`, `c23` or `c40`.
        methods: Folders of fakes to read; None for all of `METHODS` that exist.
        splits: `official` for the lists of the paper, a folder with `train.json`, `val.json` and `test.json` in the
            same format, or None to let `prepare` split by identity.
        media: `videos`, `images` or `frames`; None for the first that exists.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "ffpp",
        compression: str = "c23",
        methods: Sequence[str] | None = None,
        splits: str | Path | None = "official",
        media: str | None = None,
    ) -> None:
        if methods is not None and DEEP_FAKE_DETECTION in methods:
            raise ConfigError(
                f"source.methods={list(methods)}: '{DEEP_FAKE_DETECTION}' has other people and file names. "
                f"Read it with source=dfd source.root='{root}'."
            )
        self.root = Path(root)
        self.name = name
        self.compression = compression
        self.methods = None if methods is None else tuple(methods)
        self.splits = splits
        self.tree = Tree(self.root, compression, media)

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the official layout, or the flat one by its originals and a method."""
        if (root / "original_sequences" / YOUTUBE).is_dir():
            return f"'original_sequences/{YOUTUBE}/'"
        tree = Tree(root, "c23")
        methods = tree.find_methods(METHODS)
        if not tree.is_flat and methods:
            return f"'manipulated_sequences/{methods[0]}/'"
        if methods and tree.list_originals(YOUTUBE).folder.is_dir():
            return f"'original/' and '{methods[0]}/'"
        return None

    def list_videos(self) -> list[Video]:
        """Return every video in the split lists, including missing ones; without lists, every video in the folders."""
        check_root(self.root)
        methods = self._find_methods()
        originals = self.tree.list_originals(YOUTUBE)
        fakes_of = {method: self.tree.list_fakes(method) for method in methods}
        self._check_found(originals, fakes_of)
        split_of = self._read_splits()
        same_person = read_same_youtube_video() if self.splits is None else {}
        reals = self._list_reals(originals, split_of)
        known = {video.video_id for video in reals}
        fakes = [video for method in methods for video in self._list_fakes(method, fakes_of[method], split_of, known)]
        videos = unify_people(reals + fakes, same_person)
        self._check_names(videos, {ORIGINAL: originals, **fakes_of})
        return videos

    def _find_methods(self) -> list[str]:
        """Return the methods to read: the configured ones, or all that exist."""
        if self.methods is not None:
            return list(self.methods)
        methods = self.tree.find_methods(METHODS)
        logger.info(
            "Methods read: %s; not found: %s.",
            ", ".join(methods) or "none", ", ".join(method for method in METHODS if method not in methods) or "none",
        )  # fmt: skip
        if self.tree.find_methods([DEEP_FAKE_DETECTION]):
            logger.info("Also found '%s', which source=dfd reads.", DEEP_FAKE_DETECTION)
        return methods

    def _check_found(self, originals: Clips, fakes_of: Mapping[str, Clips]) -> None:
        """Raise a SourceError for another layout, a missing compression, or a configured method without videos."""
        if not originals.names and not any(clips.names for clips in fakes_of.values()):
            there = self._list_compressions()
            official = self.root / "original_sequences" / YOUTUBE / self.compression / "videos"
            flat = self.root / "original"
            raise refuse_layout(
                self.root,
                source="ffpp",
                layout="FaceForensics++",
                looked_for=f"'{official}'{f' (found {quote_some(there)})' if there else ''} and '{flat}'",
                advice="Set source.root to the folder that contains 'original_sequences', or 'original' and the "
                "methods, and source.compression to one that exists.",
            )
        for method, clips in fakes_of.items():
            if not clips.names and self.methods is not None:
                parent = self.root if self.tree.is_flat else self.root / "manipulated_sequences"
                raise SourceError(
                    f"No videos in '{clips.folder}' for method '{method}'. Found in '{parent}': "
                    f"{describe_folder(parent)}. List the methods you have in source.methods=[...], or drop that key."
                )

    def _list_compressions(self) -> list[str]:
        parents = (self.root / "original_sequences" / YOUTUBE, *(self.root / "manipulated_sequences").glob("*"))
        return sorted({folder.name for parent in parents for folder in list_folders(parent)})

    def _list_reals(self, clips: Clips, split_of: Mapping[str, str] | None) -> list[Video]:
        names = sorted({name for pair in split_of for name in pair.split("_")}) if split_of else clips.names
        return [
            Video(
                video_id=self._make_id(ORIGINAL, name),
                path=clips.path(name),
                label=Label.REAL,
                method=ORIGINAL,
                kind=clips.kind,
                compression=self.compression,
                identities=(name,),
                split=split_of.get(name) if split_of else None,
            )
            for name in names
        ]

    def _list_fakes(
        self, method: str, clips: Clips, split_of: Mapping[str, str] | None, known: set[str]
    ) -> list[Video]:
        names = [name for name in split_of if "_" in name] if split_of else clips.names
        videos = []
        for name in names:
            target, _, donor = name.partition("_")
            original = self._make_id(ORIGINAL, target)
            videos.append(
                Video(
                    video_id=self._make_id(method, name),
                    path=clips.path(name),
                    label=Label.FAKE,
                    method=method,
                    kind=clips.kind,
                    compression=self.compression,
                    identities=(target, donor) if donor else (target,),
                    original=original if original in known else None,
                    split=split_of.get(name) if split_of else None,
                )
            )
        return videos

    def _check_names(self, videos: Sequence[Video], parts: Mapping[str, Clips]) -> None:
        """Log files that are not in the split lists; raise a SourceError if all files of a part are unlisted."""
        for method, clips in parts.items():
            promised = {video.path.name.removesuffix(clips.suffix) for video in videos if video.method == method}
            unexpected = [name for name in clips.names if name not in promised]
            if unexpected and len(unexpected) == len(clips.names):
                raise SourceError(
                    f"None of the {len(promised)} videos in the split lists is in '{clips.folder}': looked for names "
                    f"such as '{clips.path(min(promised, default='000'))}', found {quote_some(unexpected)}. Set "
                    f"source.splits=null to read all files."
                )
            left = [*unexpected, *clips.others]
            if left:
                logger.warning(
                    "Skipped %d entries of '%s' that are not in the split lists or of another kind: %s.",
                    len(left), clips.folder, quote_some(left),
                )  # fmt: skip

    def _make_id(self, method: str, name: str) -> str:
        return "/".join((self.name, method, self.compression, name))

    def _read_splits(self) -> dict[str, str] | None:
        """Return the split of every clip `AAA` and of every pair `AAA_BBB`, in both directions."""
        if self.splits is None:
            return None
        if self.splits == "official":
            logger.warning(
                "In the official FaceForensics++ split, 7 groups of clips cut from the same YouTube video are in more "
                "than one split. Set source.splits=null to split by identity instead."
            )
        split_of: dict[str, str] = {}
        for split in SPLITS:
            for first, second in self._read_pairs(split):
                for name in (first, second, f"{first}_{second}", f"{second}_{first}"):
                    if split_of.setdefault(name, split) != split:
                        raise SourceError(
                            f"'{name}' is in the lists of both '{split_of[name]}' and '{split}' (source.splits="
                            f"'{self.splits}'). Remove it from one list."
                        )
        return split_of

    def _read_pairs(self, split: str) -> list[tuple[str, str]]:
        if self.splits == "official":
            text = (files("unmask.sources") / "ffpp_splits" / f"{split}.json").read_text()
        else:
            path = Path(str(self.splits)) / f"{split}.json"
            if not path.is_file():
                raise SourceError(
                    f"No list '{path}'. source.splits must be 'official', null, or a folder with train.json, val.json "
                    f"and test.json; found there: {describe_folder(path.parent)}."
                )
            text = path.read_text()
        try:
            return [(str(first), str(second)) for first, second in json.loads(text)]
        except (ValueError, TypeError) as error:
            raise SourceError(
                f"The {split} list in source.splits='{self.splits}' is not a JSON list of pairs such as "
                f'[["071", "054"], ...]: {error}.'
            ) from error


def read_same_youtube_video() -> dict[str, str]:
    """Map clips cut from the same YouTube video to a common identity."""
    groups = json.loads((files("unmask.sources") / "ffpp_splits" / "same_youtube_video.json").read_text())
    return {clip: "+".join(group) for group in groups for clip in group}


def unify_people(videos: Iterable[Video], same_person: Mapping[str, str]) -> list[Video]:
    """Replace identities by those that they share with other clips."""
    return [
        replace(video, identities=tuple(same_person.get(person, person) for person in video.identities))
        for video in videos
    ]
