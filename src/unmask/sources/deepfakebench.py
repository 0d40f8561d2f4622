"""Crops prepared by DeepfakeBench (Yan et al., NeurIPS 2023) or for DF40 (Yan et al., NeurIPS 2024)."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.errors import ConfigError, LeakageError, SourceError, list_problems
from unmask.sources.deepfakebench_lists import (
    Entry,
    FrameFinder,
    Frames,
    Key,
    find_lists,
    read_lists,
    recognize_list,
    refuse_contradictions,
)
from unmask.sources.deepfakebench_names import name_method, name_original, name_people, name_stranger, read_label
from unmask.sources.folders import DownloadedSource, note_unexpected, quote_some
from unmask.sources.labels import check_fraction, split_around_test
from unmask.types import ORIGINAL, Label, MediaKind, Video

SPLITS = ("clean", "lists", None)

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
    def method(self) -> str:
        """Method of the video."""
        return name_method(self.keys[0][1]) if self.label == Label.FAKE else ORIGINAL

    @property
    def part(self) -> str:
        """Dataset, method and compression."""
        return _join_part(self.dataset, self.method, self.keys[0][2])


class DeepfakeBench(DownloadedSource):
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
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
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
        follow_links: bool = False,
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
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize a folder with lists of DeepfakeBench in it, or in `dataset_json` in or beside it."""
        found = recognize_list(root)
        return f"'{found.name}' lists frames by dataset, label and split" if found else None

    def list_videos(self) -> list[Video]:
        """Return a video for each entry of the lists with its frames, or as missing if none of them exists."""
        self._start_listing()
        lists = read_lists(find_lists(self.root, self.lists), datasets=self.datasets)
        if lists.problems:
            logger.warning("Skipped %d entries of the lists:\n%s", len(lists.problems), list_problems(lists.problems))
        note_unexpected(self, "", "not a video", lists.problems)
        note_unexpected(self, "", "not an image, among the frames of the lists", lists.others)
        finder = FrameFinder(self.root, replace=self.replace)
        items = self._find_frames(self._drop_empty(list(lists.entries.values())), finder)
        self._note_faults(items)
        repeating: set[str] = set()
        if self.splits == "clean":
            repeating = {dataset for dataset, members in _group(items).items() if _find_repeated_by_val(members)}
        items = self._join_repeated([_drop_val(item) if item.dataset in repeating else item for item in items])
        self._note_missing(items)
        self._note_unnamed(items, finder)
        videos = list(self._make_videos(items))
        if self.splits is None:
            return [replace(video, split=None) for video in videos]
        if self.splits == "lists":
            _refuse_several_splits(items)
        return self._part_people(self._carve_val(videos, repeating))

    def part_of(self, video: Video) -> str:
        """Return dataset, method and compression of a video, such as `FaceForensics++ Deepfakes c23`."""
        return _join_part(self._name_dataset(video), video.method, video.compression)

    def _name_dataset(self, video: Video) -> str:
        return video.video_id.removeprefix(f"{self.name}/").partition("/")[0]

    def _note(self, reason: str, found: Iterable[tuple[str, str]]) -> None:
        """Note entries that are skipped, each a part and a name."""
        by_part: dict[str, list[str]] = defaultdict(list)
        for part, name in found:
            by_part[part].append(name)
        for part, names in by_part.items():
            note_unexpected(self, part, reason, names)

    def _drop_empty(self, entries: Sequence[Entry]) -> list[Entry]:
        empty = [_show(entry.key) for entry in entries if not entry.frames]
        if empty:
            logger.warning("Skipped %d videos for which the lists name no frame: %s.", len(empty), quote_some(empty))
        note_unexpected(self, "", "without any frame in the lists", empty)
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

    def _find_frames(self, entries: Sequence[Entry], finder: FrameFinder) -> list[_Item]:
        """Locate the frames, and leave out datasets of which none exists on this machine."""
        labels = self._read_labels(entries)
        items = [
            _Item((one.key,), labels[one.key[1]], frozenset(one.splits), finder.find(one.frames)) for one in entries
        ]
        there = {(item.dataset, item.keys[0][2]) for item in items if item.frames.there}
        if not there:
            raise SourceError(
                f"None of the {len(items):,} videos of the lists has a frame in '{self.root}': "
                f"'{entries[0].frames[0]}' was expected at '{items[0].frames.first}'. Set source.root to the folder "
                f"of the crops, or replace the start of the paths: "
                f"'+source.replace={{/folder/of/the/authors: {self.root}}}'."
            )
        absent = [item for item in items if (item.dataset, item.keys[0][2]) not in there]
        if absent and self.datasets is None:
            counts = Counter(_join_part(item.dataset, item.keys[0][2]) for item in absent)
            names = (f"{name} ({count:,} videos)" for name, count in sorted(counts.items()))
            logger.warning("Skipped datasets of the lists without any frame in '%s': %s.", self.root, quote_some(names))
            self._note("without any frame here", ((item.part, _show(item.keys[0])) for item in absent))
            items = [item for item in items if (item.dataset, item.keys[0][2]) in there]
        return items

    def _note_missing(self, items: Sequence[_Item]) -> None:
        """Log the frames that do not exist, and note the videos that lack some of them."""
        missing = [item for item in items if item.frames.missing]
        if missing:
            logger.warning(
                "%s frames of the lists do not exist, such as '%s'; %s videos lack some of their frames, and %s all.",
                f"{sum(len(item.frames.missing) for item in missing):,}", missing[0].frames.missing[0],
                f"{sum(bool(item.frames.there) for item in missing):,}",
                f"{sum(not item.frames.there for item in missing):,}",
            )  # fmt: skip
        self._note(
            "lacking some of their frames", ((one.part, _show(one.keys[0])) for one in missing if one.frames.there)
        )

    def _make_videos(self, items: Sequence[_Item]) -> Iterator[Video]:
        originals = {
            (dataset, compression, name): item.keys[0]
            for item in items if item.label == Label.REAL for dataset, _, compression, name in item.keys
        }  # fmt: skip
        for item in items:
            dataset, _, compression, name = item.keys[0]
            original = originals.get((dataset, compression, name_original(name)))
            is_fake = item.label == Label.FAKE
            yield Video(
                video_id=self._make_id(item.keys[0]),
                path=item.frames.first.parent,
                label=item.label,
                method=item.method,
                kind=MediaKind.FRAMES,
                compression=compression,
                identities=name_people(name) or name_stranger(item.frames.first),
                original=self._make_id(original) if is_fake and original else None,
                split=next(split for split in _TEST_LIKE if split in item.splits),
                frames=item.frames.there or item.frames.missing,
            )

    def _make_id(self, key: Key) -> str:
        return "/".join((self.name, *filter(None, key)))

    def _carve_val(self, videos: Sequence[Video], repeating: set[str]) -> list[Video]:
        """Take a validation split of separate people from train, where datasets repeat another split in val.

        People whom other datasets have in train or val stay there.
        """
        if not repeating:
            return list(videos)
        named: list[Video] = []
        others: list[Video] = []
        for video in videos:
            (named if self._name_dataset(video) in repeating and video.identities else others).append(video)
        homes = {person: video.split for video in others if video.split != "test" for person in video.identities}
        test = [video for video in named if video.split == "test"]
        free, settled = [], []
        for video in (video for video in named if video.split != "test"):
            splits = {homes[person] for person in video.identities if person in homes}
            if not splits:
                free.append(video)
            elif len(splits) == 1:
                settled.append(replace(video, split=splits.pop()))
        carved = split_around_test(
            test, free, val_fraction=self.val_fraction, seed=self.seed, known_leaks=self.known_leaks
        )
        done = {video.video_id: video for video in (*others, *settled, *carved)}
        dropped = [video for video in videos if video.video_id not in done]
        self._note("mixing people of train and val", ((self.part_of(video), video.video_id) for video in dropped))
        return [done[video.video_id] for video in videos if video.video_id in done]

    def _part_people(self, videos: Sequence[Video]) -> list[Video]:
        """Rename the people of test who are also in train or val, and log them: the published splits share them."""
        of_test = {person for video in videos if video.split == "test" for person in video.identities}
        shared = of_test & {person for video in videos if video.split != "test" for person in video.identities}
        if shared:
            self.known_leaks.append(f"{len(shared)} of the {len(of_test)} people in test are in train or val too")
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

    def _join_repeated(self, items: Sequence[_Item]) -> list[_Item]:
        """Join the items with the same frames under the name in the largest dataset, with the splits of all.

        Raises:
            SourceError: The same frames are real and fake.
        """
        sizes = Counter(item.dataset for item in items)
        joined: dict[Path, _Item] = {}
        copies: list[_Item] = []
        classes: dict[Path, dict[str, str]] = defaultdict(dict)
        for item in sorted(items, key=lambda item: (-sizes[item.dataset], item.keys[0])):
            first = item.frames.first
            classes[first].setdefault(item.label.name.lower(), _show(item.keys[0]))
            known = joined.get(first)
            if known is None:
                joined[first] = item
            else:
                copies.append(item)
                joined[first] = replace(known, keys=known.keys + item.keys, splits=known.splits | item.splits)
        refuse_contradictions(classes)
        if copies:
            logger.warning("%s entries repeat a video of another list or label, and are dropped.", f"{len(copies):,}")
        self._note("repeating a video of another list", ((item.part, _show(item.keys[0])) for item in copies))
        return sorted(joined.values(), key=lambda item: item.keys[0])

    def _note_unnamed(self, items: Sequence[_Item], finder: FrameFinder) -> None:
        """Log and note frames, and folders of frames beside those of the lists, that the lists do not name."""
        parts = {frame.parent: item.part for item in items for frame in (*item.frames.there, *item.frames.missing)}
        beside = {folder.parent: part for folder, part in parts.items()}
        frames, folders = finder.find_unnamed()
        if frames or folders:
            logger.warning(
                "Skipped in '%s', because no list names them: %s frames and %s folders of frames, such as '%s'.",
                self.root, f"{len(frames):,}", f"{len(folders):,}", (folders or frames)[0],
            )  # fmt: skip
        self._note("frames in no list", ((parts.get(path.parent, ""), path.name) for path in frames))
        self._note("folders in no list", ((beside.get(path.parent, ""), path.name) for path in folders))

    def _note_faults(self, items: Sequence[_Item]) -> None:
        """Log and note what is wrong with the splits of each dataset."""
        for dataset, members in _group(items).items():
            faults = []
            repeated = _find_repeated_by_val(members)
            if repeated:
                faults.append(
                    f"{dataset}: val is the same as {repeated} in the lists, so that a checkpoint or threshold chosen "
                    f"on it is chosen on {repeated} data"
                )
            everywhere = Counter(item.label for item in members if len(item.splits) == len(_TEST_LIKE))
            if everywhere:
                faults.append(
                    f"{dataset}: {everywhere[Label.REAL]:,} originals and {everywhere[Label.FAKE]:,} fakes are in all "
                    f"three splits of the lists"
                )
            num_seen = sum({"train", "test"} <= item.splits for item in members) - everywhere.total()
            if num_seen:
                faults.append(f"{dataset}: {num_seen:,} further videos of test are also in train in the lists")
            for fault in faults:
                logger.warning("%s.", fault)
            self.known_leaks += faults


