"""List media in folders, and read folders of numbered frames as videos."""

import os
import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unmask.errors import MediaError
from unmask.media.image import MAX_PIXELS, read_image
from unmask.media.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_typescript
from unmask.media.video import choose_frames
from unmask.types import Frame

MEDIA_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES

_OF_SYSTEMS = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "recycler",
        "lost+found",
        "system volume information",
    }
    | {"thumbs.db", "ehthumbs.db", "desktop.ini"}
)
"""What macOS, Windows, Linux and storage boxes put beside the data, in lower case; most hold small or older copies."""

_OF_DOWNLOADS = (".part", ".partial", ".crdownload", ".download", ".aria2", ".!ut", ".!qb", ".tmp", "~")
"""Ends of the names of files that are not whole yet, or that an editor left."""

_SHOWN = 8


@dataclass(frozen=True)
class Listing:
    """Images and videos in a folder tree, and counts of everything else.

    Args:
        root: Folder that was searched.
        files: Images and videos by suffix, sorted, each real file once.
        passed_over: Number of skipped files by kind, such as `"in '.ipynb_checkpoints'"`.
        num_media_passed_over: Number of skipped files with the suffix of an image or video.
        links_out: Links that lead out of the root and were not followed.
    """

    root: Path
    files: tuple[Path, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    num_media_passed_over: int = 0
    links_out: tuple[Path, ...] = ()

    def describe_passed_over(self) -> str:
        """Return such as `20 in '.ipynb_checkpoints', 1 'Thumbs.db'`, or "" where nothing was passed over."""
        rows = sorted(self.passed_over.items(), key=lambda row: (-row[1], row[0]))
        parts = [f"{count:,} {what}" for what, count in rows[:_SHOWN]]
        rest = sum(count for _, count in rows[_SHOWN:])
        return ", ".join([*parts, f"{rest:,} others"] if rest else parts)


def list_media(folder: Path, *, follow_links: bool = True) -> list[Path]:
    """Return the images and videos below a folder; see `list_folder`."""
    return list(list_folder(folder, follow_links=follow_links).files)


def list_folder(folder: Path, *, follow_links: bool = True, skip: Collection[Path] = ()) -> Listing:
    """Find the images and videos in a folder tree by suffix, and count what is skipped.

    Skips hidden files and folders, those of operating systems (`__MACOSX`, `@eaDir`, `Thumbs.db`) and unfinished
    downloads. Follows links, but lists each real folder and file once, so circular links are harmless.

    Args:
        folder: Folder to search; its own name may be hidden.
        follow_links: Whether to follow links that lead out of the folder.
        skip: Files and folders below it that are not searched or counted.
    """
    walk = _Walk(folder, follow_links=follow_links, skip=skip)
    walk.run()
    files = tuple(sorted(walk.files, key=lambda path: path.parts))
    return Listing(folder, files, dict(walk.passed_over), walk.num_media_passed_over, tuple(sorted(walk.links_out)))


def is_passed_over(name: str) -> bool:
    """Tell whether a file or folder of that name is hidden, of an operating system or an unfinished download."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS or name.lower().endswith(_OF_DOWNLOADS)


def list_visible(folder: Path) -> list[Path]:
    """Return what lies in a folder itself, sorted, without what is passed over everywhere."""
    return sorted(path for path in folder.iterdir() if not is_passed_over(path.name))


class _Walk:
    """One search; plain folders come before links, so that a file keeps the name under which it really lies."""

    def __init__(self, root: Path, *, follow_links: bool, skip: Collection[Path]) -> None:
        self.root = root
        self.skip = frozenset(map(str, skip))
        self.real_root = os.path.realpath(root)
        self.follow_links = follow_links
        self.files: list[Path] = []
        self.passed_over: Counter[str] = Counter()
        self.num_media_passed_over = 0
        self.links_out: list[Path] = []
        self._seen: set[str] = set()  # real paths of folders and files
        self._links: deque[Path] = deque()

    def run(self) -> None:
        self._search(self.root)
        while self._links:
            self._follow(self._links.popleft())

    def _search(self, top: Path) -> None:
        """List a folder and the plain ones below it; links are kept for later."""
        pending = [(str(top), os.path.realpath(top))]
        while pending:
            folder, real = pending.pop()
            if real in self._seen:
                continue
            self._seen.add(real)
            for entry in self._scan(folder):
                path = entry.name if folder == os.curdir else os.path.join(folder, entry.name)
                if path in self.skip:
                    continue
                if is_passed_over(entry.name):
                    self._pass_over_name(entry)
                elif entry.is_symlink():
                    self._links.append(Path(path))
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((path, os.path.join(real, entry.name)))
                elif entry.is_file(follow_symlinks=False):
                    self._take(Path(path), os.path.join(real, entry.name))

    def _scan(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from list(entries)
        except OSError as error:
            self.passed_over[f"folders that cannot be read ({error.strerror})"] += 1

    def _follow(self, link: Path) -> None:
        real = os.path.realpath(link)
        if not os.path.exists(real):
            self.passed_over["links that lead nowhere"] += 1
        elif not self.follow_links and not self._is_inside(real):
            self.links_out.append(link)
        elif real in self._seen:
            self.passed_over["links to what is listed already"] += 1
        elif os.path.isdir(real):
            self._search(link)
        elif os.path.isfile(real):
            self._take(link, real)

    def _is_inside(self, real: str) -> bool:
        return real == self.real_root or real.startswith(os.path.join(self.real_root, ""))

    def _take(self, path: Path, real: str) -> None:
        suffix = path.suffix.lower()
        if suffix not in MEDIA_SUFFIXES or is_typescript(path):
            self.passed_over[f"'{suffix or path.name}' files"] += 1
        else:
            self._seen.add(real)
            self.files.append(path)

    def _pass_over_name(self, entry: os.DirEntry[str]) -> None:
        """Count a file by its kind, and what a folder holds by the folder's name."""
        if entry.is_dir(follow_symlinks=False):
            names = [name for _, _, files in os.walk(entry.path) for name in files]
            self.passed_over[f"in '{entry.name}'"] += len(names)
            self.num_media_passed_over += sum(_is_media_name(name) for name in names)
            return
        name = entry.name
        if name.startswith("._"):
            what = "'._*' files"
        elif name.lower().endswith(_OF_DOWNLOADS):
            what = "unfinished downloads"
            self.num_media_passed_over += 1
        elif name.startswith(".") and _is_media_name(name):
            what = "hidden files"
            self.num_media_passed_over += 1
        else:
            what = f"'{name}'"
        self.passed_over[what] += 1


def _is_media_name(name: str) -> bool:
    return _has_suffix(name, MEDIA_SUFFIXES)


def _has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    return os.path.splitext(name)[1].lower() in suffixes


@dataclass(frozen=True)
class FrameFolder:
    """The frames of a video in their order.

    Args:
        path: The folder.
        files: One image a frame.
    """

    path: Path
    files: tuple[Path, ...]

    @property
    def codec(self) -> str:
        """The suffix that most frames have, such as `png`."""
        ((suffix, _),) = Counter(file.suffix.lower().lstrip(".") for file in self.files).most_common(1)
        return suffix

    def measure(self, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
        """Return width and height of the first frame that can be read.

        Args:
            max_pixels: A larger frame is refused.

        Raises:
            MediaError: None of them can be read.
        """
        first = next(read_frame_folder(self, range(len(self.files)), max_pixels=max_pixels))
        return first.image.shape[1], first.image.shape[0]

    def choose(self, num_frames: int | None) -> list[tuple[int, Path]]:
        """Return evenly spaced frames with their positions, the first and the last included."""
        return [(index, self.files[index]) for index in choose_frames(len(self.files), num_frames=num_frames)]


def holds_frames(path: Path) -> bool:
    """Tell whether a path is a folder with images in it, not counting those of folders inside."""
    if not path.is_dir():
        return False
    with os.scandir(path) as entries:  # ends at the first image; folders may hold thousands
        return any(_has_suffix(entry.name, IMAGE_SUFFIXES) and not is_passed_over(entry.name) for entry in entries)


def open_frame_folder(path: Path) -> FrameFolder:
    """List the frames of a folder in natural order (`2.png` before `10.png`); folders inside it are not searched.

    Raises:
        MediaError: The folder holds no image.
    """
    files = [file for file in list_visible(path) if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
    if not files:
        raise MediaError(f"The folder '{path}' contains no frames. Extract or copy them again, as JPEG or PNG.")
    return FrameFolder(path, tuple(sorted(files, key=natural_order)))


def read_frame_folder(folder: FrameFolder, wanted: Sequence[int], *, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """Yield the wanted frames of a folder, and skip damaged ones, as for a video.

    The times of the frames are unknown, so a frame's time is its position, as if at one frame per second.

    Args:
        folder: Result of `open_frame_folder`.
        wanted: Positions of frames, ascending.
        max_pixels: Maximum size of a frame; larger ones are skipped.

    Raises:
        MediaError: None of the frames can be read.
    """
    problem, found = "", 0
    for index in wanted:
        try:
            image = read_image(folder.files[index], max_pixels=max_pixels)
        except MediaError as error:
            problem = str(error)
            continue
        found += 1
        yield Frame(image, index, float(index))
    if not found:
        raise MediaError(f"No frame of '{folder.path}' can be read: {problem}")


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Return the sort key that puts `2.png` before `10.png`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name) if part]
