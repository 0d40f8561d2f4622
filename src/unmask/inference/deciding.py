"""Which of several faces decides on the verdict of a picture or a video."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unmask.errors import ConfigError
from unmask.inference.results import FaceScore

_FACES = ("most_fake", "main")


@dataclass(frozen=True)
class Deciding:
    """Which tracks count for the score of the whole, which is the highest of theirs.

    Args:
        face: `most_fake` lets all count, `main` one alone: that seen in most frames, and the largest of those.
        min_share: A track found in a smaller share of the frames with faces does not count: a false alarm of the
            detector, or a passer-by. It does if it is at least half as long as the longest: where cuts show many
            people, nobody is seen for long.

    Raises:
        ConfigError: No such face, or no share.
    """

    face: str = "most_fake"
    min_share: float = 0.1

    def __post_init__(self) -> None:
        if self.face not in _FACES:
            raise ConfigError(f"deciding.face={self.face} is none of: {', '.join(_FACES)}")
        if not 0 <= self.min_share <= 1:
            raise ConfigError(f"deciding.min_share={self.min_share} is no share of frames. Give a number from 0 to 1.")

    def choose(self, tracks: Mapping[int, Sequence[FaceScore]], *, num_frames: int) -> set[int]:
        """Return the numbers of the tracks that count.

        Args:
            tracks: The faces of each, by its number.
            num_frames: Frames with faces.
        """
        if not tracks:
            return set()
        if self.face == "main":
            return {max(tracks, key=lambda number: (len(tracks[number]), max(map(_area, tracks[number])), -number))}
        needed = min(self.min_share * num_frames, max(map(len, tracks.values())) / 2)
        return {number for number, faces in tracks.items() if len(faces) >= needed}


def _area(face: FaceScore) -> float:
    x1, y1, x2, y2 = face.box
    return (x2 - x1) * (y2 - y1)
