"""Results of a prediction, and the rows of predictions.json and predictions.csv."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unmask.forgeries import SourceRecord, name_sources, warn_of_training
from unmask.types import Array, Box, Face, Frame, MediaKind, Point, Verdict

UNREADABLE = "Cannot be read"
"""Headline of a file that cannot be read."""


@dataclass(frozen=True)
class FaceScore:
    """A face in one frame.

    Args:
        track: Track of the face, from 0 in order of appearance; `name_face` shows it counted from 1.
        box: x1, y1, x2, y2 in pixels of the frame.
        confidence: Confidence of the detector.
        score: P(fake) of its crop.
        landmarks: Landmarks of the detector; not in `to_dict`.
        activation_map: Activation map of the crop, shape `(h, w)`, high where it looks fake; not in `to_dict`.
        verdict: Verdict of this score alone, which colours the face in this frame; None before it is concluded.
    """

    track: int
    box: Box
    confidence: float
    score: float
    landmarks: tuple[Point, ...] | None = field(default=None, compare=False, repr=False)
    activation_map: Array | None = field(default=None, compare=False, repr=False)
    verdict: Verdict | None = None

    @property
    def face(self) -> Face:
        """The detection, as `cut_crop` takes it."""
        return Face(self.box, self.landmarks, self.confidence)


@dataclass(frozen=True)
class FrameResult:
    """A frame that was examined.

    Args:
        index: Position in the video; 0 for an image.
        time_seconds: Presentation time; 0 for an image.
        faces: Faces found in the frame.
    """

    index: int
    time_seconds: float
    faces: tuple[FaceScore, ...]


@dataclass(frozen=True)
class FaceResult:
    """A face of an image, or one person's track through a video.

    Args:
        track: Number of the track.
        box: Box with the highest confidence of the detector.
        confidence: Highest confidence of the detector.
        score: Score aggregated over its frames.
        verdict: Verdict of this face alone; see `Deciding.judge`.
        num_frames: Number of frames with this face.
        decides: Whether it counts for the verdict of the whole; see `Deciding`.
    """

    track: int
    box: Box
    confidence: float
    score: float
    verdict: Verdict
    num_frames: int = 1
    decides: bool = True


_GRAVITY = (Verdict.NO_FACE, Verdict.REAL, Verdict.UNCERTAIN, Verdict.FAKE)


def find_main(faces: Iterable[FaceResult]) -> FaceResult | None:
    """Return the face that a verdict is about: of those that decide, one with the gravest verdict and highest score."""
    deciding = (face for face in faces if face.decides)
    return max(deciding, key=lambda face: (_GRAVITY.index(face.verdict), face.score), default=None)


@dataclass(frozen=True)
class TimeRange:
    """A stretch of a video that looks fake.

    Args:
        start_seconds: Time of the first frame.
        end_seconds: Time of the last frame.
        score: Highest score in the stretch.
    """

    start_seconds: float
    end_seconds: float
    score: float


@dataclass(frozen=True)
class Prediction:
    """Prediction of an image or a video.

    Args:
        path: File as the user named it.
        kind: Kind of the file; None if it could not be read.
        verdict: Verdict of the score, but `uncertain` if that is `real` and a deciding face looks fake for a while;
            see `Deciding.judge`. None if the file could not be read.
        score: Score of the most fake face that decides; None without a face.
        threshold: Lowest score whose verdict is fake.
        faces: A row per face or track.
        frames: The frames that were examined, in order of time.
        error: Reason why there is no verdict, or None.
        suspicious: Stretches of a video in which a face that decides scores as fake.
        key_frames: Indices of the frames of a video that weighed most in its score, the weightiest first.
        notes: Sentences on what was left out and what the score does not cover.
        probability: The calibrated P(fake) of the score; None without a score or a calibration.
        num_examined: Frames decoded and searched for faces, which are those in `frames`; 1 for an image, 0 where the
            file could not be read.
        num_frames: Frames in the file; 1 for an image, 0 where the file could not be read.
        headline: The verdict and what it rests on in one line, the same for every door.
        reason: Sentences with the numbers that led to the verdict.
        trained_on: Sources of the model's training data.
    """

    path: str
    kind: MediaKind | None
    verdict: Verdict | None
    score: float | None
    threshold: float
    faces: tuple[FaceResult, ...] = ()
    frames: tuple[FrameResult, ...] = ()
    error: str | None = None
    suspicious: tuple[TimeRange, ...] = ()
    key_frames: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    probability: float | None = None
    num_examined: int = 0
    num_frames: int = 0
    headline: str = ""
    reason: str = ""
    trained_on: tuple[SourceRecord, ...] = ()

    @property
    def warning(self) -> str | None:
        """Why this model's verdicts are unreliable; None if no reason is known."""
        return warn_of_training(self.trained_on)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        values = asdict(self)
        values["kind"] = self.kind.value if self.kind else None
        values["verdict"] = self.verdict.value if self.verdict else None
        values["key_frames"], values["notes"] = list(self.key_frames), list(self.notes)
        for frame in values["frames"]:
            for seen in frame["faces"]:
                del seen["landmarks"], seen["activation_map"]
                seen["verdict"] = seen["verdict"] and seen["verdict"].value
        for row, face in zip(values["faces"], self.faces, strict=True):
            row["verdict"] = face.verdict.value
        values["trained_on"] = [source.to_dict() for source in self.trained_on]
        values["warning"] = self.warning
        return values


@dataclass(frozen=True)
class Progress:
    """How far a video is.

    Args:
        num_done: Frames examined.
        num_frames: Frames to examine, as far as the file tells; it grows where too few of them show a face.
        prediction: The result; only the last one has it.
        seen: Frames examined since the previous step, with their pixels and faces; not kept beyond it.
    """

    num_done: int
    num_frames: int
    prediction: Prediction | None = None
    seen: tuple[tuple[Frame, tuple[Face, ...]], ...] = field(default=(), compare=False, repr=False)


def render_csv(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """Render predictions as CSV that a spreadsheet shows without running formulas in names from outside.

    Args:
        rows: Rows of `Prediction.to_dict`, with further values where `columns` names them.
        columns: Columns to write; faces and frames are counted.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        trained_on = name_sources(map(SourceRecord.from_dict, row["trained_on"]))
        cells = {"faces": len(row["faces"]), "notes": " ".join(row["notes"]), "trained_on": trained_on}
        writer.writerow({key: _defuse(value) for key, value in (row | cells).items()})
    return text.getvalue()


def _defuse(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
