"""Celeb-DF v1 and v2 (Li et al., Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics, CVPR 2020).

Also Celeb-DF++ (Li et al., Celeb-DF++: A Large-scale Challenging Video DeepFake Benchmark for Generalizable Forensics,
2025).
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.sources.folders import (
    DownloadedSource,
    check_media,
    descend,
    kind_of,
    list_clips,
    list_folders,
    quote_some,
    warn_of_absent,
)
from unmask.sources.labels import check_fraction, split_around_test
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, Video

TEST_LIST = "List_of_testing_videos.txt"

_CELEBRITIES, _YOUTUBE, _FAKES = "Celeb-real", "YouTube-real", "Celeb-synthesis"
_PARTS = (_CELEBRITIES, _YOUTUBE, _FAKES)
_PERSON = re.compile(r"id\d+")

SCENARIOS = {
    "FaceSwap": (
        "Celeb-DF", "BlendFace", "GHOST", "HifiFace", "InSwapper", "MobileFaceSwap", "SimSwap", "UniFace",
    ),
    "FaceReenact": ("DaGAN", "FSRT", "HyperReenact", "LIA", "LivePortrait", "MCNET", "TPSMM"),
    "TalkingFace": ("AniTalker", "EchoMimic", "EDTalk", "FLOAT", "IP_LAP", "Real3DPortrait", "SadTalker"),
}  # fmt: skip
"""Folders of Celeb-DF++ below `Celeb-synthesis`, with the methods in each."""

_WHOLE_FRAMES = (*SCENARIOS["FaceSwap"], "LivePortrait")
"""Methods of Celeb-DF++ whose videos show the whole frame; those of the others are cropped to the face."""

logger = logging.getLogger(__name__)


class CelebDF(DownloadedSource):
    """Read `Celeb-real/id0_0000.mp4`, `YouTube-real/00000.mp4` and `Celeb-synthesis/id0_id1_0000.mp4`.

    `id0_id1_0000` shows the face of id1 in a video of id0. The videos, or folders of frames, may be one level deeper
    (`videos/` or `frames/`). In the test list, 1 means real and 0 means fake, and it must agree with the folders.

    Celeb-DF++ has `Celeb-synthesis/<scenario>/<method>/id0_id1_0000.mp4`, with the scenarios of `SCENARIOS`.

    Args:
        root: Folder that contains the three folders and the test list.
        name: First part of every `video_id`.
        methods: Methods of Celeb-DF++ to read; None for all that exist. v1 and v2 have only one.
        splits: `official` for the test list, with a validation split of separate people taken from the rest; None to
            let `prepare` split by identity, as far as the swaps allow.
        val_fraction: Share of the people outside the test list for validation.
        seed: Seed of the validation split.
        media: `videos`, `images` or `frames` of each part; None for the first that exists.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "celebdf",
        methods: Sequence[str] | None = None,
        splits: str | None = "official",
        val_fraction: float = 0.15,
        seed: int = 0,
        media: str | None = None,
        follow_links: bool = False,
    ) -> None:
        if splits not in (None, "official"):
            raise ConfigError(f"source.splits='{splits}' is unknown. Choose official or null.")
        check_fraction("val_fraction", val_fraction)
        self.root = Path(root)
        self.name = name
        self.methods = None if methods is None else tuple(methods)
        self.splits = splits
        self.val_fraction = val_fraction
        self.seed = seed
        check_media(media)
        self.media = media
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the folders `Celeb-real` and `Celeb-synthesis`, or one of the parts and the test list."""
        there = _find_parts(root)
        if {_CELEBRITIES, _FAKES} <= there.keys():
            return f"'{_CELEBRITIES}/' and '{_FAKES}/'"
        return f"'{next(iter(there))}/' and '{TEST_LIST}'" if there and (root / TEST_LIST).is_file() else None

    def list_videos(self) -> list[Video]:
        """Return every video in the folders, and missing ones from the test list."""
        self._start_listing()
        parts = _find_parts(self.root)
        if not parts:
            raise refuse_layout(
                self.root, source="celebdf", layout="Celeb-DF", looked_for=quote_some(f"{part}/" for part in _PARTS),
                advice="Set source.root to the folder that contains them.",
            )  # fmt: skip
        warn_of_absent(self.root, [part for part in _PARTS if part not in parts])
        folders = {part: descend(folder, self.media) for part, folder in parts.items()}
        if _FAKES in parts and _has_scenarios(parts[_FAKES]):
            del folders[_FAKES]
            folders |= self._find_methods(parts[_FAKES])
        elif self.methods is not None:
            raise SourceError(
                f"source.methods={list(self.methods)} needs Celeb-DF++, but '{parts.get(_FAKES, self.root / _FAKES)}' "
                f"has none of {quote_some(f'{scenario}/' for scenario in SCENARIOS)}. Remove the key."
            )
        videos = {
            f"{part}/{path.stem}": self._make_video(part, path)
            for part, folder in folders.items()
            for path in list_clips(folder, self, part)
        }
        if self.splits is None:
            return list(videos.values())
        listed = self._read_test_list()
        for key, label in listed.items():
            part, _, stem = key.rpartition("/")
            place = folders.get(part, self.root / part) / f"{stem}.mp4"
            video = videos.setdefault(key, self._make_video(part, place))
            if video.label != label:
                raise SourceError(
                    f"'{TEST_LIST}' labels '{key}' {label.name.lower()}, but its folder is "
                    f"{video.label.name.lower()} (in this list 1 means real). Download the list again."
                )
        others = [video for key, video in videos.items() if key not in listed]
        test = [videos[key] for key in listed]
        return split_around_test(
            test, others, val_fraction=self.val_fraction, seed=self.seed, known_leaks=self.known_leaks
        )

    def part_of(self, video: Video) -> str:
        """Return the folder of a video, such as `Celeb-real`, or of its method in Celeb-DF++."""
        return video.method if video.label == Label.FAKE else video.video_id.split("/")[2]

    def _find_methods(self, folder: Path) -> dict[str, Path]:
        """Return the folders of Celeb-DF++'s methods by `Celeb-synthesis/<scenario>/<method>`."""
        found = {
            (scenario, method.name): descend(method, self.media)
            for scenario in SCENARIOS
            for method in list_folders(descend(folder / scenario))
        }
        there = {method for _, method in found}
        unknown = [method for method in self.methods or () if method not in there]
        if unknown:
            raise SourceError(
                f"source.methods has {quote_some(unknown)}, which '{folder}' lacks. Found: {quote_some(sorted(there))}."
            )
        warn_of_absent(
            folder,
            [f"{scenario}/{name}" for scenario, names in SCENARIOS.items() for name in names if name not in there],
        )
        chosen = {key: path for key, path in found.items() if self.methods is None or key[1] in self.methods}
        cropped = sorted(method for _, method in chosen if method not in _WHOLE_FRAMES)
        if cropped:
            logger.warning(
                "The videos of %d methods are cropped to the face already, unlike the real ones: %s. Their crops show "
                "less around the face, which a model can take for a sign of forgery; source.methods=[...] selects.",
                len(cropped), quote_some(cropped),
            )  # fmt: skip
        return {"/".join((_FAKES, *key)): path for key, path in chosen.items()}

    def _make_video(self, part: str, path: Path) -> Video:
        people = _PERSON.findall(path.stem) if part != _YOUTUBE else []
        is_fake = part.startswith(_FAKES)
        original = None
        if is_fake and len(people) == 2:
            original = self._make_id(ORIGINAL, _CELEBRITIES, f"{people[0]}_{path.stem.rpartition('_')[2]}")
        method = part.rpartition("/")[2] if is_fake else ORIGINAL
        return Video(
            video_id=self._make_id(method, method if is_fake else part, path.stem),
            path=path,
            label=Label.FAKE if is_fake else Label.REAL,
            method=method,
            kind=kind_of(path),
            identities=tuple(dict.fromkeys(people)) or (f"{part}/{path.stem}",),
            original=original,
        )

    def _make_id(self, method: str, part: str, stem: str) -> str:
        return "/".join((self.name, method, stem) if method == part else (self.name, method, part, stem))

    def _read_test_list(self) -> dict[str, Label]:
        """Return the label of each listed video by `<part>/<stem>`; in the list, 1 means real.

        Leaves out the methods of Celeb-DF++ that `source.methods` does not name.
        """
        path = self.root / TEST_LIST
        self.read.add(path)
        if not path.is_file():
            raise SourceError(
                f"No test list '{path}'. Download it again, or split by identity with source.splits=null."
            )
        listed: dict[str, Label] = {}
        problems = []
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if not line.strip():
                continue
            match = re.fullmatch(r"([01])\s+(\S+)/([^/\s]+)\.\w+", line.strip())
            first, *inner = match.group(2).split("/") if match else [""]
            part = _name_part(first)
            if not match or not part:
                problems.append(f"line {number}: '{line.strip()}'")
                continue
            inner = [name for name in inner if name not in ("videos", "frames")]
            if part == _FAKES and inner and self.methods is not None and inner[-1] not in self.methods:
                continue
            key = "/".join((part, *(inner if part == _FAKES else ()), match.group(3)))
            label = Label.REAL if match.group(1) == "1" else Label.FAKE
            if listed.setdefault(key, label) != label:
                problems.append(f"line {number}: '{line.strip()}', with the other label further up")
        if problems:
            raise SourceError(
                f"'{path}' has {len(problems)} invalid lines; each must read like '1 YouTube-real/00170.mp4' and name "
                f"another video:\n{list_problems(problems)}\nDownload it again."
            )
        return listed


def _name_part(name: str) -> str | None:
    """Return the part of the dataset that a folder name stands for; some copies write `Youtube-real`."""
    return next((part for part in _PARTS if part.lower() == name.lower()), None)


def _find_parts(root: Path) -> dict[str, Path]:
    found = {part: folder for folder in list_folders(root) if (part := _name_part(folder.name))}
    return {part: found[part] for part in _PARTS if part in found}


def _has_scenarios(folder: Path) -> bool:
    return any((folder / scenario).is_dir() for scenario in SCENARIOS)
