"""FaceForensics++ in the layout of its download script, or in Kaggle's flat layout.

Roessler et al., FaceForensics++: Learning to Detect Manipulated Facial Images, ICCV 2019 (ondyari/FaceForensics).
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import ConfigError, SourceError
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.media.listing import MEDIA_SUFFIXES, holds_frames
from unmask.sources.ffpp_lists import STRICT, SplitLists, read_same_youtube_video, read_split_lists, unify_people
from unmask.sources.folders import (
    MEDIA,
    DownloadedSource,
    check_media,
    descend,
    describe_folder,
    list_entries,
    list_folders,
    log_choice_of_media,
    note_unexpected,
    quote_some,
)
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, MediaKind, Video

logger = logging.getLogger(__name__)

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
        others: Names of entries of another kind in the folder, which are skipped.
        passed_over: Names of hidden entries and unfinished downloads.
    """

    folder: Path
    suffix: str
    names: tuple[str, ...]
    others: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

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
        check_media(self.media)

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
            return _list_clips(descend(self.root / (names or _FLAT_ORIGINALS[part])[0], self.media))
        return self._choose(self.root / "original_sequences" / part / self.compression)

    def list_fakes(self, method: str) -> Clips:
        """Return the forgeries of a method."""
        if self.is_flat:
            return _list_clips(descend(self.root / method, self.media))
        return self._choose(self.root / "manipulated_sequences" / method / self.compression)

    def find_mask(self, method: str, name: str) -> Path | None:
        """Return the video that marks what a method forged in a clip, if it exists."""
        mask = self.root / "manipulated_sequences" / method / "masks" / "videos" / f"{name}.mp4"
        return mask if mask.is_file() else None

    def _choose(self, folder: Path) -> Clips:
        chosen = descend(folder, self.media)
        return _list_clips(folder / (self.media or MEDIA[0]) if chosen == folder else chosen)


def _list_clips(folder: Path) -> Clips:
    passed_over: list[str] = []
    by_suffix: dict[str, list[str]] = defaultdict(list)
    others: list[str] = []
    entries = list_entries(folder, skipped=passed_over)
    folders = set(list_folders(folder))  # in one call; asking each of many files takes longer than all the rest
    for path in entries:
        suffix = "" if path in folders else path.suffix
        if suffix.lower() in MEDIA_SUFFIXES:
            by_suffix[suffix].append(path.name.removesuffix(suffix))
        elif path in folders and (path.suffix.lower() in MEDIA_SUFFIXES or holds_frames(path)):
            by_suffix[""].append(path.name)
        else:
            others.append(path.name)
    most = max(by_suffix, key=lambda suffix: len(by_suffix[suffix]), default=".mp4")
    others += [name + suffix for suffix, names in by_suffix.items() if suffix != most for name in names]
    return Clips(folder, most, tuple(sorted(by_suffix.get(most, ()))), tuple(sorted(others)), tuple(passed_over))


def account_for(source: DownloadedSource, clips: Iterable[Clips]) -> None:
    """Record the folders of clips as read, and log which folder is read where videos and frames lie side by side."""
    for folder in (found.folder for found in clips):
        source.read.add(folder)
        log_choice_of_media(folder)


METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")


