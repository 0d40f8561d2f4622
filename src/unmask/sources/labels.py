"""Infer labels, splits and frame folders from names, and split videos by person."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from unmask.errors import ConfigError
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.types import Label, Video

logger = logging.getLogger(__name__)

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
    """Why a name that contains a label word is ambiguous."""

    BOTH = "both"  # real_and_fake
    NEGATED = "negated"  # not_fake
    PART = "part"  # unreal, realistic, montreal


@dataclass(frozen=True)
class Words:
    """Folder-name words that mean real or fake.

    Args:
        real: Words, or whole folder names, that mean real.
        fake: Words, or whole folder names, that mean fake.
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
        """Return the label that a folder's name states, a doubt if it is ambiguous, or None."""
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
        """Return whether a name consists only of label, split and numbers, such as `1_fake` or `training_fake`."""
        return all(
            token.isdigit() or token in SPLIT_NAMES or any(p.fullmatch(token) for p in self._pattern.values())
            for token in split_name(name)
        )

    def strip_name(self, name: str) -> str:
        """Remove numbers and split from a name that states only a label: `fake` for `1_fake`."""
        return "_".join(t for t in split_name(name) if not t.isdigit() and t not in SPLIT_NAMES) or name


def split_name(name: str) -> list[str]:
    """Split a name such as `training_real` or `realFaces2` into lower-case words and numbers."""
    return [token.lower() for token in _TOKEN.findall(name)]


def read_split(name: str) -> str | None:
    """Return the split named by a folder such as `valid` or `test_set`, or None."""
    tokens = [token for token in split_name(name) if token not in _OF_COLLECTIONS]
    return SPLIT_NAMES.get(tokens[0]) if len(tokens) == 1 else None


def read_split_of_label(name: str) -> str | None:
    """Return the split in the name of a label folder such as `training_real`, or None."""
    splits = {SPLIT_NAMES[token] for token in split_name(name) if token in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else None


def check_frames_of(frames_of: str | None) -> None:
    """Raise a ConfigError unless the value of `source.frames_of` is known; see `find_frame_folders`."""
    if frames_of not in (None, "folder", "none"):
        raise ConfigError(f"source.frames_of='{frames_of}' is unknown. Choose folder, none or null.")


_FRAME = re.compile(r"(?:frames?|img|image|f|frm)?[-_ ]?(\d+)", re.IGNORECASE)
"""Name of a numbered frame. Photographs rarely have a bare number that starts again in every folder."""


def find_frame_folders(folders: Mapping[Path, Sequence[Path]], *, frames_of: str | None) -> set[Path]:
    """Return the folders whose images are the frames of one video.

    Args:
        folders: Folders below a label, with the media directly in each.
        frames_of: `folder` for every folder that contains only images, `none` for no folder, None to infer it: folders
            with only numbered images, whose numbers also occur in another folder.
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
    """Return the frame numbers, or None if a name is not a frame number."""
    found = [_FRAME.fullmatch(file.stem) for file in files]
    return {int(match.group(1)) for match in found if match} if all(found) else None


def split_people(
    videos: Sequence[Video], *, fractions: Mapping[str, float], seed: int
) -> tuple[list[Video], list[Video]]:
    """Assign each person to one split, and drop the fakes that mix people from two splits.

    In these datasets, swaps connect all people into one group, which could only go into a single split. Each split but
    the first therefore starts with a random person and adds whoever shares most videos with its members, until it has
    its share; this loses few fakes. People who appear in no fake are distributed at random.

    Args:
        videos: Videos with identities.
        fractions: Share of the people for each split; the first gets everyone left over.
        seed: Seed of the random choices.

    Returns:
        Videos with their splits, and dropped videos.
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


@dataclass(frozen=True)
class PeopleSplit:
    """The split of a dataset whose authors publish none.

    Args:
        kind: `test` puts every video into test; `by` splits by person and drops fakes that mix two splits.
        val_fraction: Share of the people for validation, with `by`.
        test_fraction: Share of the people for test, with `by`.
        seed: Seed of the split, with `by`.
        by: Word of the dataset for a person, the other value of `source.splits`.

    Raises:
        ConfigError: The kind is unknown, or the fractions leave nobody for train.
    """

    kind: str
    val_fraction: float
    test_fraction: float
    seed: int
    by: str = "identity"

    def __post_init__(self) -> None:
        if self.kind not in ("test", self.by):
            raise ConfigError(f"source.splits='{self.kind}' is unknown. Choose test or {self.by}.")
        check_fraction("val_fraction", self.val_fraction)
        check_fraction("test_fraction", self.test_fraction)
        if self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"source.val_fraction={self.val_fraction} and source.test_fraction={self.test_fraction} leave nobody "
                f"for train. Their sum must be less than 1."
            )

    def apply(self, videos: Sequence[Video]) -> list[Video]:
        """Return the videos with their splits, without the fakes that mix people from two splits."""
        if self.kind == "test":
            return [replace(video, split="test") for video in videos]
        train = 1 - self.val_fraction - self.test_fraction
        fractions = {"train": train, "val": self.val_fraction, "test": self.test_fraction}
        kept, mixed = split_people(videos, fractions=fractions, seed=self.seed)
        if mixed:
            logger.warning(
                "Dropped %d of %d fakes: %d fakes mix people from two splits (source.splits=%s).",
                len(mixed), sum(video.label == Label.FAKE for video in videos), len(mixed), self.by,
            )  # fmt: skip
        return kept


