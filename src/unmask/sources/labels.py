"""Read labels, splits and people out of names of folders and files."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.types import Label, Video

REAL_WORDS = ("real", "authentic", "genuine", "nature")
FAKE_WORDS = ("fake", "deepfake", "ai", "forged", "synthetic")

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NEGATIONS = frozenset({"not", "non", "no", "un", "anti"})
_OF_COLLECTIONS = frozenset({"set", "split", "data", "dataset", "images", "imgs", "videos", "frames", "faces"})
_ENDING = r"(s|face|image|img|photo|pic|image|video|data|sample|frame|crop)?s?"


class Doubt(StrEnum):
    """Why a name that holds a word for a label gives none."""

    BOTH = "both"  # real_and_fake
    NEGATED = "negated"  # not_fake
    PART = "part"  # unreal, realistic, montreal


@dataclass(frozen=True)
class Words:
    """The words for real and for fake.

    Args:
        real: Words or whole names of folders.
        fake: Words or whole names of folders.
    """

    real: Sequence[str] = REAL_WORDS
    fake: Sequence[str] = FAKE_WORDS
    _pattern: dict[Label, re.Pattern[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compile the words once."""
        patterns = {
            label: re.compile("(?:" + "|".join(re.escape(word.lower()) for word in words) + ")" + _ENDING)
            for label, words in ((Label.REAL, self.real), (Label.FAKE, self.fake))
        }
        object.__setattr__(self, "_pattern", patterns)

    def read(self, name: str) -> Label | Doubt | None:
        """Return the label that a folder's name gives, a doubt where it could mean several things, else None."""
        for label, words in ((Label.REAL, self.real), (Label.FAKE, self.fake)):
            if name.lower() in {word.lower() for word in words}:
                return label
        tokens = split_name(name)
        labels = {label for label in Label for token in tokens if self._pattern[label].fullmatch(token)}
        if len(labels) == 2:
            return Doubt.BOTH
        if labels and _NEGATIONS & set(tokens):
            return Doubt.NEGATED
        if labels:
            return labels.pop()
        long_words = [word.lower() for word in (*self.real, *self.fake) if len(word) > 3]
        return Doubt.PART if any(word in name.lower() for word in long_words) else None

    def says_label_only(self, name: str) -> bool:
        """Tell whether a name says nothing but label, split and numbers, such as `1_fake` or `training_fake`."""
        return all(
            token.isdigit() or token in SPLIT_NAMES or any(p.fullmatch(token) for p in self._pattern.values())
            for token in split_name(name)
        )

    def strip_name(self, name: str) -> str:
        """Return a name that says label only, without its numbers and its split: `fake` for `1_fake`."""
        return "_".join(t for t in split_name(name) if not t.isdigit() and t not in SPLIT_NAMES) or name


def split_name(name: str) -> list[str]:
    """Split a name into lower-case words and numbers: `training_real`, `realFaces2`."""
    return [token.lower() for token in _TOKEN.findall(name)]


def read_split(name: str) -> str | None:
    """Return the split that a folder is named after, such as `valid` or `test_set`."""
    tokens = [token for token in split_name(name) if token not in _OF_COLLECTIONS]
    return SPLIT_NAMES.get(tokens[0]) if len(tokens) == 1 else None


def read_split_of_label(name: str) -> str | None:
    """Return the split in the name of a label folder, such as `training_real`."""
    splits = {SPLIT_NAMES[token] for token in split_name(name) if token in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else None


_FRAME = re.compile(r"(?:frames?|img|image|f|frm)?[-_ ]?(\d+)", re.IGNORECASE)
"""A photograph's number is rarely all of its name, and seldom starts anew in the next folder."""


def find_frame_folders(folders: Mapping[Path, Sequence[Path]], *, frames_of: str | None) -> set[Path]:
    """Return the folders whose images are the frames of one video.

    Args:
        folders: Folders below a label with the media directly in each.
        frames_of: `folder` for all that hold only images, `none` for none, None to tell by the names: two or more
            folders in which nothing but numbers stands, and the same numbers in several.
    """
    images = {
        folder: files for folder, files in folders.items()
        if files and all(file.suffix.lower() in IMAGE_SUFFIXES for file in files)
    }  # fmt: skip
    if frames_of is not None:
        return set(images) if frames_of == "folder" else set()
    numbered = {folder: numbers for folder, files in images.items() if (numbers := _read_numbers(files)) is not None}
    folders_of = Counter(number for numbers in numbered.values() for number in numbers)
    return {folder for folder, numbers in numbered.items() if any(folders_of[number] > 1 for number in numbers)}


def _read_numbers(files: Sequence[Path]) -> set[int] | None:
    """Return the numbers of frames, or None where a name is something else."""
    found = [_FRAME.fullmatch(file.stem) for file in files]
    return {int(match.group(1)) for match in found if match} if all(found) else None


def split_people(
    videos: Sequence[Video], *, fractions: Mapping[str, float], seed: int
) -> tuple[list[Video], list[Video]]:
    """Give whole people to splits, and take out the fakes that mix people of two splits.

    Swaps tie the people of such datasets into one group, which could only go into one split as a whole. So each split
    but the first is grown from a person drawn at random by whoever shares most videos with those in it, until it has
    its share of them; few fakes are lost in that way. People who are in no fake are shared out as they come.

    Args:
        videos: With identities.
        fractions: Share of the people for each split; the first gets whoever is left.
        seed: Decides with whom a split begins.

    Returns:
        The videos with their splits, and those that were taken out.
    """
    rest, *others = fractions
    everybody = {person for video in videos for person in video.identities}
    tied = {person for video in videos if video.label == Label.FAKE for person in video.identities}
    rng = np.random.default_rng(seed)
    loners = [str(person) for person in rng.permutation(sorted(everybody - tied))]
    order = [str(person) for person in rng.permutation(sorted(tied))]
    home: dict[str, str] = {}
    for split in others:
        count = round(fractions[split] * len(everybody - tied))
        home |= dict.fromkeys(loners[:count], split)
        loners = loners[count:]
        free = [person for person in order if person not in home]
        home |= dict.fromkeys(_grow(videos, free, count=_count(fractions[split], len(tied), len(free))), split)
    kept, mixed = [], []
    for video in videos:
        splits = {home.get(person, rest) for person in video.identities} or {rest}
        if len(splits) == 1:
            kept.append(replace(video, split=splits.pop()))
        else:
            mixed.append(video)
    return kept, mixed


def _count(fraction: float, num_people: int, num_free: int) -> int:
    """Return how many people a split gets: two at least, since a fake needs them, and two must be left."""
    wanted = max(2, round(fraction * num_people)) if fraction else 0
    return wanted if num_free - wanted >= 2 else 0


def _grow(videos: Sequence[Video], free: Sequence[str], *, count: int) -> list[str]:
    """Return so many of the free people, who share as few videos as possible with the others."""
    allowed = set(free)
    shared, total = Counter[tuple[str, str]](), Counter[str]()
    for video in videos:
        members = sorted(allowed.intersection(video.identities))
        total.update(members)
        shared.update((one, other) for one in members for other in members if one != other)
    chosen: list[str] = []
    ties = dict.fromkeys(free, 0.0)
    while len(chosen) < count:
        person = max(ties, key=lambda name: ties[name] / total[name])  # the first of equals, in the order drawn
        chosen.append(person)
        ties.pop(person)
        for name in ties:
            ties[name] += shared[person, name]
    return chosen