def _join_part(*names: str) -> str:
    return " ".join(filter(None, names))


def _group(items: Sequence[_Item]) -> dict[str, list[_Item]]:
    by_dataset: dict[str, list[_Item]] = defaultdict(list)
    for item in items:
        by_dataset[item.dataset].append(item)
    return by_dataset


def _show(key: Key) -> str:
    return "/".join(filter(None, key))


def _drop_val(item: _Item) -> _Item:
    """Return an item without the split `val`, unless it has no other."""
    return replace(item, splits=item.splits - {"val"} or item.splits)


def _find_repeated_by_val(items: Sequence[_Item]) -> str | None:
    """Return the split that the val split of a dataset repeats; None if it is a split of its own."""
    members = {split: {item.keys[0] for item in items if split in item.splits} for split in _TEST_LIKE}
    if members["val"] and members["val"] <= members["test"]:
        return "test"
    return "train" if members["train"] and members["train"] <= members["val"] else None


def _refuse_several_splits(items: Sequence[_Item]) -> None:
    """Raise a LeakageError if a video is in several splits."""
    several = [f"{_show(item.keys[0])}: {', '.join(sorted(item.splits))}" for item in items if len(item.splits) > 1]
    if several:
        raise LeakageError(
            f"{len(several):,} videos are in several splits of the lists (source.splits=lists):\n"
            f"{list_problems(several)}\n"
            f"Repair the splits with source.splits=clean, or choose other datasets with source.datasets=[...]."
        )
