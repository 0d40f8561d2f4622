"""Turn one video into crops: the work of one process in `prepare`."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unmask.errors import DetectorError, MediaError
from unmask.faces.appearance import describe_faces
from unmask.faces.crop import MAX_SIDE, cut_crop, encode_crop
from unmask.faces.detector import Detector
from unmask.faces.search import Batch, search_faces
from unmask.faces.spec import CropSpec
from unmask.faces.track import Look, follow_largest
from unmask.media.picture import read_picture, write_bytes
from unmask.media.video import choose_frames, index_video
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
        frames: Frames that were examined.
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
        batches = iter([Batch((Frame(image, 0, 0.0),), (detector.detect([image])[0],), 1)])
        codec, fps, total, (height, width) = video.path.suffix.lower().lstrip("."), 0.0, 1, image.shape[:2]
    else:
        index = index_video(video.path)
        asked = choose_frames(index.info.num_frames, num_frames=spec.num_frames)
        batches = search_faces(index, asked, detector=detector, at_once=_FRAMES_PER_BATCH)
        info = index.info
        codec, fps, total, width, height = info.codec, info.fps, info.num_frames, info.width, info.height
    examined = sorted(_examine(batches, spec), key=lambda frame: frame.index)
    rows = []
    for frame, face in _follow(examined, most=spec.num_frames):
        path = f"crops/{video.video_id}/{frame.index:06d}_0.jpg"
        write_bytes(root / path, frame.crops[frame.faces.index(face)])
        rows.append(CropRow(path, frame.index, frame.seconds, 0, face.box, face.landmarks, face.confidence))
    outcome = Outcome.OK if rows else Outcome.NO_FACE
    message = "" if rows else f"No face in any of the {len(examined):,} of {total:,} frames examined."
    return VideoRecord(video.video_id, outcome, message, len(examined), fps, width, height, codec, tuple(rows))


@dataclass(frozen=True)
class _Examined:
    """What is kept of a frame: its largest faces, what they look like, and their encoded crops."""

    index: int
    seconds: float
    faces: list[Face]
    looks: list[Look]
    crops: list[bytes]


def _examine(batches: Iterable[Batch], spec: CropSpec) -> Iterator[_Examined]:
    """Cut the largest faces out of frames, which are let go at once."""
    for batch in batches:
        for frame, found in zip(batch.frames, batch.faces, strict=True):
            faces = found[:_FACES_PER_FRAME]
            crops = [encode_crop(cut_crop(frame.image, face, spec), spec) for face in faces]
            yield _Examined(frame.index, frame.time_seconds, faces, describe_faces(frame.image, faces), crops)


def _follow(examined: Sequence[_Examined], *, most: int) -> list[tuple[_Examined, Face]]:
    """Return the frames with the main person and their face in it, evenly thinned to so many."""
    followed = follow_largest([frame.faces for frame in examined], looks=[frame.looks for frame in examined])
    seen = [(frame, face) for frame, face in zip(examined, followed, strict=True) if face is not None]
    return [seen[place] for place in choose_frames(len(seen), num_frames=most)]
