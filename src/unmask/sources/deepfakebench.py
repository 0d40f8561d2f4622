"""Crops prepared by DeepfakeBench (Yan et al., NeurIPS 2023) or for DF40 (Yan et al., NeurIPS 2024)."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.errors import ConfigError, LeakageError, SourceError, list_problems
from unmask.forgeries import Forgeries
from unmask.sources.deepfakebench_lists import (
    Entry,
    FrameFinder,
    Frames,
    Key,
    find_lists,
    read_lists,
    refuse_contradictions,
    search_lists,
)
from unmask.sources.folders import check_root, find_forgeries, quote_some
from unmask.sources.labels import check_fraction, split_around_test
from unmask.types import ORIGINAL, Label, MediaKind, Video

SPLITS = ("clean", "lists", None)

METHODS = {
    "FF-DF": "Deepfakes", "FF-F2F": "Face2Face", "FF-FS": "FaceSwap", "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter", "FF-SH": "FaceShifter", "DFD_fake": "DeepFakeDetection",
    "CelebDFv1_fake": "Celeb-synthesis", "CelebDFv2_fake": "Celeb-synthesis",
    "DFDCP_FakeA": "method_A", "DFDCP_FakeB": "method_B", "DFDC_Fake": "dfdc", "DF_fake": "DeeperForensics",
    "UADFV_Fake": "FakeApp",
}  # fmt: skip
"""Methods of the names that DeepfakeBench gives to fakes (its `label_dict`); DF40 calls them `<method>_Fake`."""

_LABEL = re.compile(r"(.+)[_-](real|fake)", re.IGNORECASE)
_PEOPLE = (
    (re.compile(r"(\d{3})(?:_(\d{3}))?"), "ffpp {}"),
    (re.compile(r"(\d{3})_[MW]\d+"), "ffpp {}"),  # DeeperForensics: a video of FaceForensics++, with another's face
    (re.compile(r"(\d{2})(?:_(\d{2}))?__.+"), "actor {}"),
    (re.compile(r"id(\d+)(?:_id(\d+))?_\d{4}"), "celebdf id{}"),
)
"""Names of videos in FaceForensics++, DeeperForensics, DeepFakeDetection and Celeb-DF, and the people in them."""

_TEST_LIKE = ("test", "val", "train")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Item:
    """A video of the lists.

    Args:
        keys: Its key, and those under which other lists or labels name the same frames.
        label: Label of the video.
        splits: Splits that name it.
        frames: Its frames on this machine.
    """

    keys: tuple[Key, ...]
    label: Label
    splits: frozenset[str]
    frames: Frames

    @property
    def dataset(self) -> str:
        """Name of the dataset in the lists."""
        return self.keys[0][0]

    @property
    def part(self) -> tuple[str, str]:
        """Dataset and compression."""
        return self.keys[0][0], self.keys[0][2]


class DeepfakeBench:
    """Read crops with the JSON lists `{dataset: {label: {split: {[compression]: {video: {label, frames}}}}}}`.

    Labels are those of DeepfakeBench's `label_dict`. A video is known by dataset, label, compression and name, so that
    the methods that share the name `000_003` stay apart. The same video in several lists counts once. The lists have
    known faults, which are logged: `val` repeats `test`, and originals are in all splits.

    Args:
        root: Folder of the crops, in which the paths of the lists start somewhere.
        lists: A list or a folder of lists; None to search for them in and beside `root`.
        name: First part of every `video_id`.
        datasets: Names of the datasets to read; None for those of which anything exists.
        splits: `clean` repairs the splits: a `val` that repeats another split is dropped, and a validation split of
            separate people is taken from train; a video in several splits stays in test, otherwise in val. `lists`
            takes them as they are, and refuses lists with a video in several splits. None lets `prepare` split by
            identity.
        labels: Further names of labels, each with 0 for real or 1 for fake.
        replace: Starts of paths from another machine, and what stands for them here.
        val_fraction: Share of the people outside test for validation, where `val` is dropped.
        seed: Seed of that validation split.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        lists: str | Path | None = None,
        name: str = "deepfakebench",
        datasets: Sequence[str] | None = None,
        splits: str | None = "clean",
        labels: Mapping[str, int] | None = None,
        replace: Mapping[str, str] | None = None,
        val_fraction: float = 0.15,
        seed: int = 0,
    ) -> None:
        if splits not in SPLITS:
            raise ConfigError(f"source.splits='{splits}' is unknown. Choose clean, lists or null.")
        wrong = [name for name, value in (labels or {}).items() if value not in tuple(Label)]
        if wrong:
            raise ConfigError(f"source.labels.{wrong[0]} must be 0 (real) or 1 (fake).")
        check_fraction("val_fraction", val_fraction)
        self.root = Path(root)
        self.lists = None if lists is None else Path(lists)
        self.name = name
        self.datasets = None if datasets is None else list(datasets)
        self.splits = splits
        self.labels = {name: Label(value) for name, value in (labels or {}).items()}
        self.replace = dict(replace or {})
        self.val_fraction = val_fraction
        self.seed = seed

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize a folder with lists of DeepfakeBench in it, or in `dataset_json` in or beside it."""
        found = search_lists(root)
        return f"'{found[0].name}' lists frames by dataset, label and split" if found else None

    @property
    def forgeries(self) -> Forgeries:
        """Who made the fakes: others, unless Unmask wrote the folder."""
        return find_forgeries(self.root)

    def list_videos(self) -> list[Video]:
        """Return a video for each entry of the lists with its frames, or as missing if none of them exists."""
        check_root(self.root)
        lists = read_lists(find_lists(self.root, self.lists), datasets=self.datasets)
        if lists.problems:
            logger.warning("Skipped %d entries of the lists:\n%s", len(lists.problems), list_problems(lists.problems))
        items = self._find_frames(self._drop_empty(list(lists.entries.values())))
        _warn_of_faults(items)
        if self.splits == "clean":
            repeating = {dataset for dataset, members in _group(items).items() if _find_repeated_by_val(members)}
            items = _join_repeated([_drop_val(item) if item.dataset in repeating else item for item in items])
            return _part_people(self._carve_val(list(self._make_videos(items)), repeating))
        videos = list(self._make_videos(items := _join_repeated(items)))
        if self.splits is None:
            return [replace(video, split=None) for video in videos]
        _refuse_several_splits(items)
        return _part_people(videos)

    def _drop_empty(self, entries: Sequence[Entry]) -> list[Entry]:
        empty = [_show(entry.key) for entry in entries if not entry.frames]
        if empty:
            logger.warning("Skipped %d videos for which the lists name no frame: %s.", len(empty), quote_some(empty))
        kept = [entry for entry in entries if entry.frames]
        if not kept:
            raise SourceError(f"The lists in '{self.lists or self.root}' name no frames. Download them again.")
        return kept

    def _read_labels(self, entries: Sequence[Entry]) -> dict[str, Label]:
        names = sorted({entry.key[1] for entry in entries})
        labels = {name: self.labels.get(name, read_label(name)) for name in names}
        unknown = [name for name, label in labels.items() if label is None]
        if unknown:
            raise SourceError(
                f"{len(unknown)} names of labels in the lists say neither real nor fake:\n{list_problems(unknown)}\n"
                f"Say what they mean: '+source.labels={{{unknown[0]}: 1}}' (0 real, 1 fake)."
            )
        return {name: label for name, label in labels.items() if label is not None}

    def _find_frames(self, entries: Sequence[Entry]) -> list[_Item]:
        """Locate the frames, and leave out datasets of which none exists on this machine."""
        labels, finder = self._read_labels(entries), FrameFinder(self.root, replace=self.replace)
        items = [
            _Item((one.key,), labels[one.key[1]], frozenset(one.splits), finder.find(one.frames)) for one in entries
        ]
        there = {item.part for item in items if item.frames.there}
        if not there:
            raise SourceError(
                f"None of the {len(items):,} videos of the lists has a frame in '{self.root}': "
                f"'{entries[0].frames[0]}' was expected at '{items[0].frames.first}'. Set source.root to the folder "
                f"of the crops, or replace the start of the paths: "
                f"'+source.replace={{/folder/of/the/authors: {self.root}}}'."
            )
        absent = Counter(item.part for item in items if item.part not in there)
        if absent and self.datasets is None:
            names = (f"{' '.join(filter(None, part))} ({count:,} videos)" for part, count in sorted(absent.items()))
            logger.warning("Skipped datasets of the lists without any frame in '%s': %s.", self.root, quote_some(names))
            items = [item for item in items if item.part in there]
        missing = [item for item in items if item.frames.missing]
        if missing:
            logger.warning(
                "%s frames of the lists do not exist, such as '%s'; %s videos lack some of their frames, and %s all.",
                f"{sum(len(item.frames.missing) for item in missing):,}", missing[0].frames.missing[0],
                f"{sum(bool(item.frames.there) for item in missing):,}",
                f"{sum(not item.frames.there for item in missing):,}",
            )  # fmt: skip
        return items

    def _make_videos(self, items: Sequence[_Item]) -> Iterator[Video]:
        originals = {
            (dataset, compression, name): item.keys[0]
            for item in items if item.label == Label.REAL for dataset, _, compression, name in item.keys
        }  # fmt: skip
        for item in items:
            dataset, label, compression, name = item.keys[0]
            original = originals.get((dataset, compression, _name_original(name)))
            is_fake = item.label == Label.FAKE
            yield Video(
                video_id=self._make_id(item.keys[0]),
                path=item.frames.first.parent,
                label=item.label,
                method=name_method(label) if is_fake else ORIGINAL,
                kind=MediaKind.FRAMES,
                compression=compression,
                identities=_name_people(name) or _name_stranger(item.frames.first),
                original=self._make_id(original) if is_fake and original else None,
                split=next(split for split in _TEST_LIKE if split in item.splits),
                frames=item.frames.there or item.frames.missing,
            )

    def _make_id(self, key: Key) -> str:
        return "/".join((self.name, *filter(None, key)))

    def _carve_val(self, videos: Sequence[Video], repeating: set[str]) -> list[Video]:
        """Take a validation split of separate people from the train split of datasets whose own was dropped."""
        done: dict[str, Video] = {}
        by_dataset: dict[str, list[Video]] = defaultdict(list)
        for video in videos:
            by_dataset[video.video_id.removeprefix(f"{self.name}/").partition("/")[0]].append(video)
        for dataset, members in by_dataset.items():
            test = [video for video in members if video.split == "test"]
            others = [video for video in members if video.split != "test"]
            if dataset in repeating and any(video.identities for video in others):
                split = split_around_test(test, others, val_fraction=self.val_fraction, seed=self.seed)
            else:
                split = members
            done |= {video.video_id: video for video in split}
        return [done[video.video_id] for video in videos if video.video_id in done]


def _part_people(videos: Sequence[Video]) -> list[Video]:
    """Rename the people of test who are also in train or val, and log them: the published splits share them."""
    of_test = {person for video in videos if video.split == "test" for person in video.identities}
    shared = of_test & {person for video in videos if video.split != "test" for person in video.identities}
    if shared:
        logger.warning(
            "%d of the %d people in test are also in train or val of the lists, such as %s: metrics overestimate "
            "performance on unseen people. source.splits=null splits by identity instead.",
            len(shared), len(of_test), quote_some(sorted(shared), limit=2),
        )  # fmt: skip
    split_of = {video.video_id: video.split for video in videos}
    parted = []
    for video in videos:
        is_renamed = video.split == "test" and not shared.isdisjoint(video.identities)
        people = tuple(f"{person} (test list)" for person in video.identities) if is_renamed else video.identities
        is_apart = video.original is not None and split_of.get(video.original) != video.split
        parted.append(replace(video, identities=people, original=None if is_apart else video.original))
    return parted


def read_label(name: str) -> Label | None:
    """Return the label that a name of DeepfakeBench or DF40 means, such as `FF-DF` or `simswap_Fake`, or None."""
    match = _LABEL.fullmatch(name)
    if match:
        return Label[match.group(2).upper()]
    return Label.FAKE if name in METHODS else None


def name_method(label: str) -> str:
    """Return the method that the label of a fake names: `Deepfakes` for `FF-DF`, `simswap` for `simswap_Fake`."""
    match = _LABEL.fullmatch(label)
    return METHODS.get(label) or (match.group(1) if match else label)


def _name_people(name: str) -> tuple[str, ...]:
    for pattern, person in _PEOPLE:
        match = pattern.fullmatch(name)
        if match:
            return tuple(person.format(number) for number in match.groups() if number)
    return ()


def _name_stranger(frame: Path) -> tuple[str, ...]:
    """Return an identity of its own for a video of Celeb-DF's `YouTube-real`, whose people are in no other video."""
    is_youtube = "youtube-real" in (part.lower() for part in frame.parts)
    return (f"celebdf {frame.parent.name}",) if is_youtube else ()


