"""Turn one video into crops: the unit of work of `prepare`."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import MediaError, OutputError
from unmask.faces.crop import cut_crop, encode_crop
from unmask.faces.detector import Detector
from unmask.faces.search import Batch, count_at_once, search_faces
from unmask.faces.spec import CropSpec
from unmask.faces.track import Look, describe_faces, follow_largest
from unmask.media.video import choose_frames
from unmask.paths import write_bytes
from unmask.preparation.masks import Forged, weigh_by_mask
from unmask.preparation.reading import Footage, index_images, open_footage
from unmask.preparation.records import CropRow, VideoRecord
from unmask.types import Face, Outcome, Video

_FACES_PER_FRAME = 4
"""Maximum number of faces cropped per frame: the main person is always among the largest."""


def prepare_video(
    video: Video, *, detector: Detector | None, spec: CropSpec, root: Path, max_pixels: int
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
            return index_images(video, spec, max_pixels=max_pixels)
        return _crop_video(video, detector, spec, root, max_pixels)
    except MediaError as error:
        return VideoRecord(video.video_id, Outcome.DECODE_ERROR, str(error))
    except OutputError:
        shutil.rmtree(root / "crops" / video.video_id, ignore_errors=True)  # incomplete: the disk is full
        raise


def _crop_video(video: Video, detector: Detector, spec: CropSpec, root: Path, max_pixels: int) -> VideoRecord:
    folder = root / "crops" / video.video_id
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted run
    footage = open_footage(video, max_pixels=max_pixels)
    examined = sorted(_examine(_search(footage, detector, spec), spec), key=lambda frame: frame.index)
    forged = _find_forged(video, examined, footage, max_pixels)
    rows = []
    for frame, face in _follow(examined, None if forged is None else forged.weights, most=spec.num_frames):
        path = f"crops/{video.video_id}/{frame.index:06d}_0.jpg"
        write_bytes(root / path, frame.crops[frame.faces.index(face)])
        rows.append(CropRow(path, frame.index, frame.seconds, 0, face.box, face.landmarks, face.confidence))
    outcome = Outcome.OK if rows else Outcome.NO_FACE
    found = [] if rows else [f"No face in any of the {len(examined):,} of {footage.num_frames:,} frames examined."]
    if forged is not None:
        found = [*([] if rows or forged.note else found), *([forged.note] if forged.note else [])]
    lost = sorted(set(footage.choose(spec.num_frames)) - {frame.index for frame in examined})
    found += [f"{len(lost):,} of the frames chosen cannot be read, such as frame {lost[0]:,}."] if lost else []
    message = " ".join([*found, *footage.notes])
    return VideoRecord(
        video.video_id, outcome, message, len(examined), footage.fps, footage.width, footage.height, footage.codec,
        tuple(rows),
    )  # fmt: skip


def _search(footage: Footage, detector: Detector, spec: CropSpec) -> Iterator[Batch]:
    return search_faces(
        footage.read,
        footage.choose(spec.num_frames),
        num_frames=footage.num_frames,
        detector=detector,
        at_once=count_at_once(footage.width, footage.height),
    )


def _find_forged(video: Video, examined: "Sequence[_Examined]", footage: Footage, max_pixels: int) -> Forged | None:
    """Return how much of each face the mask of a video marks, or None if the video has no mask."""
    if video.mask is None:
        return None
    faces = {frame.index: frame.faces for frame in examined}
    return weigh_by_mask(video.mask, faces, size=(footage.width, footage.height), max_pixels=max_pixels)


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
            looks = describe_faces(frame.image, faces, is_whole=spec.takes_whole)
            yield _Examined(frame.index, frame.time_seconds, faces, looks, crops)


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
