"""How much of a file is looked at, so that no file can take all memory or go on for ever."""

from collections.abc import Sequence
from dataclasses import dataclass

from unmask.errors import ConfigError, MediaError
from unmask.faces.search import MAX_SEARCH
from unmask.media.picture import MAX_PIXELS
from unmask.media.video import VideoIndex, VideoInfo, choose_frames


@dataclass(frozen=True)
class Limits:
    """Bounds of one file. What is over the first two is refused; what is over the others is left out, and that is said.

    Args:
        max_pixels: Of a picture, or of a frame of a video.
        max_seconds: Of a video; None for any length.
        max_frames: Looked at in a video, whatever `num_frames` and `every_n` say; results take some 2 kB each.
        max_search: Searched in a video beyond those asked for, where these show no face or hardly one; 0 for none.
        max_faces: Scored in one picture or frame, the largest first.

    Raises:
        ConfigError: One of them is not above 0, or `max_search` below it.
    """

    max_pixels: int = MAX_PIXELS
    max_seconds: float | None = None
    max_frames: int = 10_000
    max_search: int = MAX_SEARCH
    max_faces: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "max_search" and value == 0:
                continue
            if value is not None and not value > 0:
                raise ConfigError(f"limits.{name}={value} lets nothing through. Give a number above 0.")


_FRAMES_AT_ONCE = 8

_PIXELS_AT_ONCE = 17_000_000
"""Decoded frames are held until there are so many, or so many pixels: 50 MB, which is eight frames of 1080p."""


def count_at_once(info: VideoInfo) -> int:
    """Return how many decoded frames of a video are held at a time, at least one."""
    return max(min(_FRAMES_AT_ONCE, _PIXELS_AT_ONCE // max(info.width * info.height, 1)), 1)


def choose_within(index: VideoIndex, asked: Sequence[int], *, limits: Limits) -> list[int]:
    """Return those of the frames asked for that the limits let through, evenly spaced.

    Args:
        index: Of the video.
        asked: Positions of frames, rising.
        limits: What is too long is refused, what is too many is thinned out.

    Raises:
        MediaError: The video is longer than `max_seconds`.
    """
    seconds = index.info.duration_seconds
    if limits.max_seconds is not None and seconds > limits.max_seconds:
        raise MediaError(
            f"'{index.name}' is {seconds:,.1f} seconds long, more than the {limits.max_seconds:,g} that are looked at. "
            f"Cut out the part that matters."
        )
    return [asked[place] for place in choose_frames(len(asked), num_frames=limits.max_frames)]
