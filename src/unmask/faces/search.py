"""Choose the frames of a video to search for faces: those requested, and more if too few of them show a face."""

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
"""Maximum number of extra frames: about one every 15 seconds in a two-hour video, which takes minutes at most."""

MAX_FACES = 64
"""Maximum number of faces per frame, largest first, where every face counts."""

ENOUGH = 8
"""Number of frames with a face that is enough for a score, or the number requested if that is lower."""

_FRAMES_AT_ONCE = 8

_PIXELS_AT_ONCE = 17_000_000
"""Maximum number of decoded pixels in a batch: 50 MB, or eight frames of 1080p."""


def count_at_once(width: int, height: int) -> int:
    """Return the number of decoded frames per batch, at least 1, limited so that large frames do not fill the memory.

    Args:
        width: Width of the video in pixels.
        height: Height of the video in pixels.
    """
    return max(min(_FRAMES_AT_ONCE, _PIXELS_AT_ONCE // max(width * height, 1)), 1)


@dataclass(frozen=True)
class Batch:
    """Frames that were searched together.

    Args:
        frames: Decoded frames.
        faces: Faces in each frame, largest first.
        num_planned: Number of frames planned so far, over all batches.
    """

    frames: tuple[Frame, ...]
    faces: tuple[list[Face], ...]
    num_planned: int


class SearchPlan:
    """Choose frames round by round, guided by the faces found so far.

    The first round consists of the requested frames. While fewer than `ENOUGH` frames have a face, each further round
    halves the gaps next to frames with a face, to find where it appears and disappears. If there are none, or
    their gaps are exhausted (as around a false alarm), it halves all gaps.

    Args:
        num_frames: Number of frames in the video.
        asked: Positions of the requested frames, ascending.
        max_more: Maximum number of extra frames.
    """

    def __init__(self, num_frames: int, asked: Sequence[int], *, max_more: int = MAX_SEARCH) -> None:
        self._num_frames = num_frames
        self._num_left = max_more
        self._enough = min(ENOUGH, len(asked))
        self._has_face = dict.fromkeys(asked, False)

    @property
    def num_planned(self) -> int:
        """Number of frames chosen so far."""
        return len(self._has_face)

    def note_face(self, position: int) -> None:
        """Record that a frame has a face."""
        self._has_face[position] = True

    def choose_more(self) -> list[int]:
        """Return the positions of the next round, ascending, or an empty list when the search is over."""
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
    """Search the requested frames for faces, and more frames if too few show a face; see `SearchPlan`.

    Frames are in order of time within a round, but later rounds return to earlier times. At most two batches of frames
    are in memory.

    Args:
        read: Reader of the frames at given positions, ascending.
        asked: Positions of the requested frames, ascending.
        num_frames: Number of frames in the video.
        detector: Face detector.
        at_once: Number of frames per batch.
        max_more: Maximum number of extra frames.

    Raises:
        MediaError: None of the requested frames can be decoded, or a frame exceeds the size limit.
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
    """Yield extra frames; ignore it if none of them can be decoded, since other frames of the video could be."""
    with suppress(MediaError):
        yield from read(wanted)
