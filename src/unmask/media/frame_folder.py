"""Read a video that somebody took apart: a folder with a picture for each frame."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import MediaError
from unmask.media.kinds import PICTURE_SUFFIXES
from unmask.media.listing import list_visible
from unmask.media.picture import MAX_PIXELS, read_picture
from unmask.media.video import choose_frames
from unmask.types import Frame


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
    return path.is_dir() and any(file.suffix.lower() in PICTURE_SUFFIXES for file in list_visible(path))


def open_frame_folder(path: Path) -> FrameFolder:
    """List the frames of a folder in natural order (`2.png` before `10.png`); folders inside it are not searched.

    Raises:
        MediaError: The folder holds no image.
    """
    files = [file for file in list_visible(path) if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()]
    if not files:
        raise MediaError(f"The folder '{path}' holds no frames. Extract or copy them again, as JPEG or PNG.")
    return FrameFolder(path, tuple(sorted(files, key=_natural_order)))


def read_frame_folder(folder: FrameFolder, wanted: Sequence[int], *, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """Yield the wanted frames of a folder; damaged ones are left out, as in a video.

    Nobody knows at which times they were taken, so a frame's time is its position, as if there were one a second.

    Args:
        folder: Of `open_frame_folder`.
        wanted: Positions of frames, rising.
        max_pixels: A larger frame is left out.

    Raises:
        MediaError: Not one of them can be read.
    """
    problem, found = "", 0
    for index in wanted:
        try:
            image = read_picture(folder.files[index], max_pixels=max_pixels)
        except MediaError as error:
            problem = str(error)
            continue
        found += 1
        yield Frame(image, index, float(index))
    if not found:
        raise MediaError(f"No frame of '{folder.path}' can be read: {problem}")


def _natural_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name) if part]