def _name_original(name: str) -> str:
    """Return the name of the video that a fake was made from: that of the first person in its name."""
    if match := re.fullmatch(r"(\d{3})_(?:\d{3}|[MW]\d+)|(\d+)_fake", name):
        return match.group(1) or match.group(2)
    if match := re.fullmatch(r"(id\d+)_id\d+_(\d{4})", name):
        return f"{match.group(1)}_{match.group(2)}"
    match = re.fullmatch(r"(\d{2})_\d{2}__(.+)__[^_]+", name)
    return f"{match.group(1)}__{match.group(2)}" if match else ""


def _group(items: Sequence[_Item]) -> dict[str, list[_Item]]:
    by_dataset: dict[str, list[_Item]] = defaultdict(list)
    for item in items:
        by_dataset[item.dataset].append(item)
    return by_dataset


def _show(key: Key) -> str:
    return "/".join(filter(None, key))


def _join_repeated(items: Sequence[_Item]) -> list[_Item]:
    """Join the items with the same frames under the name in the largest dataset, with the splits of all.

    Raises:
        SourceError: The same frames are real and fake.
    """
    sizes = Counter(item.dataset for item in items)
    joined: dict[Path, _Item] = {}
    classes: dict[Path, dict[str, str]] = defaultdict(dict)
    for item in sorted(items, key=lambda item: (-sizes[item.dataset], item.keys[0])):
        first = item.frames.first
        classes[first].setdefault(item.label.name.lower(), _show(item.keys[0]))
        known = joined.get(first)
        joined[first] = item if known is None else replace(
            known, keys=known.keys + item.keys, splits=known.splits | item.splits
        )  # fmt: skip
    refuse_contradictions(classes)
    if len(joined) < len(items):
        logger.warning(
            "%s entries repeat a video of another list or label, and are dropped.", f"{len(items) - len(joined):,}"
        )
    return sorted(joined.values(), key=lambda item: item.keys[0])


