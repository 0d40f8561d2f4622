"""The JSON lists of DeepfakeBench: read their entries, and find the frames that they name on this machine."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from unmask.errors import SourceError, list_problems
from unmask.media.kinds import IMAGE_SUFFIXES
from unmask.media.listing import holds_frames, is_passed_over, natural_order
from unmask.sources.folders import describe_folder, list_folders
from unmask.sources.labels import SPLIT_NAMES
from unmask.sources.recognition import refuse_layout

_HEAD = re.compile(r'\s*\{\s*"[^"]+"\s*:\s*\{\s*"[^"]+"\s*:\s*\{\s*"(train|val|test)"\s*:\s*\{')
_FRAME = re.compile(r'"frames"\s*:\s*\[\s*("[^"]+")')
_DRIVE = re.compile(r"[A-Za-z]:")

Key = tuple[str, str, str, str]
"""Dataset, label, compression and name of a video."""


@dataclass
class Entry:
    """A video of the lists, with all splits that name it.

    Args:
        key: Dataset, label, compression ("" if the list has none) and name.
        splits: `train`, `val` and `test` if they name it.
        frames: Paths of its frames as written in the list.
    """

    key: Key
    splits: set[str] = field(default_factory=set)
    frames: tuple[str, ...] = ()


@dataclass
class Lists:
    """Content of one or more lists.

    Args:
        entries: Videos by key.
        problems: Entries that are not videos, as text.
        others: Paths among the frames that are not images, such as landmarks.
    """

    entries: dict[Key, Entry] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def find_lists(root: Path, lists: Path | None) -> list[Path]:
    """Return the JSON files to read.

    Args:
        root: Folder of the crops, in which lists are searched for if none are given.
        lists: A list or a folder of lists; None to search `root`, and the folders `dataset_json*` in it and beside it.

    Raises:
        SourceError: There is no list.
    """
    if lists is not None:
        if lists.is_file():
            return [lists]
        found = [path for path in sorted(lists.glob("*.json")) if _is_list(path)]
        if not found:
            raise SourceError(
                f"No lists of DeepfakeBench (*.json) in source.lists='{lists}'; found: {describe_folder(lists)}. Set "
                f"it to a list, such as 'FaceForensics++.json', or to a folder of them (dataset_json)."
            )
        return found
    found = search_lists(root)
    if not found:
        raise refuse_layout(
            root,
            source="deepfakebench",
            layout="DeepfakeBench",
            looked_for="its lists (*.json) there, or in a folder 'dataset_json' in or beside it",
            advice="Set source.lists to the JSON file or folder that came with the crops.",
        )
    return found


def search_lists(root: Path) -> list[Path]:
    """Return the JSON files in and beside a folder that start like a list of DeepfakeBench."""
    folders = (root, *sorted(root.glob("dataset_json*")), *_list_beside(root))
    return [path for folder in folders for path in sorted(folder.glob("*.json")) if _is_list(path)]


def recognize_list(root: Path) -> Path | None:
    """Return a list in a folder, or one beside it whose frames are in the folder; None if there is none."""
    found = search_lists(root)
    beside = set(_list_beside(root))
    return next((path for path in found if path.parent not in beside or _is_about(path, root)), None)


def _list_beside(root: Path) -> list[Path]:
    return [folder for folder in sorted(root.absolute().parent.glob("dataset_json*")) if folder != root.absolute()]


def _is_about(path: Path, root: Path) -> bool:
    """Return whether the first frame that a list names, or its folder, exists below a root."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        match = _FRAME.search(file.read(65536))
    try:
        frame = json.loads(match.group(1)) if match else ""
    except ValueError:
        return False
    folder = FrameFinder(root, replace={}).find([frame]).first.parent
    return folder != root and folder.is_dir()


