"""Authentic photographs of people, for training without fakes: LFW, VGGFace2, FFHQ, CelebA, or your own."""

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import ConfigError, SourceError, list_problems
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.sources.folders import DownloadedSource, list_folders, list_root, note_unexpected, quote_some
from unmask.sources.labels import Words, read_split
from unmask.sources.recognition import refuse_layout
from unmask.types import ORIGINAL, Label, MediaKind, Video

IDENTITIES = "identity_CelebA.txt"
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")

PEOPLE = (None, "folder", "top", "none")
SPLITS = (None, "official")

_PARTITIONS = {"0": "train", "1": "val", "2": "test"}
_WORDS = Words(fake=("fake", "deepfake", "forged", "synthetic"))
"""Without `ai`, which is also a name: LFW has a folder `Ai_Sugiyama`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _CelebA:
    """The lists of CelebA.

    Args:
        identities: Number of the person by name of the image, without extension.
        splits: Split by name of the image, without extension.
    """

    identities: Mapping[str, str]
    splits: Mapping[str, str]


class Portraits(DownloadedSource):
    """Read photographs that are all authentic: a folder for each person, loose images, or CelebA with its lists.

    The person is the identity, so that `prepare` splits by person. There are no fakes: train on the face dataset with
    `augmentation=sbi`, which makes its own.

    Args:
        root: Folder of the photographs, at any depth; for CelebA with `identity_CelebA.txt` in it or in a folder below.
        name: First part of every `video_id`.
        people: `folder` if the folder of an image is a person, `top` if the first folder below `root` is (as in
            `Aaron_Eckhart/0/0.555.jpg`), `none` if each image shows another person, None for the lists of CelebA if
            they exist, otherwise `folder`. Loose images and the numbered folders of FFHQ are never a person.
        splits: `official` for the partition of CelebA, or for folders `train`, `val` and `test`, if they exist; None
            to let `prepare` split by person.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "portraits",
        people: str | None = None,
        splits: str | None = "official",
        follow_links: bool = False,
    ) -> None:
        if people not in PEOPLE:
            raise ConfigError(f"source.people='{people}' is unknown. Choose folder, top, none or null.")
        if splits not in SPLITS:
            raise ConfigError(f"source.splits='{splits}' is unknown. Choose official or null.")
        self.root = Path(root)
        self.name = name
        self.people = people
        self.splits = splits
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize the lists of CelebA, and the folders of LFW and VGGFace2 by the names of people and images."""
        found = _find_list(root, (IDENTITIES, *PARTITIONS))
        if found:
            return f"'{found.name}'"
        for parent in (root, *(folder for folder in list_folders(root) if read_split(folder.name))):
            people = [folder.relative_to(root) for folder in list_folders(parent)[:5] if _is_person(folder)]
            if len(people) > 1:
                return f"'{people[0]}/' and '{people[1]}/', named after people"
        return None

    def list_videos(self) -> list[Video]:
        """Return every image with its person, and the missing ones from the lists of CelebA."""
        self._start_listing()
        listing = list_root(self.root, source=self)
        images = [path for path in listing.files if path.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise refuse_layout(
                self.root,
                source="portraits",
                layout="a folder of photographs",
                looked_for="images, loose or in a folder for each person",
                advice="Set source.root to the folder that contains them. Videos are read by the other sources.",
            )
        clips = [path.relative_to(self.root).as_posix() for path in set(listing.files) - set(images)]
        if clips:
            logger.warning("Skipped %d videos in '%s'.", len(clips), self.root)
        note_unexpected(self, "", "videos", sorted(clips))
        self._refuse_fakes(images)
        lists = self._read_celeba()
        videos = [self._make_video(path, lists) for path in images]
        if lists is not None:
            known = {path.stem for path in images}
            folder = Counter(path.parent for path in images).most_common(1)[0][0]
            names = (name for name in lists.identities or lists.splits if name not in known)
            videos += [self._make_video(folder / f"{name}.jpg", lists) for name in names]
        unknown = [video.path.relative_to(self.root).as_posix() for video in videos if not video.identities]
        if unknown and self.people != "none":
            logger.warning(
                "The person in %s of %s images is unknown, such as %s: each counts as another person, so that the same "
                "one may be in several splits.", f"{len(unknown):,}", f"{len(videos):,}", quote_some(unknown, limit=2),
            )  # fmt: skip
        return videos

    def _refuse_fakes(self, images: Sequence[Path]) -> None:
        folders = {part for path in images for part in path.relative_to(self.root).parent.parts}
        fakes = sorted(folder for folder in folders if _is_fake(folder))
        if fakes:
            raise SourceError(
                f"source=portraits reads authentic images only, but '{self.root}' has folders of fakes: "
                f"{quote_some(fakes)}. Set source.root to the folder of the authentic ones, or read both with "
                f"source=image_folder."
            )

    def _read_celeba(self) -> _CelebA | None:
        """Read the lists of CelebA if there are any, and no other way to tell people apart is configured."""
        if self.people is not None:
            return None
        people, partition = _find_list(self.root, (IDENTITIES,)), _find_list(self.root, PARTITIONS)
        if people is None and partition is None:
            return None
        if people is None:
            logger.warning(
                "No '%s' in '%s': the people of CelebA are unknown. Download it from the page of CelebA.",
                IDENTITIES, self.root,
            )  # fmt: skip
        identities = {} if people is None else _read_list(people)
        splits = {} if partition is None or self.splits is None else _read_list(partition, values=_PARTITIONS)
        return _CelebA(identities, splits)

    def _make_video(self, path: Path, lists: _CelebA | None) -> Video:
        inner = path.relative_to(self.root)
        if lists is not None:
            person, split = lists.identities.get(path.stem), lists.splits.get(path.stem)
        else:
            person = _find_person(path, self.root, people=self.people)
            named = [split for part in inner.parent.parts if (split := read_split(part))]
            split = named[-1] if named and self.splits == "official" else None
        return Video(
            video_id=f"{self.name}/{inner.as_posix()}",
            path=path,
            label=Label.REAL,
            method=ORIGINAL,
            kind=MediaKind.IMAGE,
            identities=() if person is None else (person,),
            split=split,
        )


def _is_fake(folder: str) -> bool:
    """Return whether a folder's name says fake and nothing else: `fake`, `1_fake`, `training_fake`."""
    return _WORDS.read(folder) is Label.FAKE and _WORDS.says_label_only(folder)


