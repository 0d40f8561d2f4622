"""FaceForensics++ in the layout of its download script.

Roessler et al., FaceForensics++: Learning to Detect Manipulated Facial Images, ICCV 2019 (ondyari/FaceForensics).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from unmask.errors import SourceError
from unmask.forgeries import Forgeries
from unmask.sources.folders import check_root, describe_folder, find_forgeries
from unmask.types import ORIGINAL, Label, MediaKind, Video

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
SPLITS = ("train", "val", "test")

_REAL_FOLDER = "original_sequences/youtube"
_MEDIA = {"videos": (".mp4", MediaKind.VIDEO), "images": (".jpg", MediaKind.PICTURE)}

logger = logging.getLogger(__name__)


class FaceForensics:
    """Read `original_sequences/youtube/<c>/videos/AAA.mp4` and `manipulated_sequences/<method>/<c>/videos/AAA_BBB.mp4`.

    In `AAA_BBB` the face of BBB was put into the video AAA, so both are identities of the fake, and it stands in the
    split of its pair.

    Args:
        root: The folder that holds `original_sequences` and `manipulated_sequences`.
        name: First part of every `video_id`.
        compression: `raw`, `c23`, `c40`.
        methods: Folders below `manipulated_sequences` to read.
        splits: `official` for the lists of the paper, a folder with `train.json`, `val.json` and `test.json` of the
            same form, or None to let prepare split by identity.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "ffpp",
        compression: str = "c23",
        methods: Sequence[str] = METHODS,
        splits: str | Path | None = "official",
    ) -> None:
        self.root = Path(root)
        self.name = name
        self.compression = compression
        self.methods = tuple(methods)
        self.splits = splits

    @property
    def forgeries(self) -> Forgeries:
        """Who made the fakes: others, unless the folder is one that Unmask wrote."""
        return find_forgeries(self.root)

    def list_videos(self) -> list[Video]:
        """Return every video of the lists (or of the folders, without lists), present or not."""
        check_root(self.root)
        media = self._find_media()
        split_of = self._read_splits()
        same_person = _read_same_youtube_video() if self.splits is None else {}
        reals = self._list_reals(media, split_of)
        known = {video.video_id for video in reals}
        fakes = [video for method in self.methods for video in self._list_fakes(method, media, split_of, known)]
        videos = [replace(video, identities=_unify(video.identities, same_person)) for video in reals + fakes]
        self._check_found(videos)
        return videos

    def _find_media(self) -> str:
        """Return `videos` or `images`, whichever the folder of originals has."""
        folder = self.root / _REAL_FOLDER / self.compression
        for media in _MEDIA:
            if (folder / media).is_dir():
                return media
        looked = self.root / _REAL_FOLDER
        raise SourceError(
            f"'{self.root}' is not laid out as FaceForensics++: looked for '{folder / 'videos'}', found in '{looked}': "
            f"{describe_folder(looked)}; in '{self.root}': {describe_folder(self.root)}. "
            f"Set source.root to the folder that holds 'original_sequences', and source.compression to one there."
        )

    def _list_reals(self, media: str, split_of: Mapping[str, str] | None) -> list[Video]:
        suffix, kind = _MEDIA[media]
        folder = self.root / _REAL_FOLDER / self.compression / media
        names = (
            sorted({name for pair in split_of for name in pair.split("_")}) if split_of else _list_stems(folder, suffix)
        )
        return [
            Video(
                video_id=self._make_id(ORIGINAL, name),
                path=folder / f"{name}{suffix}",
                label=Label.REAL,
                method=ORIGINAL,
                kind=kind,
                compression=self.compression,
                identities=(name,),
                split=split_of.get(name) if split_of else None,
            )
            for name in names
        ]

    def _list_fakes(self, method: str, media: str, split_of: Mapping[str, str] | None, known: set[str]) -> list[Video]:
        suffix, kind = _MEDIA[media]
        folder = self.root / "manipulated_sequences" / method / self.compression / media
        if not folder.is_dir():
            parent = self.root / "manipulated_sequences"
            raise SourceError(
                f"No folder '{folder}' for method '{method}'. Found in '{parent}': {describe_folder(parent)}. "
                f"Choose what you have: source.methods=[{','.join(self.methods[:1])}]"
            )
        names = [name for name in split_of if "_" in name] if split_of else _list_stems(folder, suffix)
        videos = []
        for name in names:
            target, _, donor = name.partition("_")
            original = self._make_id(ORIGINAL, target)
            videos.append(
                Video(
                    video_id=self._make_id(method, name),
                    path=folder / f"{name}{suffix}",
                    label=Label.FAKE,
                    method=method,
                    kind=kind,
                    compression=self.compression,
                    identities=(target, donor) if donor else (target,),
                    original=original if original in known else None,
                    split=split_of.get(name) if split_of else None,
                )
            )
        return videos

    def _make_id(self, method: str, name: str) -> str:
        return "/".join((self.name, method, self.compression, name))

    def _read_splits(self) -> dict[str, str] | None:
        """Return the split of every clip name and of every `AAA_BBB` in both directions."""
        if self.splits is None:
            return None
        if self.splits == "official":
            logger.warning(
                "The official FaceForensics++ split lets 7 groups of clips from one YouTube video cross splits. "
                "Set source.splits=null to split by identity instead."
            )
        split_of: dict[str, str] = {}
        for split in SPLITS:
            for first, second in self._read_pairs(split):
                for name in (first, second, f"{first}_{second}", f"{second}_{first}"):
                    if split_of.setdefault(name, split) != split:
                        raise SourceError(
                            f"'{name}' stands in the lists of both '{split_of[name]}' and '{split}' (source.splits="
                            f"'{self.splits}'). Remove it from one of them."
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

    def _check_found(self, videos: Sequence[Video]) -> None:
        if not any(video.path.is_file() for video in videos):
            folder = videos[0].path.parent if videos else self.root
            raise SourceError(
                f"None of the {len(videos)} videos that '{self.root}' should hold is there: looked for such as "
                f"'{videos[0].path if videos else folder / '000.mp4'}', found in '{folder}': {describe_folder(folder)}."
            )


def _list_stems(folder: Path, suffix: str) -> list[str]:
    return sorted(path.stem for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))


def _read_same_youtube_video() -> dict[str, str]:
    """Map clips that were cut from one YouTube video to one name for their person."""
    groups = json.loads((files("unmask.sources") / "ffpp_splits" / "same_youtube_video.json").read_text())
    return {clip: "+".join(group) for group in groups for clip in group}


def _unify(identities: Sequence[str], same_person: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(same_person.get(identity, identity) for identity in identities)
