"""Turn one video into crops: the work of one process in `prepare`."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unmask.errors import DetectorError, MediaError, OutputError
from unmask.faces.crop import MAX_SIDE, cut_crop, encode_crop
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.faces.track import follow_largest
from unmask.media.picture import read_picture, write_bytes
from unmask.media.video import probe_video, read_frames
from unmask.types import Face, Frame, MediaKind, Outcome, Video

_FACES_PER_FRAME = 4
"""Only the largest faces of a frame can belong to the track that is kept; the crops of others are not cut."""

_FRAMES_PER_BATCH = 8


@dataclass(frozen=True)
class CropRow:
    """A crop of a video: the columns of `faces.parquet` that its video does not give."""

    crop: str
    frame_index: int
    time_seconds: float
    track: int
    box: tuple[float, ...]
    landmarks: tuple[tuple[float, ...], ...] | None
    confidence: float


@dataclass(frozen=True)
class VideoRecord:
    """What became of a video.

    Args:
        video_id: Of the video.
        outcome: Whether it gave crops, and if not, why.
        message: The error's text, or "".
        frames: Frames that were looked at.
        fps: Of the file; 0 for a picture.
        width: In pixels.
        height: In pixels.
        codec: FFmpeg's name, or the suffix of a picture.
        crops: One for each frame with a face.
    """

    video_id: str
    outcome: Outcome
    message: str = ""
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    codec: str = ""
    crops: tuple[CropRow, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for one line of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VideoRecord":
        """Rebuild a record from `to_dict`."""
        crops = tuple(CropRow(**crop) for crop in values["crops"])
        return cls(**{**values, "outcome": Outcome(values["outcome"]), "crops": crops})


def prepare_video(video: Video, *, detector: Detector | None, spec: CropSpec, root: Path) -> VideoRecord:
    """Detect, follow and crop the largest face of a video; never raises for what is wrong with the file itself.

    Where a crop cannot be written, none of the video is kept.

    Args:
        video: A video or picture.
        detector: None where pictures are crops already.
        spec: How crops are made.
        root: Of the face dataset.
    """
    if not video.path.is_file():
        return VideoRecord(video.video_id, Outcome.MISSING, f"No such file: '{video.path}'.")
    try:
        if detector is None:
            return _index_picture(video)
        return _crop_video(video, detector, spec, root)
    except MediaError as error:
        return VideoRecord(video.video_id, Outcome.DECODE_ERROR, str(error))
    except OutputError:
        shutil.rmtree(root / "crops" / video.video_id, ignore_errors=True)  # the disk is full: these are not all
        raise


def _index_picture(video: Video) -> VideoRecord:
    """List a picture where it lies, as the one crop of itself."""
    if video.kind == MediaKind.VIDEO:
        raise DetectorError(
            f"detector=none indexes pictures that are crops already, but '{video.path}' is a video. "
            f"Choose a detector, such as detector=retinaface_mobilenet."
        )
    height, width = read_picture(video.path).shape[:2]
    if max(height, width) > MAX_SIDE:
        raise MediaError(
            f"'{video.path}' has {width:,} x {height:,} pixels and cannot be made square, {MAX_SIDE:,} being the most. "
            f"Cut it, or make it smaller."
        )
    box = (0.0, 0.0, float(width), float(height))
    crop = CropRow(str(video.path.resolve()), 0, 0.0, 0, box, None, 1.0)
    codec = video.path.suffix.lower().lstrip(".")
    return VideoRecord(video.video_id, Outcome.OK, "", 1, 0.0, width, height, codec, (crop,))


def _crop_video(video: Video, detector: Detector, spec: CropSpec, root: Path) -> VideoRecord:
    folder = root / "crops" / video.video_id
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    if video.kind == MediaKind.PICTURE:
        image = read_picture(video.path)
        frames = iter([Frame(image, 0, 0.0)])
        codec, fps, (height, width) = video.path.suffix.lower().lstrip("."), 0.0, image.shape[:2]
    else:
        info = probe_video(video.path)
        frames = read_frames(video.path, num_frames=spec.num_frames)
        codec, fps, width, height = info.codec, info.fps, info.width, info.height
    faces, cut, places = _detect_and_cut(frames, detector, spec)
    rows = []
    for position, face in enumerate(follow_largest(faces)):
        if face is None:
            continue
        index, seconds = places[position]
        path = f"crops/{video.video_id}/{index:06d}_0.jpg"
        write_bytes(root / path, cut[position][faces[position].index(face)])
        rows.append(CropRow(path, index, seconds, 0, face.box, face.landmarks, face.confidence))
    outcome = Outcome.OK if rows else Outcome.NO_FACE
    message = "" if rows else f"No face in any of {len(places)} frames."
    return VideoRecord(video.video_id, outcome, message, len(places), fps, width, height, codec, tuple(rows))


def _detect_and_cut(
    frames: Any, detector: Detector, spec: CropSpec
) -> tuple[list[list[Face]], list[list[bytes]], list[tuple[int, float]]]:
    """Return per frame its largest faces, their encoded crops, and its index and time; frames are let go at once."""
    faces: list[list[Face]] = []
    cut: list[list[bytes]] = []
    places: list[tuple[int, float]] = []
    batch: list[Frame] = []

    def flush() -> None:
        for frame, found in zip(batch, detector.detect([frame.image for frame in batch]), strict=True):
            kept: Sequence[Face] = found[:_FACES_PER_FRAME]
            faces.append(list(kept))
            cut.append([encode_crop(cut_crop(frame.image, face, spec), spec) for face in kept])
            places.append((frame.index, frame.time_seconds))
        batch.clear()

    for frame in frames:
        batch.append(frame)
        if len(batch) == _FRAMES_PER_BATCH:
            flush()
    flush()
    return faces, cut, places
