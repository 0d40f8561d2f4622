"""Turn one video into crops: the unit of work of `prepare`."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.data.masks import weigh_by_mask
from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS
from unmask.errors import DetectorError, MediaError, OutputError
from unmask.faces.crop import MAX_SIDE, cut_crop, encode_crop
from unmask.faces.detector import Detector
from unmask.faces.search import Batch, ReadFrames, count_at_once, search_faces
from unmask.faces.spec import CropSpec
from unmask.faces.track import Look, describe_faces, follow_largest
from unmask.media.image import MAX_PIXELS, read_still
from unmask.media.listing import FrameFolder, open_frame_folder, read_frame_folder
from unmask.media.video import choose_frames, index_video, read_indexed
from unmask.paths import write_bytes
from unmask.types import Face, Frame, MediaKind, Outcome, Video

_FACES_PER_FRAME = 4
"""Maximum number of faces cropped per frame: the main person is always among the largest."""


@dataclass(frozen=True)
class CropRow:
    """A crop of a video: the columns of `faces.parquet` that are specific to the crop."""

    crop: str
    frame_index: int
    time_seconds: float
    track: int
    box: tuple[float, ...]
    landmarks: tuple[tuple[float, ...], ...] | None
    confidence: float


@dataclass(frozen=True)
class VideoRecord:
    """The result of preparing one video.

    Args:
        video_id: ID of the video.
        outcome: `ok` if the video has crops, otherwise the reason why not.
        message: Error text, notes on content that was approximated or omitted, or "".
        frames: Number of frames searched for faces.
        fps: Frame rate in frames per second; 0 for an image or a folder of frames.
        width: Width in pixels.
        height: Height in pixels.
        codec: FFmpeg codec name, or the file extension of an image or frame.
        crops: One crop per frame with a face.
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
    """Detect, track and crop the main face of a video; a bad file becomes a record, not an exception.

    Removes all crops of the video if one cannot be written.

    Args:
        video: A video, an image or a folder of frames.
        detector: Face detector; None if the images are already crops.
        spec: Crop settings.
        root: Folder of the face dataset.
        max_pixels: Maximum number of pixels of an image or video frame.
    """
    if not video.is_there:
        return VideoRecord(video.video_id, Outcome.MISSING, f"No such file: '{video.path}'.")
    try:
        if detector is None:
            return _index_images(video, spec, max_pixels)
        return _crop_video(video, detector, spec, root, max_pixels)
    except MediaError as error:
        return VideoRecord(video.video_id, Outcome.DECODE_ERROR, str(error))
    except OutputError:
        shutil.rmtree(root / "crops" / video.video_id, ignore_errors=True)  # incomplete: the disk is full
        raise


