"""DeeperForensics-1.0 (Jiang et al., DeeperForensics-1.0: A Large-Scale Dataset for Real-World Face Forgery Detection,
CVPR 2020).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.sources.ffpp import YOUTUBE, Clips, Tree, account_for
from unmask.sources.ffpp_lists import read_same_youtube_video, unify_people
from unmask.sources.folders import (
    DownloadedSource,
    check_media,
    describe_folder,
    kind_of,
    list_clips,
    note_unexpected,
    quote_some,
    warn_of_absent,
)
from unmask.sources.recognition import list_nearby, refuse_layout
from unmask.types import ORIGINAL, SPLITS, Label, Video

VARIANTS = (
    "end_to_end", *(f"end_to_end_level_{level}" for level in range(1, 6)), "end_to_end_random_level",
    *(f"end_to_end_mix_{count}_distortions" for count in range(2, 5)), "reenact_postprocess",
)  # fmt: skip

_FAKES = "manipulated_videos"

logger = logging.getLogger(__name__)


class DeeperForensics(DownloadedSource):
    """Read `manipulated_videos/<variant>/000_M101.mp4`: the face of actor M101 on video 000 of FaceForensics++.

    The real class is the originals of FaceForensics++, which the dataset does not contain. `source_videos` shows the
    actors in a studio; the authors say that it is not the real class, and it is not read.

    Args:
        root: Folder that contains `manipulated_videos` and `lists`.
        name: First part of every `video_id`.
        ffpp_root: Folder of FaceForensics++, in its official or its flat layout; None to look in the root and in the
            folders beside it.
        compression: Compression of the originals: `raw`, `c23` or `c40`; a folder of the official layout.
        variants: Folders of fakes to read; None for all of `VARIANTS` that exist.
        splits: `official` for `lists/splits/{train,val,test}.txt`, or None to let `prepare` split by identity.
        media: `videos`, `images` or `frames` of each part; None for the first that exists.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "deeperforensics",
        ffpp_root: str | Path | None = None,
        compression: str = "c23",
        variants: Sequence[str] | None = ("end_to_end",),
        splits: str | None = "official",
        media: str | None = None,
        follow_links: bool = False,
    ) -> None:
        unknown = [variant for variant in variants or () if variant not in VARIANTS]
        if unknown or (variants is not None and not variants):
            raise ConfigError(
                f"source.variants={list(variants or ())} must name at least one of {', '.join(VARIANTS)}, or be null."
            )
        if splits not in (None, "official"):
            raise ConfigError(f"source.splits='{splits}' is unknown. Choose official or null.")
        self.root = Path(root)
        self.name = name
        self.ffpp_root = None if ffpp_root is None else Path(ffpp_root)
        self.compression = compression
        self.variants = None if variants is None else tuple(variants)
        self.splits = splits
        check_media(media)
        self.media = media
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize a variant below `manipulated_videos`."""
        return next((f"'{_FAKES}/{variant}/'" for variant in VARIANTS if (root / _FAKES / variant).is_dir()), None)

    def list_videos(self) -> list[Video]:
        """Return every fake in the lists and its original, including missing ones; without lists, every fake there."""
        self._start_listing()
        there = [variant for variant in VARIANTS if (self.root / _FAKES / variant).is_dir()]
        if not there:
            raise refuse_layout(
                self.root, source="deeperforensics", layout="DeeperForensics-1.0",
                looked_for=f"'{_FAKES}/{VARIANTS[0]}/'",
                advice=f"Set source.root to the folder that contains '{_FAKES}'.",
            )  # fmt: skip
        variants = there if self.variants is None else list(self.variants)
        if not set(variants) & set(there):
            raise SourceError(
                f"None of source.variants={variants} is in '{self.root / _FAKES}'. Found: {quote_some(there)}."
            )
        warn_of_absent(self.root / _FAKES, [variant for variant in variants if variant not in there])
        split_of = self._read_splits()
        paths = {
            variant: {path.stem: path for path in list_clips(self.root / _FAKES / variant, self, variant)}
            for variant in variants
        }
        self._check_names(paths, split_of)
        fakes = [
            self._make_fake(variant, name, files.get(name), split_of)
            for variant, files in paths.items()
            for name in (split_of or sorted(files))
        ]
        targets = sorted({video.identities[0] for video in fakes})
        splits = {video.identities[0]: video.split for video in fakes}
        originals = self._find_originals(targets)
        videos = [self._make_real(target, originals, splits[target]) for target in targets] + fakes
        return self._join_same_youtube_video(videos, splits)

    def _join_same_youtube_video(self, videos: Sequence[Video], splits: Mapping[str, str | None]) -> list[Video]:
        """Give clips of the same YouTube video a common identity, or warn that the authors' lists separate them."""
        same = read_same_youtube_video()
        if self.splits is None:
            return unify_people(videos, same)
        splits_of: dict[str, set[str | None]] = {}
        for target, split in splits.items():
            splits_of.setdefault(same.get(target, target), set()).add(split)
        num_cut = sum(len(found) > 1 for found in splits_of.values())
        if num_cut:
            self.known_leaks.append(f"{num_cut} groups of target clips cut from the same YouTube video")
            logger.warning(
                "In the official split of DeeperForensics-1.0, %d groups of target clips cut from the same YouTube "
                "video are in more than one split. Set source.splits=null to split by identity instead.",
                num_cut,
            )
        return list(videos)

    def _make_fake(self, variant: str, name: str, path: Path | None, split_of: Mapping[str, str]) -> Video:
        target, _, actor = name.partition("_")
        path = path or self.root / _FAKES / variant / f"{name}.mp4"
        return Video(
            video_id="/".join((self.name, variant, name)),
            path=path,
            label=Label.FAKE,
            method=variant,
            kind=kind_of(path),
            identities=(target, actor) if actor else (target,),
            original=self._make_real_id(target),
            split=split_of.get(name),
        )

    def _make_real(self, target: str, originals: Clips, split: str | None) -> Video:
        return Video(
            video_id=self._make_real_id(target),
            path=originals.path(target),
            label=Label.REAL,
            method=ORIGINAL,
            kind=originals.kind,
            compression=self.compression,
            identities=(target,),
            split=split,
        )

    def _make_real_id(self, target: str) -> str:
        return "/".join((self.name, ORIGINAL, self.compression, target))

    def _find_originals(self, targets: Iterable[str]) -> Clips:
        """Return the originals of FaceForensics++; raise a SourceError only if `source.ffpp_root` has none."""
        wanted = set(targets)
        folders = list_nearby(self.root) if self.ffpp_root is None else [self.ffpp_root]
        for folder in folders:
            originals = Tree(folder, self.compression, self.media).list_originals(YOUTUBE)
            found = wanted.intersection(originals.names)
            if found:
                logger.info(
                    "Real class: %d of %d target videos of FaceForensics++, from '%s'.", len(found), len(wanted),
                    originals.folder,
                )  # fmt: skip
                account_for(self, [originals])
                return originals
        if self.ffpp_root is not None:
            raise SourceError(
                f"None of the {len(wanted)} target videos such as '{min(wanted, default='000')}.mp4' is in "
                f"source.ffpp_root='{self.ffpp_root}' (source.compression={self.compression}); found: "
                f"{describe_folder(self.ffpp_root)}. Set it to the folder that contains 'original_sequences' or "
                f"'original'."
            )
        logger.warning(
            "The real class of DeeperForensics-1.0, the original videos of FaceForensics++, was not found in or beside "
            "'%s' (source.compression=%s), so all real videos are missing. Set source.ffpp_root to that dataset.",
            self.root, self.compression,
        )  # fmt: skip
        beside = self.root.absolute().parent / "FaceForensics++"
        return Clips(beside / "original_sequences" / YOUTUBE / self.compression / "videos", ".mp4", ())

    def _check_names(self, paths: Mapping[str, Mapping[str, Path]], split_of: Mapping[str, str]) -> None:
        """Log files that are not in the lists; raise a SourceError if no file of a variant is."""
        for variant, files in paths.items():
            unlisted = [name for name in files if name not in split_of] if split_of else []
            if unlisted and len(unlisted) == len(files):
                raise SourceError(
                    f"None of the {len(split_of)} videos in the split lists, such as '{min(split_of)}', is in "
                    f"'{self.root / _FAKES / variant}': found {quote_some(unlisted)}. Set source.splits=null to read "
                    f"all files."
                )
            if unlisted:
                logger.warning(
                    "Skipped %d videos of '%s' that are not in the split lists: %s.", len(unlisted), variant,
                    quote_some(unlisted),
                )  # fmt: skip
            note_unexpected(self, variant, "not in the split lists", unlisted)

    def _read_splits(self) -> dict[str, str]:
        """Return the split of every name such as `000_M101`, sorted by name; empty with `source.splits=null`."""
        if self.splits is None:
            return {}
        split_of: dict[str, str] = {}
        problems = []
        for split in SPLITS:
            path = self.root / "lists" / "splits" / f"{split}.txt"
            self.read.add(path)
            if not path.is_file():
                raise SourceError(
                    f"No list '{path}'. Download 'lists' again, or split by identity with source.splits=null."
                )
            for line in filter(None, map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())):
                name = PurePosixPath(line).stem
                if split_of.setdefault(name, split) != split:
                    problems.append(f"'{name}' in {split_of[name]}.txt and {split}.txt")
        if problems:
            raise SourceError(
                f"{len(problems)} videos are in two lists of '{self.root / 'lists' / 'splits'}':\n"
                f"{list_problems(problems)}\nDownload the lists again, or set source.splits=null."
            )
        return dict(sorted(split_of.items()))
