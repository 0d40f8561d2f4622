"""What a prediction says, as plain values in the end (a row of predictions.json)."""

from dataclasses import asdict, dataclass
from typing import Any

from unmask.types import Box, MediaKind, Verdict


@dataclass(frozen=True)
class FaceScore:
    """A face in one frame.

    Args:
        track: Whose face it is, from 0 in order of appearance.
        box: x1, y1, x2, y2 in pixels of the frame.
        confidence: Of the detector.
        score: P(fake) of its crop.
    """

    track: int
    box: Box
    confidence: float
    score: float


@dataclass(frozen=True)
class FrameResult:
    """A frame that was looked at.

    Args:
        index: Position in the video; 0 for a picture.
        time_seconds: Presentation time; 0 for a picture.
        faces: Those found in it, perhaps none.
    """

    index: int
    time_seconds: float
    faces: tuple[FaceScore, ...]


@dataclass(frozen=True)
class FaceResult:
    """A face of a picture, or one person's track through a video.

    Args:
        track: Its number.
        box: Where it was seen with the highest confidence of the detector.
        confidence: The highest of the detector.
        score: Aggregated over its frames.
        verdict: Of this face alone.
        num_frames: How many frames it was found in.
        decides: Whether it counts for the verdict of the whole; a track seen too briefly does not.
    """

    track: int
    box: Box
    confidence: float
    score: float
    verdict: Verdict
    num_frames: int = 1
    decides: bool = True


@dataclass(frozen=True)
class Prediction:
    """What is said of a picture or a video.

    Args:
        path: The file, as it was named.
        kind: Picture or video; None where the file could not be read.
        verdict: None where the file could not be read.
        score: Of the most fake face that decides; None where there is no face.
        threshold: From which score on the verdict is fake.
        faces: A row per face or track.
        frames: The frames that were looked at.
        error: Why there is no verdict.
    """

    path: str
    kind: MediaKind | None
    verdict: Verdict | None
    score: float | None
    threshold: float
    faces: tuple[FaceResult, ...] = ()
    frames: tuple[FrameResult, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        values = asdict(self)
        values["kind"] = self.kind.value if self.kind else None
        values["verdict"] = self.verdict.value if self.verdict else None
        for row, face in zip(values["faces"], self.faces, strict=True):
            row["verdict"] = face.verdict.value
        return values
