"""Input files, and limits per file on memory and time."""

import glob
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.errors import ConfigError, LimitError, MediaError
from unmask.faces.search import MAX_FACES, MAX_SEARCH
from unmask.media.amplifiers import MAX_PARTS, MAX_SCANS, Bounds
from unmask.media.image import MAX_PIXELS, Still, read_still
from unmask.media.listing import is_passed_over, list_folder
from unmask.media.video import VideoIndex, choose_frames
from unmask.paths import expand_home
from unmask.types import Image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Limits per file.

    A file that exceeds `max_pixels`, `max_seconds`, `max_scans` or `max_parts` is refused. Frames and faces beyond the
    other limits are left out, with a note.

    Args:
        max_pixels: Maximum number of pixels of an image or a video frame.
        max_seconds: Maximum duration of a video; None for any.
        max_frames: Maximum number of frames examined in a video, above `num_frames` and `every_n`; 2 kB in results.
        max_search: Maximum number of further frames searched if those asked for show no or hardly a face; 0 for none.
        max_faces: Maximum number of faces scored in an image or frame, largest first.
        max_scans: Maximum number of scans of a JPEG, each of which costs time; a progressive JPEG has about ten.
        max_parts: Maximum number of segments, chunks, blocks, tags or strips of an image file.

    Raises:
        ConfigError: A limit is not above 0; `max_search` may be 0.
    """

    max_pixels: int = MAX_PIXELS
    max_seconds: float | None = None
    max_frames: int = 10_000
    max_search: int = MAX_SEARCH
    max_faces: int = MAX_FACES
    max_scans: int = MAX_SCANS
    max_parts: int = MAX_PARTS

    @property
    def bounds(self) -> Bounds:
        """Limits on the decoding work of an image."""
        return Bounds(self.max_scans, self.max_parts)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "max_search" and value == 0:
                continue
            if value is not None and not value > 0:
                raise ConfigError(f"limits.{name}={value} must be above 0.")


def choose_within(index: VideoIndex, asked: Sequence[int], *, limits: Limits) -> list[int]:
    """Return the requested frames, thinned evenly to the limit on their number.

    Args:
        index: Video index.
        asked: Positions of the requested frames, in ascending order.
        limits: Limits of a file.

    Raises:
        MediaError: The video is longer than `max_seconds`.
    """
    seconds = index.info.duration_seconds
    if limits.max_seconds is not None and seconds > limits.max_seconds:
        problem = (
            f"'{index.name}' is {seconds:,.1f} seconds long, more than the limit of {limits.max_seconds:,g} seconds."
        )
        raise LimitError(problem, "limits.max_seconds", math.ceil(seconds), "cut out the part that matters")
    return [asked[place] for place in choose_frames(len(asked), num_frames=limits.max_frames)]


@dataclass(frozen=True)
class Input:
    """A file to predict, or an unmatched input.

    Args:
        path: Path as given, or as found in a folder.
        error: Reason why there is nothing to predict; None for a file.
    """

    path: Path
    error: str | None = None


def expand_inputs(names: Sequence[str | Path]) -> list[Input]:
    """List the media behind files, folders (searched to the bottom) and patterns such as `clips/*.mp4`.

    A file given by name is accepted with any suffix. In folders, images and videos are recognized by suffix, hidden
    entries are skipped and counted in the log, and links are followed. An existing path is never read as a pattern. An
    unmatched input becomes a row with an error. A file given in several spellings (`a.jpg`, `./a.jpg`, through a link)
    is listed once, in the first spelling.
    """
    found: dict[str, Input] = {}
    for name in names:
        for entry in _expand(str(name)):
            found.setdefault(_identify(entry), entry)
    return list(found.values())


def _identify(entry: Input) -> str:
    """Return a key that is equal for all spellings of a file; an unmatched input may not be a valid path."""
    return os.path.realpath(entry.path) if entry.error is None else str(entry.path)


def _expand(name: str) -> list[Input]:
    name = expand_home(name)
    path = Path(name)
    if path.is_dir():
        return _list_folder(path)
    if path.exists() or not glob.has_magic(name):
        return [Input(path, error=None if path.exists() else f"No such file or folder: '{name}'. Check the path.")]
    found = sorted(match for match in glob.glob(name, recursive=True) if not _leads_aside(Path(match), Path(name)))
    matches = [entry for match in found for entry in _expand_match(Path(match))]
    return matches or [Input(path, error=f"Nothing matches the pattern '{name}'. Check it, or quote it for the shell.")]


def _leads_aside(match: Path, pattern: Path) -> bool:
    """Return whether a match lies in a folder such as `__MACOSX` that the pattern does not name."""
    return any(is_passed_over(part) and part not in pattern.parts for part in match.parent.parts)


def _expand_match(path: Path) -> list[Input]:
    return _list_folder(path) if path.is_dir() else [Input(path)]


def _list_folder(path: Path) -> list[Input]:
    listing = list_folder(path)
    passed_over = listing.describe_passed_over()
    if not listing.files:
        told = f" Skipped: {passed_over}." if passed_over else ""
        return [Input(path, error=f"The folder '{path}' contains no images or videos.{told}")]
    if listing.num_media_passed_over:
        logger.warning("Skipped in '%s': %s.", path, passed_over)
    return [Input(file) for file in listing.files]


def take_image(image: str | Path | Image, *, name: str, limits: Limits) -> Still:
    """Read an image file, or check that an array is an image.

    Args:
        image: File, or RGB pixels: uint8 of shape `(height, width, 3)`.
        name: Name in messages.
        limits: Limits of a file.

    Raises:
        MediaError: It is not an image, or exceeds a limit.
    """
    if not isinstance(image, np.ndarray):
        return read_still(Path(image), name=name, max_pixels=limits.max_pixels, bounds=limits.bounds)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        called = f" '{name}'" if name else ""
        raise MediaError(
            f"The array{called} of {image.dtype} and shape {image.shape} is not an image. Give RGB pixels: uint8 "
            f"of shape (height, width, 3)."
        )
    return Still(image)
