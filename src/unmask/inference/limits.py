"""How much of a file is looked at, so that no file can take all memory or go on for ever."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unmask.errors import ConfigError, LimitError
from unmask.faces.search import MAX_SEARCH
from unmask.media.amplifiers import MAX_PARTS, MAX_SCANS, Bounds
from unmask.media.picture import MAX_PIXELS
from unmask.media.video import VideoIndex, choose_frames


@dataclass(frozen=True)
class Limits:
    """Bounds of one file. What is over the first two is refused; what is over the others is left out, and that is said.

    Args:
        max_pixels: Of a picture, or of a frame of a video.
        max_seconds: Of a video; None for any length.
        max_frames: Looked at in a video, whatever `num_frames` and `every_n` say; results take some 2 kB each.
        max_search: Searched in a video beyond those asked for, where these show no face or hardly one; 0 for none.
        max_faces: Scored in one picture or frame, the largest first.
        max_scans: Of a JPEG; a progressive one has about ten. More are refused, since each costs time.
        max_parts: Segments, chunks, blocks, tags or strips of an image file; more are refused for the same reason.

    Raises:
        ConfigError: One of them is not above 0, or `max_search` below it.
    """

    max_pixels: int = MAX_PIXELS
    max_seconds: float | None = None
    max_frames: int = 10_000
    max_search: int = MAX_SEARCH
    max_faces: int = 64
    max_scans: int = MAX_SCANS
    max_parts: int = MAX_PARTS

    @property
    def bounds(self) -> Bounds:
        """The work that an image may ask for."""
        return Bounds(self.max_scans, self.max_parts)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "max_search" and value == 0:
                continue
            if value is not None and not value > 0:
                raise ConfigError(f"limits.{name}={value} lets nothing through. Give a number above 0.")


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
        problem = (
            f"'{index.name}' is {seconds:,.1f} seconds long, more than the {limits.max_seconds:,g} that are looked at."
        )
        raise LimitError(problem, "limits.max_seconds", math.ceil(seconds), "cut out the part that matters")
    return [asked[place] for place in choose_frames(len(asked), num_frames=limits.max_frames)]
