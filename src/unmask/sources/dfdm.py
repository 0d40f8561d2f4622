"""DFDM (Jia, Li and Lyu, Model Attribution of Face-Swap Deepfake Videos, ICIP 2022)."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import SourceError
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.sources.folders import (
    DownloadedSource,
    describe_folder,
    keep_first,
    kind_of,
    list_clips,
    list_folders,
    list_root,
    list_visible_names,
    note_unexpected,
    quote_some,
    warn_of_absent,
)
from unmask.sources.labels import PeopleSplit
from unmask.sources.recognition import list_nearby, refuse_layout
from unmask.types import ORIGINAL, Label, Video

MODELS = {
    "original": "FaceSwap", "lightweight": "LightWeight", "iae": "IAE", "dfaker": "DFaker", "dflh128": "DFL-H128",
}  # fmt: skip
"""Method by the last word of a fake's name; `1original` is the first autoencoder of FaceSwap, not a real video."""

_FAKE_NAME = re.compile(r"(?P<target>id\d+)_(?P<donor>id\d+)_(?P<clip>\d+)_\d+_?(?P<model>[a-z][a-z0-9_-]*)", re.I)
_REAL_NAME = re.compile(r"(id\d+)_\d+")
_QUALITY = re.compile(r"(?:.*_)?(crf\d+|c\d+)", re.I)
_OF_RELEASE = re.compile(
    r"dfdm.*|.*crf\d+|c\d+|faceswap|lightweight|iae|dfaker|dfl.?h128|manipulated_content|videos|frames", re.I
)
"""Folders that may contain fakes; recognition descends into no others, which may be large."""
_CELEBRITIES = "Celeb-real"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Fake:
    """A fake on disk, as its name and folders describe it."""

    path: Path
    target: str
    donor: str
    clip: str
    method: str
    compression: str