def build_tables(
    videos: Sequence[Video], records: Sequence[VideoRecord], groups: Sequence[int], splits: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the tables of videos and of crops.

    Args:
        videos: Videos of the source.
        records: Record of each video.
        groups: Group of each video.
        splits: Split of each video.
    """
    video_rows, face_rows = [], []
    for video, record, group, split in zip(videos, records, groups, splits, strict=True):
        row = {
            "video_id": video.video_id, "path": str(video.path), "kind": str(video.kind), "label": int(video.label),
            "method": video.method, "compression": video.compression, "identities": list(video.identities),
            "original": video.original, "group": group, "split": split, "outcome": str(record.outcome),
            "message": record.message, "frames": record.frames, "faces": len(record.crops), "fps": record.fps,
            "width": record.width, "height": record.height, "codec": record.codec,
            "mask": None if video.mask is None else str(video.mask),
        }  # fmt: skip
        video_rows.append(row)
        face_rows += [
            {
                "crop": crop.crop, "video_id": video.video_id, "frame_index": crop.frame_index,
                "time_seconds": crop.time_seconds, "track": crop.track, "box": list(crop.box),
                "landmarks": None if crop.landmarks is None else [value for point in crop.landmarks for value in point],
                "confidence": crop.confidence, "label": int(video.label), "method": video.method, "split": split,
            }
            for crop in record.crops
        ]  # fmt: skip
    return pd.DataFrame(video_rows, columns=list(VIDEO_COLUMNS)), pd.DataFrame(face_rows, columns=list(FACE_COLUMNS))


def _index_images(video: Video, spec: CropSpec, max_pixels: int) -> VideoRecord:
    """Record an image, or each frame of a folder, as a crop without copying it."""
    if video.kind == MediaKind.VIDEO:
        raise DetectorError(
            f"detector=none works only for images that are already crops, but '{video.path}' is a video. "
            f"Choose a detector, such as detector=retinaface_mobilenet."
        )
    if video.kind == MediaKind.FRAMES:
        indexed, problem = [], ""
        for index, path in _list_frames(video).choose(spec.num_frames):
            try:
                indexed.append(_index_image(path, index, max_pixels))
            except MediaError as error:  # the other frames may still be readable
                problem = str(error)
        if not indexed:
            raise MediaError(f"No frame of '{video.path}' can be read: {problem}")
    else:
        indexed = [_index_image(video.path, 0, max_pixels)]
    crops, notes = tuple(crop for crop, _ in indexed), indexed[0][1]
    width, height = (int(side) for side in crops[0].box[2:])
    codec = Path(crops[0].crop).suffix.lower().lstrip(".")
    return VideoRecord(video.video_id, Outcome.OK, " ".join(notes), len(crops), 0.0, width, height, codec, crops)


def _list_frames(video: Video) -> FrameFolder:
    return FrameFolder(video.path, video.frames) if video.frames else open_frame_folder(video.path)


def _index_image(path: Path, index: int, max_pixels: int) -> tuple[CropRow, tuple[str, ...]]:
    """Return the crop row of an image, and notes on content that was approximated or omitted."""
    still = read_still(path, max_pixels=max_pixels)
    height, width = still.image.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise MediaError(
            f"'{path}' has {width:,} x {height:,} pixels; images with a side over {MAX_SIDE:,} cannot be padded to "
            f"a square. Crop it, or scale it down."
        )
    box = (0.0, 0.0, float(width), float(height))
    return CropRow(str(path.resolve()), index, float(index), 0, box, None, 1.0), still.notes


def _crop_video(video: Video, detector: Detector, spec: CropSpec, root: Path, max_pixels: int) -> VideoRecord:
    folder = root / "crops" / video.video_id
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted run
    if video.kind == MediaKind.IMAGE:
        still = read_still(video.path, max_pixels=max_pixels)
        image, notes = still.image, still.notes
        batches = iter([Batch((Frame(image, 0, 0.0),), (detector.detect([image])[0],), 1)])
        codec, fps, total, (height, width) = video.path.suffix.lower().lstrip("."), 0.0, 1, image.shape[:2]
    elif video.kind == MediaKind.FRAMES:
        frame_folder = _list_frames(video)
        codec, fps, total, notes = frame_folder.codec, 0.0, len(frame_folder.files), ()
        width, height = frame_folder.measure(max_pixels=max_pixels)
        read: ReadFrames = partial(read_frame_folder, frame_folder, max_pixels=max_pixels)
        batches = _search(read, total, detector, spec, at_once=count_at_once(width, height))
    else:
        index = index_video(video.path, max_pixels=max_pixels)
        info, notes = index.info, index.notes
        codec, fps, total, width, height = info.codec, info.fps, info.num_frames, info.width, info.height
        batches = _search(partial(read_indexed, index), total, detector, spec, at_once=count_at_once(width, height))
    examined = sorted(_examine(batches, spec), key=lambda frame: frame.index)
    forged = (
        None
        if video.mask is None
        else weigh_by_mask(
            video.mask, {frame.index: frame.faces for frame in examined}, size=(width, height), max_pixels=max_pixels
        )
    )
    rows = []
    for frame, face in _follow(examined, None if forged is None else forged.weights, most=spec.num_frames):
        path = f"crops/{video.video_id}/{frame.index:06d}_0.jpg"
        write_bytes(root / path, frame.crops[frame.faces.index(face)])
        rows.append(CropRow(path, frame.index, frame.seconds, 0, face.box, face.landmarks, face.confidence))
    outcome = Outcome.OK if rows else Outcome.NO_FACE
    found = [] if rows else [f"No face in any of the {len(examined):,} of {total:,} frames examined."]
    if forged is not None:
        found = [*([] if rows or forged.note else found), *([forged.note] if forged.note else [])]
    message = " ".join([*found, *notes])
    return VideoRecord(video.video_id, outcome, message, len(examined), fps, width, height, codec, tuple(rows))


def _search(read: ReadFrames, total: int, detector: Detector, spec: CropSpec, *, at_once: int) -> Iterator[Batch]:
    asked = choose_frames(total, num_frames=spec.num_frames)
    return search_faces(read, asked, num_frames=total, detector=detector, at_once=at_once)


@dataclass(frozen=True)
class _Examined:
    """A frame's largest faces, their appearance, and their encoded crops."""

    index: int
    seconds: float
    faces: list[Face]
    looks: list[Look]
    crops: list[bytes]


def _examine(batches: Iterable[Batch], spec: CropSpec) -> Iterator[_Examined]:
    """Crop the largest faces of each frame, so that the frames themselves can be freed."""
    for batch in batches:
        for frame, found in zip(batch.frames, batch.faces, strict=True):
            faces = found[:_FACES_PER_FRAME]
            crops = [encode_crop(cut_crop(frame.image, face, spec), spec) for face in faces]
            yield _Examined(frame.index, frame.time_seconds, faces, describe_faces(frame.image, faces), crops)


def _follow(
    examined: Sequence[_Examined], weights: Mapping[int, Sequence[float]] | None, *, most: int
) -> list[tuple[_Examined, Face]]:
    """Return up to `most` evenly spaced frames that show the main person, each with that person's face.

    Args:
        examined: Frames in order of time.
        weights: Weight of each face by frame index; the person with most is the main one. None for the largest.
        most: Maximum number of frames.
    """
    followed = follow_largest(
        [frame.faces for frame in examined],
        looks=[frame.looks for frame in examined],
        weights=None if weights is None else [weights[frame.index] for frame in examined],
    )
    seen = [(frame, face) for frame, face in zip(examined, followed, strict=True) if face is not None]
    return [seen[place] for place in choose_frames(len(seen), num_frames=most)]