def check_fraction(key: str, value: float) -> None:
    """Raise a ConfigError unless a share of the people is at least 0 and less than 1.

    Args:
        key: Key below `source`.
        value: Its value.
    """
    if not 0 <= value < 1:
        raise ConfigError(f"source.{key}={value} must be at least 0 and less than 1.")


def split_around_test(
    test: Sequence[Video], others: Sequence[Video], *, val_fraction: float, seed: int, known_leaks: list[str]
) -> list[Video]:
    """Keep a published test split, and take a validation split of separate people from the other videos.

    Args:
        test: Videos of the published test split.
        others: All other videos.
        val_fraction: Share of the other people for validation.
        seed: Seed of the validation split.
        known_leaks: List to which a sentence on people in both test and the rest is added.

    Returns:
        Videos with their splits. People in both test and the rest are renamed in test, which a warning counts.
    """
    fractions = {"train": 1 - val_fraction, "val": val_fraction}
    kept, mixed = split_people(others, fractions=fractions, seed=seed)
    if mixed:
        logger.warning(
            "Dropped %d of %d fakes outside the test list that mix people from train and val. "
            "source.val_fraction=0 keeps them all; prepare then takes val from train.",
            len(mixed), sum(video.label == Label.FAKE for video in others),
        )  # fmt: skip
    people_of_test = {person for video in test for person in video.identities}
    shared = people_of_test & {person for video in kept for person in video.identities}
    if shared:
        known_leaks.append(f"{len(shared)} of the {len(people_of_test)} people in test are in train or val too")
        logger.warning(
            "%d of the %d people in the official test list are also in train or val. This is a flaw of the "
            "published list, which is kept for comparability: metrics on it overestimate performance on unseen "
            "people.",
            len(shared), len(people_of_test),
        )  # fmt: skip
    # The overlap is part of the published list and was logged above; renaming keeps the audit from refusing it.
    apart = [
        replace(video, split="test", identities=tuple(f"{person} (test list)" for person in video.identities))
        for video in test
    ]
    videos = kept + apart
    split_of = {video.video_id: video.split for video in videos}
    return [
        video if split_of.get(str(video.original)) == video.split else replace(video, original=None) for video in videos
    ]


def _count(fraction: float, num_people: int, num_free: int) -> int:
    """Return the number of people in a split: at least two (a fake needs two), or 0 if too few would be left."""
    wanted = max(2, round(fraction * num_people)) if fraction else 0
    return wanted if num_free - wanted >= 2 else 0


def _grow(videos: Sequence[Video], free: Sequence[str], *, count: int) -> list[str]:
    """Choose `count` of the free people greedily, so that they share few videos with the others."""
    allowed = set(free)
    shared, total = Counter[tuple[str, str]](), Counter[str]()
    for video in videos:
        members = sorted(allowed.intersection(video.identities))
        total.update(members)
        shared.update((one, other) for one in members for other in members if one != other)
    chosen: list[str] = []
    ties = dict.fromkeys(free, 0.0)
    while len(chosen) < count:
        person = max(ties, key=lambda name: ties[name] / total[name])  # ties go to the first in random order
        chosen.append(person)
        ties.pop(person)
        for name in ties:
            ties[name] += shared[person, name]
    return chosen
