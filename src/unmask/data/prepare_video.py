"""Turn one video into crops: the work of one process in `prepare`."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from unmask.errors import DetectorError, MediaError, OutputError
from unmask.faces.appearance import describe_faces
from unmask.faces.crop import MAX_SIDE, cut_crop, encode_crop
from unmask.faces.detector import Detector
from unmask.faces.search import Batch, ReadFrames, search_faces
from unmask.faces.spec import CropSpec
from unmask.faces.track import Look, follow_largest
from unmask.media.frame_folder import FrameFolder, open_frame_folder, read_frame_folder
from unmask.media.picture import MAX_PIXELS, read_still, write_bytes
from unmask.media.video import choose_frames, index_video, read_indexed
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
        message: The error's text, or what of the file was not shown, or only approximately; or "".
        frames: Frames that were examined.
        fps: Of the file; 0 for a picture or a folder of frames.
        width: In pixels.
        height: In pixels.
        codec: FFmpeg's name, or the suffix of a picture or frame.
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


def prepare_video(
    video: Video, *, detector: Detector | None, spec: CropSpec, root: Path, max_pixels: int = MAX_PIXELS
) -> VideoRecord:
    """Detect, follow and crop the largest face of a video; never raises for what is wrong with the file itself.

    Where a crop cannot be written, none of the video is kept.

    Args:
        video: A video or picture.
        detector: None where pictures are crops already.
        spec: How crops are made.
        root: Of the face dataset.
        max_pixels: A picture or video with larger frames is refused.
    """
    if not video.is_there:
        return VideoRecord(video.video_id, Outcome.MISSING, f"No such file: '{video.path}'.")
    try:
        if detector is None:
            return _index_pictures(video, spec, max_pixels)
        return _crop_video(video, detector, spec, root, max_pixels)
    except MediaError as error:
        return VideoRecord(video.video_id, Outcome.DECODE_ERROR, str(error))
    except OutputError:
        shutil.rmtree(root / "crops" / video.video_id, ignore_errors=True)  # the disk is full: these are not all
        raise


def _index_pictures(video: Video, spec: CropSpec, max_pixels: int) -> VideoRecord:
    """List a picture, or the frames of a folder, where they lie: each is the one crop of itself."""
    if video.kind == MediaKind.VIDEO:
        raise DetectorError(
            f"detector=none indexes pictures that are crops already, but '{video.path}' is a video. "
            f"Choose a detector, such as detector=retinaface_mobilenet."
        )
    if video.kind == MediaKind.FRAMES:
        indexed, problem = [], ""
        for index, path in _list_frames(video).choose(spec.num_frames):
            try:
                indexed.append(_index_picture(path, index, max_pixels))
            except MediaError as error:  # the others still show the video
                problem = str(error)
        if not indexed:
            raise MediaError(f"No frame of '{video.path}' can be read: {problem}")
    else:
        indexed = [_index_picture(video.path, 0, max_pixels)]
    crops, notes = tuple(crop for crop, _ in indexed), indexed[0][1]
    width, height = (int(side) for side in crops[0].box[2:])
    codec = Path(crops[0].crop).suffix.lower().lstrip(".")
    return VideoRecord(video.video_id, Outcome.OK, " ".join(notes), len(crops), 0.0, width, height, codec, crops)


def _list_frames(video: Video) -> FrameFolder:
    return FrameFolder(video.path, video.frames) if video.frames else open_frame_folder(video.path)


def _index_picture(path: Path, index: int, max_pixels: int) -> tuple[CropRow, tuple[str, ...]]:
    """Return a picture as a crop of itself, and what of it was not shown."""
    still = read_still(path, max_pixels=max_pixels)
    height, width = still.image.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise MediaError(
            f"'{path}' has {width:,} x {height:,} pixels and cannot be made square, {MAX_SIDE:,} being the most. "
            f"Cut it, or make it smaller."
        )
    box = (0.0, 0.0, float(width), float(height))
    return CropRow(str(path.resolve()), index, float(index), 0, box, None, 1.0), still.notes


def _crop_video(video: Video, detector: Detector, spec: CropSpec, root: Path, max_pixels: int) -> VideoRecord:
    folder = root / "crops" / video.video_id
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    if video.kind == MediaKind.PICTURE:
        still = read_still(video.path, max_pixels=max_pixels)
        image, notes = still.image, still.notes
        batches = iter([Batch((Frame(image, 0, 0.0),), (detector.detect([image])[0],), 1)])
        codec, fps, total, (height, width) = video.path.suffix.lower().lstrip("."), 0.0, 1, image.shape[:2]
    elif video.kind == MediaKind.FRAMES:
        frame_folder = _list_frames(video)
        codec, fps, total, notes = frame_folder.codec, 0.0, len(frame_folder.files), ()
        width, height = frame_folder.measure(max_pixels=max_pixels)
        batches = _search(partial(read_frame_folder, frame_folder, max_pixels=max_pixels), total, detector, spec)
    else:
        index = index_video(video.path, max_pixels=max_pixels)
        info, notes = index.info, index.notes
        codec, fps, total, width, height = info.codec, info.fps, info.num_frames, info.width, info.height
        batches = _search(partial(read_indexed, index), total, detector, spec)
    examined = sorted(_examine(batches, spec), key=lambda frame: frame.index)
    rows = []
    for frame, face in _follow(examined, most=spec.num_frames):
        path = f"crops/{video.video_id}/{frame.index:06d}_0.jpg"
        write_bytes(root / path, frame.crops[frame.faces.index(face)])
        rows.append(CropRow(path, frame.index, frame.seconds, 0, face.box, face.landmarks, face.confidence))
    outcome = Outcome.OK if rows else Outcome.NO_FACE
    found = [] if rows else [f"No face in any of the {len(examined):,} of {total:,} frames examined."]
    message = " ".join([*found, *notes])
    return VideoRecord(video.video_id, outcome, message, len(examined), fps, width, height, codec, tuple(rows))


def _search(read: ReadFrames, total: int, detector: Detector, spec: CropSpec) -> Iterator[Batch]:
    asked = choose_frames(total, num_frames=spec.num_frames)
    return search_faces(read, asked, num_frames=total, detector=detector, at_once=_FRAMES_PER_BATCH)


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