class FaceForensics(DownloadedSource):
    """Read `original_sequences/youtube/<c>/videos/AAA.mp4` and `manipulated_sequences/<method>/<c>/videos/AAA_BBB.mp4`.

    Also reads Kaggle's layout, `original/AAA.mp4` and `<method>/AAA_BBB.mp4`, and extracted frames: `images/` or
    `frames/` instead of `videos/`, with one folder per clip.

    `manipulated_sequences/<method>/masks/videos/AAA_BBB.mp4`, where it exists, marks the forged face of a fake.

    `AAA_BBB` shows the face of BBB in video AAA, so both are identities of the fake, and its split is that of the pair.

    Args:
        root: Folder that contains `original_sequences` and `manipulated_sequences`, or `original` and the methods.
        name: First part of every `video_id`.
        compression: `raw`, `c23` or `c40`, or several, which have the same splits.
        methods: Folders of fakes to read; None for all of `METHODS` that exist.
        splits: `official` for the lists of the paper, `strict` for those without the clips of train that are cut from
            the same YouTube video as one of val or test, a folder with `train.json`, `val.json` and `test.json` in the
            same format, or None to let `prepare` split by identity.
        media: `videos`, `images` or `frames`; None for the first that exists.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "ffpp",
        compression: str | Sequence[str] = "c23",
        methods: Sequence[str] | None = None,
        splits: str | Path | None = "official",
        media: str | None = None,
        follow_links: bool = False,
    ) -> None:
        if methods is not None and DEEP_FAKE_DETECTION in methods:
            raise ConfigError(
                f"source.methods={list(methods)}: '{DEEP_FAKE_DETECTION}' has other people and file names. "
                f"Read it with source=dfd source.root='{root}'."
            )
        levels = (compression,) if isinstance(compression, str) else tuple(compression)
        if not levels or len(set(levels)) < len(levels):
            raise ConfigError(
                f"source.compression={list(levels)} must name one or more levels once, such as [c23,c40]."
            )
        self.root = Path(root)
        self.name = name
        self.methods = None if methods is None else tuple(methods)
        self.splits = splits
        self.trees = tuple(Tree(self.root, level, media) for level in levels)
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the official layout, or the flat one by its originals and a method, unless Unmask drew it."""
        if (root / "synthetic.json").is_file():  # has other pairs than the paper; source=synthetic reads it
            return None
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
        self._start_listing()
        if len(self.trees) > 1 and self.trees[0].is_flat:
            raise ConfigError(
                f"source.compression={[tree.compression for tree in self.trees]}: '{self.root}' has no folders of "
                f"compressions, as in Kaggle's copy. Name the one it has, such as source.compression=c23."
            )
        methods = self._find_methods()
        lists = None if self.splits is None else read_split_lists(self.splits)
        self.read.add(Path(str(self.splits)))
        videos = [video for tree in self.trees for video in self._list_tree(tree, methods, lists)]
        if lists is not None:
            self.known_leaks = [f"clips of one YouTube video: {group}" for group in lists.shared]
        if self.splits not in (None, STRICT):
            return videos
        return unify_people(videos, read_same_youtube_video())

    def _list_tree(self, tree: Tree, methods: Sequence[str], lists: SplitLists | None) -> list[Video]:
        """Return the videos of one compression."""
        originals = tree.list_originals(YOUTUBE)
        fakes_of = {method: tree.list_fakes(method) for method in methods}
        self._check_found(tree, originals, fakes_of)
        account_for(self, [originals, *fakes_of.values()])
        self.read |= {self.root / "manipulated_sequences" / method / "masks" for method in methods}
        split_of = lists.split_of if lists else None
        reals = self._list_reals(tree, originals, split_of)
        known = {video.video_id for video in reals}
        fakes = [
            video for method in methods for video in self._list_fakes(tree, method, fakes_of[method], split_of, known)
        ]
        self._check_names(tree, reals + fakes, {ORIGINAL: originals, **fakes_of}, lists)
        return reals + fakes

    def _find_methods(self) -> list[str]:
        """Return the methods to read: the configured ones, or all that exist."""
        if self.methods is not None:
            return list(self.methods)
        tree = self.trees[0]
        methods = tree.find_methods(METHODS)
        logger.info(
            "Methods read: %s; not found: %s.",
            ", ".join(methods) or "none", ", ".join(method for method in METHODS if method not in methods) or "none",
        )  # fmt: skip
        if tree.find_methods([DEEP_FAKE_DETECTION]):
            logger.info("Also found '%s', which source=dfd reads.", DEEP_FAKE_DETECTION)
        return methods

    def _check_found(self, tree: Tree, originals: Clips, fakes_of: Mapping[str, Clips]) -> None:
        """Raise a SourceError for another layout, a missing compression, or a configured method without videos."""
        if not originals.names and not any(clips.names for clips in fakes_of.values()):
            there = self._list_compressions()
            official = self.root / "original_sequences" / YOUTUBE / tree.compression / "videos"
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
                parent = self.root if tree.is_flat else self.root / "manipulated_sequences"
                raise SourceError(
                    f"No videos in '{clips.folder}' for method '{method}'. Found in '{parent}': "
                    f"{describe_folder(parent)}. List the methods you have in source.methods=[...], or drop that key."
                )

    def _list_compressions(self) -> list[str]:
        parents = (self.root / "original_sequences" / YOUTUBE, *(self.root / "manipulated_sequences").glob("*"))
        return sorted({folder.name for parent in parents for folder in list_folders(parent)})

    def _list_reals(self, tree: Tree, clips: Clips, split_of: Mapping[str, str] | None) -> list[Video]:
        names = sorted(name for name in split_of if "_" not in name) if split_of else clips.names
        return [
            Video(
                video_id=_make_id(self.name, ORIGINAL, tree, name),
                path=clips.path(name),
                label=Label.REAL,
                method=ORIGINAL,
                kind=clips.kind,
                compression=tree.compression,
                identities=(name,),
                split=split_of.get(name) if split_of else None,
            )
            for name in names
        ]

    def _list_fakes(
        self, tree: Tree, method: str, clips: Clips, split_of: Mapping[str, str] | None, known: set[str]
    ) -> list[Video]:
        names = [name for name in split_of if "_" in name] if split_of else clips.names
        videos = []
        for name in names:
            target, _, donor = name.partition("_")
            original = _make_id(self.name, ORIGINAL, tree, target)
            videos.append(
                Video(
                    video_id=_make_id(self.name, method, tree, name),
                    path=clips.path(name),
                    label=Label.FAKE,
                    method=method,
                    kind=clips.kind,
                    compression=tree.compression,
                    identities=(target, donor) if donor else (target,),
                    original=original if original in known else None,
                    split=split_of.get(name) if split_of else None,
                    mask=tree.find_mask(method, name) if clips.kind is MediaKind.VIDEO else None,
                )
            )
        num_masks = sum(video.mask is not None for video in videos)
        if num_masks:
            logger.info(
                "%d of the %d fakes of %s have masks, which tell the forged face.", num_masks, len(videos), method
            )
        return videos

    def _advise_on_splits(self) -> str:
        own = self.root / "splits"  # which source=forge writes
        ways = f"source.splits='{own}' to use its own lists, or " if (own / "train.json").is_file() else ""
        return f"Set {ways}source.splits=null to read all files."

    def _check_names(
        self, tree: Tree, videos: Sequence[Video], parts: Mapping[str, Clips], lists: SplitLists | None
    ) -> None:
        """Log files that are not in the split lists; raise a SourceError if all files of a part are unlisted."""
        promised_of: dict[str, set[str]] = defaultdict(set)
        for video in videos:
            promised_of[video.method].add(video.video_id.rpartition("/")[2])
        dropped = lists.dropped if lists else frozenset()
        for method, clips in parts.items():
            promised, part = promised_of[method], f"{method} {tree.compression}"
            unexpected = [name for name in clips.names if name not in promised and name not in dropped]
            if unexpected and len(unexpected) == len(clips.names):
                raise SourceError(
                    f"None of the {len(promised)} videos in the split lists is in '{clips.folder}': looked for names "
                    f"such as '{clips.path(min(promised, default='000'))}', found {quote_some(unexpected)}. "
                    f"{self._advise_on_splits()}"
                )
            left = [*unexpected, *clips.others]
            if left:
                logger.warning(
                    "Skipped %d entries of '%s' that are not in the split lists or of another kind: %s.",
                    len(left), clips.folder, quote_some(left),
                )  # fmt: skip
            note_unexpected(self, part, "not in the split lists", unexpected)
            note_unexpected(self, part, "of another kind", clips.others)
            note_unexpected(self, part, "hidden or unfinished", clips.passed_over)


def _make_id(name: str, method: str, tree: Tree, clip: str) -> str:
    return "/".join((name, method, tree.compression, clip))
