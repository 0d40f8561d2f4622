"""Media in folders named after their label, as in most image datasets."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.errors import SourceError, list_problems
from unmask.sources.folders import DownloadedSource, Unexpected, kind_of, list_folders, list_root, quote_some
from unmask.sources.labels import (
    FAKE_WORDS,
    REAL_WORDS,
    Doubt,
    Words,
    check_frames_of,
    find_frame_folders,
    read_split,
    read_split_of_label,
    split_name,
)
from unmask.sources.recognition import recognize_folder, refuse_layout, suggest_source
from unmask.types import ORIGINAL, Label, MediaKind, Video

_LOOKED_FOR = (
    "folders named after a label at any depth, such as 'real*/' and 'fake*/' or '0_real/' and '1_fake/', optionally "
    "with 'train/', 'val/' (or 'valid/'), 'test/' above or below them"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """Label, split and method inferred from a folder's path.

    Args:
        folder: Path relative to the root.
        label: Label, or None if no folder name states one.
        split: Split from a folder such as `valid/`, or None.
        weak_split: Split from a label folder such as `training_real/`; used only if there are several such splits.
        method: Forgery method of a fake.
    """

    folder: Path
    label: Label | None
    split: str | None
    weak_split: str | None
    method: str


class ImageFolder(DownloadedSource):
    """Read folders named real or fake, with images, videos or folders of frames at any depth below them.

    The method is the name of the fake folder (`fake_stylegan`), or of the folder above it if the name states only the
    label (`progan/1_fake`). Every video is its own group, because such datasets do not state identities. Ignores the
    name of a folder above both labels (`real_and_fake_face/training_fake`); raises an error for other ambiguous names.

    Args:
        root: Folder that contains the label or split folders.
        name: First part of every `video_id`.
        real: Words, or whole folder names, that mean real.
        fake: Words, or whole folder names, that mean fake.
        frames_of: `folder` if each folder of images below a label contains the frames of one video, `none` if no
            folder does, None to infer it: images numbered anew in each folder are frames.
        follow_links: Whether to follow symbolic links to targets outside of the root; otherwise they raise an error.
    """

    is_generic = True

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "image_folder",
        real: Sequence[str] = REAL_WORDS,
        fake: Sequence[str] = FAKE_WORDS,
        frames_of: str | None = None,
        follow_links: bool = False,
    ) -> None:
        check_frames_of(frames_of)
        self.root = Path(root)
        self.name = name
        self.words = Words(tuple(real), tuple(fake))
        self.frames_of = frames_of
        self.follow_links = follow_links

    @staticmethod
    def recognize(root: Path) -> str | None:
        """Recognize folders of both labels, at the top or in split folders."""
        words = Words()
        for parent in (root, *(folder for folder in list_folders(root) if read_split(folder.name))):
            by_label = {words.read(folder.name): folder for folder in list_folders(parent)}
            there = [label for label in Label if label in by_label]
            if len(there) == len(Label) or (there and parent != root):  # `test/fake_x/` alone can be evaluated
                return " and ".join(f"'{by_label[label].relative_to(root)}/'" for label in there)
        return None

    def list_videos(self) -> list[Video]:
        """Return every image, video and folder of frames below the label folders."""
        self._start_listing()
        listing = list_root(self.root, source=self)
        by_parent: dict[Path, list[Path]] = defaultdict(list)
        for path in listing.files:
            by_parent[path.parent].append(path)
        by_folder = {folder.relative_to(self.root): files for folder, files in by_parent.items()}
        places = _read_places(by_folder, self.words, root=self.root)
        labelled = {folder: files for folder, files in by_folder.items() if places[folder].label is not None}
        self._check_labels(places, by_folder)
        below = {folder: files for folder, files in labelled.items() if not self._is_label_folder(folder)}
        frame_folders = find_frame_folders(below, frames_of=self.frames_of)
        videos: list[Video] = []
        for folder, files in sorted(labelled.items(), key=lambda item: item[0].parts):
            paths = [self.root / folder] if folder in frame_folders else files
            videos += [self._make_video(path, places[folder], folder in frame_folders) for path in paths]
        others = [one for one in recognize_folder(self.root) if one.source != "image_folder"]
        if others:
            logger.info(
                "source=%s also recognizes '%s' (%s) and may know its identities and splits.",
                others[0].source, self.root, others[0].reason,
            )  # fmt: skip
        if frame_folders:
            logger.info(
                "Treating %d folders of images, such as '%s', as the frames of one video each. Set "
                "source.frames_of=none to treat every image separately.",
                len(frame_folders), min(frame_folders),
            )  # fmt: skip
        return videos

    def _is_label_folder(self, folder: Path) -> bool:
        return isinstance(self.words.read(folder.name), Label)

    def _check_labels(self, places: Mapping[Path, _Place], by_folder: Mapping[Path, Sequence[Path]]) -> None:
        """Log unlabelled files; raise a SourceError if there are no labels, or one label and unlabelled files."""
        labels = Counter({label: 0 for label in Label})
        unlabelled: Counter[str] = Counter()
        for folder, files in by_folder.items():
            label = places[folder].label
            if label is None:
                unlabelled[folder.as_posix()] += len(files)
            else:
                labels[label] += len(files)
        num_left = unlabelled.total()
        if not labels.total() or (num_left and not all(labels.values())):
            found = ", ".join(f"{labels[label]:,} {label.name.lower()}" for label in Label)
            others = f", {num_left:,} in folders with neither label ({quote_some(unlabelled)})" if num_left else ""
            raise refuse_layout(
                self.root,
                source="image_folder",
                layout="folders by label",
                looked_for=f"{_LOOKED_FOR} (files: {found}{others})",
                advice="Rename the folders, or set their words with source.real=[...] and source.fake=[...]; for a "
                "table of paths and labels, use source=csv.",
            )
        for name, count in unlabelled.items():
            self.unexpected.append(Unexpected("", "in a folder with neither label", count, (name,)))
        if num_left:
            logger.warning(
                "Skipped %d files in '%s', because none of their folders is named after a label: %s. Set the words "
                "with source.real=[...] or source.fake=[...].",
                num_left, self.root, quote_some(unlabelled),
            )  # fmt: skip

    def _make_video(self, path: Path, place: _Place, is_frame_folder: bool) -> Video:
        assert place.label is not None
        return Video(
            video_id=f"{self.name}/{path.relative_to(self.root).as_posix()}",
            path=path,
            label=place.label,
            method=ORIGINAL if place.label == Label.REAL else place.method,
            kind=MediaKind.FRAMES if is_frame_folder else kind_of(path),
            split=place.split,
        )


def _read_places(folders: Iterable[Path], words: Words, *, root: Path) -> dict[Path, _Place]:
    """Infer label, split and method of each folder from its path.

    Raises:
        SourceError: A path is ambiguous about its label, or names two splits; lists the folders.
    """
    folders = list(folders)
    containers = _find_containers(folders, words)
    problems: list[str] = []
    places: dict[Path, _Place] = {}
    for folder in folders:
        label, problem = _read_label(folder, containers, words)
        splits = {split: part for part in folder.parts if (split := read_split(part))}
        if len(splits) > 1:
            problem = f"'{folder}/' names two splits: {' and '.join(splits.values())}"
        if problem:
            problems.append(problem)
        places[folder] = _describe(folder, label, next(iter(splits), None), containers, words)
    if problems:
        suggestion = suggest_source(root, refused_by="image_folder")
        raise SourceError(
            f"The names of {len(problems)} folders are ambiguous about label or split:\n"
            f"{list_problems(sorted(problems))}\n"
            f"{suggestion + ' ' if suggestion else ''}Rename them, or define their whole names: source.real=[...] "
            f"source.fake=[...]."
        )
    weak = {place.weak_split for place in places.values()} - {None}
    if len(weak) > 1 and not any(place.split for place in places.values()):
        return {folder: replace(place, split=place.weak_split) for folder, place in places.items()}
    return places


def _find_containers(folders: Iterable[Path], words: Words) -> set[Path]:
    """Return the folders with both labels below them, whose own names therefore do not state a label."""
    below: dict[Path, set[Label]] = defaultdict(set)
    for folder in folders:
        for depth, part in enumerate(folder.parts):
            label = words.read(part)
            if isinstance(label, Label):
                for above in range(depth + 1):
                    below[Path(*folder.parts[:above])].add(label)
    return {folder for folder, labels in below.items() if len(labels) == len(Label)}


def _read_label(folder: Path, containers: set[Path], words: Words) -> tuple[Label | None, str]:
    """Return the label that the folder names in a path agree on, and a problem with them or ""."""
    label: Label | None = None
    named = doubtful = ""
    for depth, part in enumerate(folder.parts):
        meaning, path = words.read(part), Path(*folder.parts[: depth + 1])
        if isinstance(meaning, Doubt):
            is_certain = label is not None and meaning is Doubt.PART
            doubtful = doubtful if is_certain else str(path)
            if meaning is Doubt.NEGATED and path not in containers:
                return None, f"'{path}/': its name negates a label"
        elif isinstance(meaning, Label) and path not in containers:
            if label is not None and meaning != label:
                return None, f"'{path}/' contradicts '{named}/' above it"
            label, named, doubtful = meaning, str(path), ""
    if doubtful:
        return None, f"'{doubtful}/': its name could mean real or fake"
    return label, ""


def _describe(folder: Path, label: Label | None, split: str | None, containers: set[Path], words: Words) -> _Place:
    """Build the place of a folder; the method is the label folder's name, or one above it if that is more specific."""
    labels_at = [
        depth for depth, part in enumerate(folder.parts)
        if isinstance(words.read(part), Label) and Path(*folder.parts[: depth + 1]) not in containers
    ]  # fmt: skip
    if not labels_at:
        return _Place(folder, label, split, None, "")
    named = folder.parts[labels_at[0]]
    method = named
    if words.says_label_only(named):
        above = [
            part for part in folder.parts[: labels_at[0]]
            if not read_split(part) and not isinstance(words.read(part), Doubt) and split_name(part)
        ]  # fmt: skip
        method = above[0] if above else words.strip_name(named)
    return _Place(folder, label, split, read_split_of_label(named), method)