def _find_person(path: Path, root: Path, *, people: str | None) -> str | None:
    """Return the folder that names the person in an image, or None if none does."""
    folders = [part for part in path.relative_to(root).parent.parts if not read_split(part)]
    if people == "none" or not folders:
        return None
    if people == "top":
        return folders[0]
    return None if people is None and _is_of_ffhq(path) else folders[-1]


def _is_of_ffhq(path: Path) -> bool:
    """Return whether an image is one of the thousand in a numbered folder of FFHQ: `05000/05999.png`."""
    folder, name = path.parent.name, path.stem
    return bool(re.fullmatch(r"\d\d000", folder) and re.fullmatch(r"\d{5}", name) and folder[:2] == name[:2])


def _is_person(folder: Path) -> bool:
    """Return whether a folder looks like a person of LFW (`Ann_Lee/Ann_Lee_0001.jpg`) or VGGFace2 (`n000002`)."""
    if isinstance(_WORDS.read(folder.name), Label) or read_split(folder.name):
        return False
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    is_named = all(re.fullmatch(rf"{re.escape(folder.name)}_\d{{4}}", path.stem) for path in images)
    return bool(images) and (is_named or re.fullmatch(r"n\d{6}", folder.name) is not None)


def _find_list(root: Path, names: Iterable[str]) -> Path | None:
    """Return a list of CelebA in a folder or in the folders below it, where its authors put it (`Anno`, `Eval`)."""
    folders = [root, *list_folders(root)]
    return next((folder / name for name in names for folder in folders if (folder / name).is_file()), None)


def _read_list(path: Path, *, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read the lines `000001.jpg 2880` of a list of CelebA, or those of Kaggle's copy, separated by commas.

    Args:
        path: The list.
        values: Meanings of the values; None for the values as they are.

    Raises:
        SourceError: The list has other lines.
    """
    found, problems = {}, []
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, cells in enumerate(csv.reader(lines) if path.suffix == ".csv" else map(str.split, lines), start=1):
        if not cells or cells == ["image_id", "partition"]:
            continue
        value = cells[-1] if values is None else values.get(cells[-1])
        if len(cells) != 2 or value is None or Path(cells[0]).suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(f"line {number}: '{lines[number - 1]}'")
        else:
            found[Path(cells[0]).stem] = value
    if problems:
        raise SourceError(
            f"'{path}' has {len(problems)} lines that are not an image and a number, such as '000001.jpg 2880':\n"
            f"{list_problems(problems)}\nDownload it again."
        )
    return found
