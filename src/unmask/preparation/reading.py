"""Read a video, an image or a folder of frames: search and crop its faces, or index it as crops where it lies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unmask.errors import DetectorError, MediaError
from unmask.faces.crop import MAX_SIDE, Sieve, cut_crop, encode_crop
from unmask.faces.detector import Detector
from unmask.faces.search import MAX_FACES, Batch, ReadFrames, count_at_once, search_faces
from unmask.faces.spec import CropSpec
from unmask.faces.track import Look, describe_faces, follow_largest, rank_people
from unmask.media.image import read_still
from unmask.media.listing import FrameFolder, open_frame_folder, read_frame_folder
from unmask.media.video import choose_frames, index_video, read_indexed
from unmask.preparation.records import CropRow, VideoRecord
from unmask.types import Face, Frame, MediaKind, Outcome, Video

_FACES_PER_FRAME = {"largest": 4, "all": MAX_FACES}
"""Maximum number of faces cropped per frame: the main person is always among the largest."""


@dataclass(frozen=True)
class Footage:
    """A medium whose frames can be read in any order.

    Args:
        read: Reader of the frames at given positions, ascending.
        num_frames: Number of frames; 1 for an image.
        fps: Frame rate in frames per second; 0 for an image or a folder of frames.
        width: Width in pixels.
        height: Height in pixels.
        codec: FFmpeg codec name, or the file extension of an image or frame.
        notes: Sentences on content that was approximated or omitted.
    """

    read: ReadFrames
    num_frames: int
    fps: float
    width: int
    height: int
    codec: str
    notes: tuple[str, ...] = ()

    def choose(self, num_frames: int) -> list[int]:
        """Return the positions of evenly spaced frames."""
        return choose_frames(self.num_frames, num_frames=num_frames)


def open_footage(video: Video, *, max_pixels: int) -> Footage:
    """Open a medium; an image is decoded at once.

    Args:
        video: A video, an image or a folder of frames.
        max_pixels: Maximum number of pixels of an image or video frame.

    Raises:
        MediaError: It cannot be read, or is too large.
    """
    if video.kind == MediaKind.IMAGE:
        still = read_still(video.path, max_pixels=max_pixels)
        height, width = still.image.shape[:2]
        frames = (Frame(still.image, 0, 0.0),)
        return Footage(lambda _: iter(frames), 1, 0.0, width, height, _name_codec(video.path), still.notes)
    if video.kind == MediaKind.FRAMES:
        folder = _list_frames(video)
        width, height = folder.measure(max_pixels=max_pixels)
        read: ReadFrames = partial(read_frame_folder, folder, max_pixels=max_pixels)
        return Footage(read, len(folder.files), 0.0, width, height, folder.codec)
    index = index_video(video.path, max_pixels=max_pixels)
    info = index.info
    return Footage(
        partial(read_indexed, index), info.num_frames, info.fps, info.width, info.height, info.codec, index.notes
    )


@dataclass(frozen=True)
class Examined:
    """A frame's largest faces, their appearance, and their encoded crops."""

    index: int
    seconds: float
    faces: list[Face]
    looks: list[Look]
    crops: list[bytes]


def examine(footage: Footage, detector: Detector, spec: CropSpec, sieve: Sieve) -> list[Examined]:
    """Search a video for faces, and crop the largest of each frame that meet the limits.

    Args:
        footage: Video.
        detector: Face detector.
        spec: Crop settings.
        sieve: Limits of the spec; counts the faces.

    Returns:
        Frames in order of time.
    """
    return sorted(_crop(_search(footage, detector, spec), spec, sieve), key=lambda frame: frame.index)


def _search(footage: Footage, detector: Detector, spec: CropSpec) -> Iterator[Batch]:
    return search_faces(
        footage.read,
        footage.choose(spec.num_frames),
        num_frames=footage.num_frames,
        detector=detector,
        at_once=count_at_once(footage.width, footage.height),
    )


def _crop(batches: Iterable[Batch], spec: CropSpec, sieve: Sieve) -> Iterator[Examined]:
    """Crop the faces of each frame, so that the frames themselves can be freed."""
    for batch in batches:
        for frame, found in zip(batch.frames, batch.faces, strict=True):
            faces = sieve.keep(frame.image, found[: _FACES_PER_FRAME[spec.keep]])
            crops = [encode_crop(cut_crop(frame.image, face, spec), spec) for face in faces]
            looks = describe_faces(frame.image, faces, is_whole=spec.takes_whole)
            yield Examined(frame.index, frame.time_seconds, faces, looks, crops)


def choose_people(
    examined: Sequence[Examined], weights: Mapping[int, Sequence[float]] | None, spec: CropSpec
) -> list[tuple[Examined, dict[int, Face]]]:
    """Return up to `num_frames` evenly spaced frames that show the wanted people, with their faces by track.

    Args:
        examined: Frames in order of time.
        weights: Weight of each face by frame index; the person with most is the main one. None for the largest.
        spec: Crop settings.
    """
    frames, looks = [frame.faces for frame in examined], [frame.looks for frame in examined]
    weighed = None if weights is None else [weights[frame.index] for frame in examined]
    if spec.keep == "all":
        tracks = rank_people(frames, looks=looks, weights=weighed)
        people = [dict(sorted(zip(row, faces, strict=True))) for row, faces in zip(tracks, frames, strict=True)]
    else:
        followed = follow_largest(frames, looks=looks, weights=weighed)
        people = [{} if face is None else {0: face} for face in followed]
    seen = [(frame, faces) for frame, faces in zip(examined, people, strict=True) if faces]
    return [seen[place] for place in choose_frames(len(seen), num_frames=spec.num_frames)]


def record_crops(
    video: Video, footage: Footage, rows: Sequence[CropRow], notes: Sequence[str], *, num_examined: int
) -> VideoRecord:
    """Return the record of a video that was read; without crops its outcome is `no_face`."""
    return VideoRecord(
        video.video_id, Outcome.OK if rows else Outcome.NO_FACE, " ".join([*notes, *footage.notes]), num_examined,
        footage.fps, footage.width, footage.height, footage.codec, tuple(rows),
    )  # fmt: skip


def _name_codec(path: Path) -> str:
    return path.suffix.lower().lstrip(".")


def index_images(video: Video, spec: CropSpec, *, max_pixels: int) -> VideoRecord:
    """Record an image, or each frame of a folder, as a crop without copying it.

    Args:
        video: An image or a folder of frames.
        spec: Crop settings.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        DetectorError: It is a video.
        MediaError: No frame can be read.
    """
    if video.kind == MediaKind.VIDEO:
        raise DetectorError(
            f"detector=none works only for images that are already crops, but '{video.path}' is a video. "
            f"Choose a detector, such as detector=retinaface_mobilenet, or detector=whole for whole frames."
        )
    if video.kind == MediaKind.FRAMES:
        indexed, problems = [], []
        for index, path in _list_frames(video).choose(spec.num_frames):
            try:
                indexed.append(_index_image(path, index, max_pixels))
            except MediaError as error:  # the other frames may still be readable
                problems.append(str(error))
        if not indexed:
            raise MediaError(f"No frame of '{video.path}' can be read: {problems[-1]}")
        lost = (f"{len(problems):,} of the frames chosen cannot be read: {problems[0]}",) if problems else ()
    else:
        indexed, lost = [_index_image(video.path, 0, max_pixels)], ()
    crops, notes = tuple(crop for crop, _ in indexed), (*lost, *indexed[0][1])
    width, height = (int(side) for side in crops[0].box[2:])
    codec = _name_codec(Path(crops[0].crop))
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