def _is_list(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return _HEAD.match(file.read(4096)) is not None
    except (OSError, UnicodeDecodeError):
        return False


def read_lists(paths: Sequence[Path], *, datasets: Sequence[str] | None) -> Lists:
    """Read lists, and join what they say about the same video.

    Args:
        paths: JSON files.
        datasets: Names of the datasets to read; None for all.

    Raises:
        SourceError: A file is not such a list, or `datasets` names one that no list has.
    """
    lists, names = Lists(), set[str]()
    for path in paths:
        content = _load(path)
        names |= content.keys()
        for dataset, labels in content.items():
            if datasets is None or dataset in datasets:
                for place, split, key, info in _walk(dataset, labels, lists.problems, where=f"'{path.name}'"):
                    _add(lists, place, split, key, info)
    unknown = [name for name in datasets or () if name not in names]
    if unknown:
        raise SourceError(
            f"source.datasets={list(datasets or ())}: no list names {', '.join(unknown)}. The lists name: "
            f"{', '.join(sorted(names))}."
        )
    return lists


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SourceError(f"The list '{path}' cannot be read: {error}. Download it again.") from error
    if not isinstance(content, dict) or not all(isinstance(labels, dict) for labels in content.values()):
        raise SourceError(
            f"'{path}' is not a list of DeepfakeBench, which has the form "
            f"{{dataset: {{label: {{split: {{video: {{label, frames}}}}}}}}}}. Set source.lists to one that is."
        )
    return content


def _walk(
    dataset: str, labels: Mapping[str, Any], problems: list[str], *, where: str
) -> Iterator[tuple[str, str, Key, Mapping[str, Any]]]:
    """Yield place, split, key and content of each video; below some splits the compression comes first."""
    for label, splits in labels.items():
        for name, videos in splits.items() if isinstance(splits, dict) else ():
            split = SPLIT_NAMES.get(name)
            place = f"{where}: {dataset} > {label} > {name}"
            if split is None or not isinstance(videos, dict):
                problems.append(f"{place} is not a split")
                continue
            for video, info in videos.items():
                if _is_video(info):
                    yield f"{place} > {video}", split, (dataset, label, "", video), info
                elif not isinstance(info, dict):
                    problems.append(f"{place} > {video} is not a video")
                for inner, content in info.items() if isinstance(info, dict) and not _is_video(info) else ():
                    if _is_video(content):
                        yield f"{place} > {video} > {inner}", split, (dataset, label, video, inner), content
                    else:
                        problems.append(f"{place} > {video} > {inner} is not a video")


def _is_video(info: Any) -> bool:
    return isinstance(info, dict) and isinstance(info.get("frames"), list)


def _add(lists: Lists, place: str, split: str, key: Key, info: Mapping[str, Any]) -> None:
    dataset, label, compression, name = key
    key = (dataset, str(info.get("label") or label), compression, name)
    frames = [frame for frame in info["frames"] if isinstance(frame, str)]
    if len(frames) < len(info["frames"]):
        lists.problems.append(f"{place} has frames that are not paths")
    images = tuple(frame for frame in frames if PurePosixPath(frame).suffix.lower() in IMAGE_SUFFIXES)
    if len(images) < len(frames):
        lists.others += [frame for frame in frames if frame not in set(images)]
    entry = lists.entries.setdefault(key, Entry(key))
    entry.splits.add(split)
    entry.frames = max(entry.frames, images, key=len)  # some lists have a video's frames in one split only


@dataclass(frozen=True)
class Frames:
    """The frames of a video on this machine.

    Args:
        there: Those that exist, in natural order.
        missing: Places where the others were expected.
    """

    there: tuple[Path, ...]
    missing: tuple[Path, ...]

    @property
    def first(self) -> Path:
        """Place of a frame, which tells videos apart."""
        return min((*self.there, *self.missing), key=natural_order)


class FrameFinder:
    """Find frames whose paths were written on another machine.

    A path starts with a folder of the authors, relative or absolute, with slashes or backslashes. It stands for the
    longest end of it that exists below the root.

    Args:
        root: Folder of the crops.
        replace: Starts of paths, and what stands for them here.
    """

    def __init__(self, root: Path, *, replace: Mapping[str, str]) -> None:
        self._root = root
        self._replace = {old.replace("\\", "/"): new for old, new in replace.items()}
        self._prefixes: list[str] = []  # which led to the root before
        self._folders: dict[str, tuple[Path, frozenset[str]]] = {}
        self._unnamed: dict[Path, set[str]] = {}

    def find(self, frames: Sequence[str]) -> Frames:
        """Return which frames exist.

        Args:
            frames: At least one path as written in a list.
        """
        found: dict[bool, list[Path]] = defaultdict(list)
        for frame in frames:
            head, _, name = self._rename(frame).rpartition("/")
            if head not in self._folders:
                folder, names = self._folders[head] = self._open(head)
                self._unnamed.setdefault(folder, set(names))
            folder, names = self._folders[head]
            found[name in names].append(folder / name)
            self._unnamed[folder].discard(name)
        return Frames(tuple(sorted(found[True], key=natural_order)), tuple(sorted(found[False], key=natural_order)))

    def find_unnamed(self) -> tuple[list[Path], list[Path]]:
        """Return what lies below the root beside the frames found so far, without a name in the lists.

        Returns:
            Images in folders of frames, and folders of frames beside those.
        """
        there = {folder for folder, names in self._folders.values() if names and folder != self._root}
        frames = [
            folder / name for folder in there for name in self._unnamed[folder]
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not is_passed_over(name)
        ]  # fmt: skip
        parents = {folder.parent for folder in there if self._root in folder.parents}
        beside = [
            folder for parent in sorted(parents) for folder in list_folders(parent)
            if folder not in there and holds_frames(folder)
        ]  # fmt: skip
        return sorted(frames), beside

    def _rename(self, path: str) -> str:
        path = path.replace("\\", "/")
        for old, new in self._replace.items():
            if path.startswith(old):
                return new + path[len(old) :]
        return path

    def _open(self, head: str) -> tuple[Path, frozenset[str]]:
        folder = self._locate(head)
        try:
            return folder, frozenset(os.listdir(folder))
        except OSError:
            return folder, frozenset()

    def _locate(self, head: str) -> Path:
        """Return the folder here for one in a list; where it would be if it does not exist."""
        for prefix in self._prefixes:
            if head.startswith(prefix) and (folder := self._root.joinpath(*_split(head[len(prefix) :]))).is_dir():
                return folder
        if os.path.isabs(head) and os.path.isdir(head):
            return Path(head)
        parts = _split(head)
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            folder = self._root / end
            if folder.is_dir():
                self._prefixes.insert(0, head[: len(head) - len(end)] if head.endswith(end) else head)
                return folder
        known = next((prefix for prefix in self._prefixes if head.startswith(prefix)), "")
        return self._root.joinpath(*_split(head[len(known) :]))


def _split(path: str) -> list[str]:
    """Return the folders of a path, without drive and dots, so that none leads out of the root."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return parts[1:] if parts and _DRIVE.fullmatch(parts[0]) else parts


def refuse_contradictions(classes: Mapping[Path, Mapping[str, str]]) -> None:
    """Raise a SourceError if a frame belongs to a real and to a fake video.

    Args:
        classes: By frame, a video of each class that it was found for.
    """
    problems = [
        f"'{frame}': {' and '.join(f'{label} in {where}' for label, where in sorted(labels.items()))}"
        for frame, labels in classes.items() if len(labels) > 1
    ]  # fmt: skip
    if problems:
        raise SourceError(
            f"{len(problems)} videos are real and fake by the lists:\n{list_problems(problems)}\n"
            f"If source.root is a folder of one method only, set it to the folder that the paths of the lists start "
            f"in; otherwise choose with source.datasets=[...]."
        )