def _drop_val(item: _Item) -> _Item:
    """Return an item without the split `val`, unless it has no other."""
    return replace(item, splits=item.splits - {"val"} or item.splits)


def _find_repeated_by_val(items: Sequence[_Item]) -> str | None:
    """Return the split that the val split of a dataset repeats; None if it is a split of its own."""
    members = {split: {item.keys[0] for item in items if split in item.splits} for split in _TEST_LIKE}
    if members["val"] and members["val"] <= members["test"]:
        return "test"
    return "train" if members["train"] and members["train"] <= members["val"] else None


def _warn_of_faults(items: Sequence[_Item]) -> None:
    """Log what is wrong with the splits of each dataset."""
    for dataset, members in _group(items).items():
        repeated = _find_repeated_by_val(members)
        if repeated:
            logger.warning(
                "%s: val is the same as %s in the lists, so that a checkpoint or threshold chosen on it is chosen on "
                "%s data.", dataset, repeated, repeated,
            )  # fmt: skip
        everywhere = Counter(item.label for item in members if len(item.splits) == len(_TEST_LIKE))
        if everywhere:
            logger.warning(
                "%s: %s originals and %s fakes are in all three splits of the lists.",
                dataset, f"{everywhere[Label.REAL]:,}", f"{everywhere[Label.FAKE]:,}",
            )  # fmt: skip
        num_seen = sum({"train", "test"} <= item.splits for item in members) - everywhere.total()
        if num_seen:
            logger.warning("%s: %s further videos of test are also in train in the lists.", dataset, f"{num_seen:,}")


def _refuse_several_splits(items: Sequence[_Item]) -> None:
    """Raise a LeakageError if a video is in several splits."""
    several = [f"{_show(item.keys[0])}: {', '.join(sorted(item.splits))}" for item in items if len(item.splits) > 1]
    if several:
        raise LeakageError(
            f"{len(several):,} videos are in several splits of the lists (source.splits=lists):\n"
            f"{list_problems(several)}\n"
            f"Repair the splits with source.splits=clean, or choose other datasets with source.datasets=[...]."
        )
