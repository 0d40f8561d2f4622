"""Which frames of a video are searched for faces: those asked for, and more where they show none, or too few."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise

from unmask.errors import MediaError
from unmask.faces.detector import Detector
from unmask.media.video import choose_frames
from unmask.types import Face, Frame

ReadFrames = Callable[[Sequence[int]], Iterator[Frame]]

MAX_SEARCH = 500
"""Frames beyond those asked for: of a video of two hours one in fifteen seconds, which takes minutes at most."""

ENOUGH = 8
"""Frames with a face that are enough to score it; as many as were asked for if those are fewer."""

_FRAMES_AT_ONCE = 8

_PIXELS_AT_ONCE = 17_000_000
"""Bound on the decoded frames of a batch: 50 MB, which is eight frames of 1080p."""


def count_at_once(width: int, height: int) -> int:
    """Return how many decoded frames to hold at a time, at least one, so that large ones cannot fill the memory.

    Args:
        width: Width of the video in pixels.
        height: Height of the video in pixels.
    """
    return max(min(_FRAMES_AT_ONCE, _PIXELS_AT_ONCE // max(width * height, 1)), 1)


@dataclass(frozen=True)
class Batch:
    """Frames that were searched together.

    Args:
        frames: Those that could be decoded.
        faces: Found in each, largest first.
        num_planned: Frames to search so far, in all batches.
    """

    frames: tuple[Frame, ...]
    faces: tuple[list[Face], ...]
    num_planned: int


class SearchPlan:
    """Chooses frames round by round, knowing where the rounds before found faces.

    The first round holds the frames asked for. While fewer than `ENOUGH` of all frames searched have a face, the next
    one halves the gaps beside those with a face, so that it finds where the face comes and goes; and all gaps where
    there is none, or nothing is left beside it, as about a false alarm.

    Args:
        num_frames: Frames in the video.
        asked: Positions of the frames asked for, rising.
        max_more: Frames to search beyond those.
    """

    def __init__(self, num_frames: int, asked: Sequence[int], *, max_more: int = MAX_SEARCH) -> None:
        self._num_frames = num_frames
        self._num_left = max_more
        self._enough = min(ENOUGH, len(asked))
        self._has_face = dict.fromkeys(asked, False)

    @property
    def num_planned(self) -> int:
        """Frames chosen so far."""
        return len(self._has_face)

    def note_face(self, position: int) -> None:
        """Take note that a frame has a face."""
        self._has_face[position] = True

    def choose_more(self) -> list[int]:
        """Return the positions of the next round, rising; none when the search is over."""
        if sum(self._has_face.values()) >= self._enough:
            return []
        middles = self._halve(only_beside_faces=True) or self._halve(only_beside_faces=False)
        chosen = [middles[place] for place in choose_frames(len(middles), num_frames=self._num_left)]
        self._num_left -= len(chosen)
        self._has_face |= dict.fromkeys(chosen, False)
        return chosen

    def _halve(self, *, only_beside_faces: bool) -> list[int]:
        searched = [-1, *sorted(self._has_face), self._num_frames]
        return [
            (start + end) // 2
            for start, end in pairwise(searched)
            if end - start > 1
            and (not only_beside_faces or self._has_face.get(start, False) or self._has_face.get(end, False))
        ]


def search_faces(
    read: ReadFrames,
    asked: Sequence[int],
    *,
    num_frames: int,
    detector: Detector,
    at_once: int,
    max_more: int = MAX_SEARCH,
) -> Iterator[Batch]:
    """Search the frames asked for, and then more where they show too few faces; see `SearchPlan`.

    Within a round frames come in order of time, but the rounds lie between each other. The frames of two batches are
    held at a time.

    Args:
        read: Yields the frames of the video at some positions, rising.
        asked: Positions of frames, rising.
        num_frames: Frames in the video.
        detector: Finds the faces.
        at_once: Frames in a batch.
        max_more: Frames to search beyond those asked for.

    Raises:
        MediaError: Not one of the frames asked for can be decoded, or one is larger than the limit.
    """
    plan = SearchPlan(num_frames, asked, max_more=max_more)
    frames = read(asked)
    while True:
        while some := tuple(islice(frames, at_once)):
            faces = tuple(detector.detect([frame.image for frame in some]))
            for frame, found in zip(some, faces, strict=True):
                if found:
                    plan.note_face(frame.index)
            yield Batch(some, faces, plan.num_planned)
        more = plan.choose_more()
        if not more:
            return
        frames = _read_more(read, more)


def _read_more(read: ReadFrames, wanted: Sequence[int]) -> Iterator[Frame]:
    """Yield frames; that none of them can be decoded is no reason to refuse a video of which others could be."""
    with suppress(MediaError):
        yield from read(wanted)