class DFDM(DownloadedSource):
    """Read `DFDM_crf23/<model>/id0_id1_0000_4dfaker.mp4`: the face of id1 in the clip `id0_0000` of Celeb-DF v2.

    The last word of a name identifies one of five models, at any depth of folders; a folder that ends in `crf23` or
    is named `c23` states the quality. The dataset has no real videos: they are the clips of `Celeb-real` in Celeb-DF
    v2 from which the fakes were made.

    Args:
        root: Folder that contains the fakes.
        name: First part of every `video_id`.
        celebdf_root: Folder of Celeb-DF v2; None to look in the root and in the folders beside it.
        compression: Quality to read, such as `crf23`; None for all that exist.
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
        name: str = "dfdm",
        celebdf_root: str | Path | None = None,
        compression: str | None = None,
        splits: str = "test",
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        seed: int = 0,
        follow_links: bool = False,
    ) -> None:
        self.root = Path(root)
        self.name = name
        self.celebdf_root = None if celebdf_root is None else Path(celebdf_root)
        self.compression = compression
        self.split = PeopleSplit(splits, val_fraction, test_fraction, seed)
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize a fake by its name, in the root or in the folders of the release."""
        level = [root]
        for _ in range(4):
            for folder in level:
                name = next((name for name in list_visible_names(folder) if _read_fake(folder / name)), None)
                if name is not None:
                    return f"'{(folder / name).relative_to(root).as_posix()}'"
            level = [child for folder in level for child in list_folders(folder) if _OF_RELEASE.fullmatch(child.name)]
        return None

    def list_videos(self) -> list[Video]:
        """Return every fake that exists and the clip it was made from, whether that exists or not."""
        self._start_listing()
        fakes = self._list_fakes()
        warn_of_absent(self.root, sorted(set(MODELS.values()) - {fake.method for fake in fakes}))
        wanted = {f"{fake.target}_{fake.clip}" for fake in fakes}
        reals = self._find_reals(wanted)
        videos = [self._make_real(name, path) for name, path in sorted(reals.items())]
        videos += keep_first((self._make_fake(fake) for fake in fakes), self, what="fakes")
        return self.split.apply(videos)

    def part_of(self, video: Video) -> str:
        """Return the model and quality of a fake, such as `DFaker crf23`, or the folder of the real clips."""
        return f"{video.method} {video.compression}".strip() if video.label == Label.FAKE else _CELEBRITIES

    def _list_fakes(self) -> list[_Fake]:
        files = list_root(self.root, source=self).files
        # Where frames lie beside the videos, the video comes first and is kept.
        images = {path for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
        clips = [*(path for path in files if path not in images), *sorted({path.parent for path in images})]
        found = {path: fake for path in clips if (fake := _read_fake(path)) is not None}
        if not found:
            raise refuse_layout(
                self.root, source="dfdm", layout="DFDM", looked_for="videos such as 'id0_id1_0000_4dfaker.mp4'"
            )
        others = [
            path.relative_to(self.root).as_posix() for path in clips
            if path not in found and not _REAL_NAME.fullmatch(path.stem)
        ]  # fmt: skip
        if others:
            logger.warning(
                "Skipped %d entries of '%s' with other names: %s.", len(others), self.root, quote_some(others)
            )
        note_unexpected(self, "", "with another name", others)
        fakes = [fake for fake in found.values() if self.compression in (None, fake.compression)]
        if not fakes:
            there = sorted({fake.compression for fake in found.values()})
            raise SourceError(
                f"No fakes of source.compression='{self.compression}' in '{self.root}'. Found: {quote_some(there)}; "
                f"null reads all."
            )
        return fakes

    def _find_reals(self, wanted: Iterable[str]) -> dict[str, Path]:
        """Return the clips of Celeb-DF from which the fakes were made, with their paths."""
        names = sorted(wanted)
        folders = [self.celebdf_root] if self.celebdf_root else list_nearby(self.root)
        for folder in folders:
            there = _list_celebrities(folder, self)
            reals = {name: there[name] for name in names if name in there}
            if reals:
                logger.info("Real class: %d of %d clips of Celeb-DF, from '%s'.", len(reals), len(names), folder)
                home = next(iter(reals.values())).parent
                return {name: reals.get(name, home / f"{name}.mp4") for name in names}
        if self.celebdf_root is not None:
            raise SourceError(
                f"None of the {len(names)} clips such as '{_CELEBRITIES}/{names[0]}.mp4' is in "
                f"source.celebdf_root='{self.celebdf_root}'; found: {describe_folder(self.celebdf_root)}. Set it to "
                f"the folder of Celeb-DF v2 that contains '{_CELEBRITIES}'."
            )
        logger.warning(
            "The real class of DFDM, the clips of '%s' in Celeb-DF v2, was not found in or beside '%s', so all real "
            "videos are missing. Set source.celebdf_root to that dataset.",
            _CELEBRITIES, self.root,
        )  # fmt: skip
        home = self.root.absolute().parent / "Celeb-DF-v2" / _CELEBRITIES
        return {name: home / f"{name}.mp4" for name in names}

    def _make_real(self, name: str, path: Path) -> Video:
        return Video(
            video_id=self._make_real_id(name),
            path=path,
            label=Label.REAL,
            method=ORIGINAL,
            kind=kind_of(path),
            identities=(name.partition("_")[0],),
        )

    def _make_fake(self, fake: _Fake) -> Video:
        return Video(
            video_id=self._make_id(fake),
            path=fake.path,
            label=Label.FAKE,
            method=fake.method,
            kind=kind_of(fake.path),
            compression=fake.compression,
            identities=(fake.target, fake.donor),
            original=self._make_real_id(f"{fake.target}_{fake.clip}"),
        )

    def _make_id(self, fake: _Fake) -> str:
        parts = (self.name, fake.method, fake.compression, f"{fake.target}_{fake.donor}_{fake.clip}")
        return "/".join(part for part in parts if part)

    def _make_real_id(self, name: str) -> str:
        return "/".join((self.name, ORIGINAL, name))


def _read_fake(path: Path) -> _Fake | None:
    """Return what the name and the folders of a fake say, or None if it has another name."""
    match = _FAKE_NAME.fullmatch(path.stem)
    method = MODELS.get(re.sub(r"[^a-z0-9]", "", match["model"].lower())) if match else None
    if match is None or method is None:
        return None
    qualities = [found[1].lower() for folder in path.parts[:-1] if (found := _QUALITY.fullmatch(folder))]
    return _Fake(path, match["target"], match["donor"], match["clip"], method, qualities[-1] if qualities else "")


def _list_celebrities(root: Path, source: DownloadedSource) -> Mapping[str, Path]:
    """Return the real clips of Celeb-DF by name; the folder may lie in `original_content`."""
    for folder in (root / _CELEBRITIES, root / "original_content" / _CELEBRITIES):
        if folder.is_dir():
            return {path.stem: path for path in list_clips(folder, source, _CELEBRITIES)}
    return {}
