"""Turn one video into crops: the unit of work of `prepare`."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.errors import MediaError, OutputError
from unmask.faces.crop import Sieve
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.paths import write_bytes
from unmask.preparation.masks import Forged, weigh_by_mask
from unmask.preparation.originals import OWN_BOXES, Guide, crop_like, explain_unfit
from unmask.preparation.reading import (
    Examined,
    Footage,
    choose_people,
    examine,
    index_images,
    open_footage,
    record_crops,
)
from unmask.preparation.records import CropRow, VideoRecord, is_guided, name_crop
from unmask.types import Face, Outcome, Video


def prepare_video(
    video: Video,
    *,
    detector: Detector | None,
    spec: CropSpec,
    root: Path,
    max_pixels: int,
    guide: Guide | None = None,
) -> VideoRecord:
    """Detect, track and crop the faces of a video; a bad file becomes a record, not an exception.

    Removes all crops of the video if one cannot be written.

    Args:
        video: A video, an image or a folder of frames.
        detector: Face detector; None if the images are already crops.
        spec: Crop settings.
        root: Folder of the face dataset.
        max_pixels: Maximum number of pixels of an image or video frame.
        guide: Finished original of a forgery, for `boxes=from_original`.
    """
    if not video.is_there:
        return VideoRecord(video.video_id, Outcome.MISSING, f"No such file: '{video.path}'.")
    try:
        if detector is None:
            return index_images(video, spec, max_pixels=max_pixels)
        shutil.rmtree(root / "crops" / video.video_id, ignore_errors=True)  # left by an interrupted run
        footage = open_footage(video, max_pixels=max_pixels)
        problem = explain_unfit(video, guide, footage, max_pixels=max_pixels) if is_guided(video, spec) else ""
        if guide is not None and not problem:
            return crop_like(video, guide, footage, spec=spec, root=root)
        record = _crop_video(video, footage, detector, spec=spec, root=root, max_pixels=max_pixels)
        return replace(record, message=f"{OWN_BOXES}{problem}. {record.message}".rstrip()) if problem else record
    except MediaError as error:
        return VideoRecord(video.video_id, Outcome.DECODE_ERROR, str(error))
    except OutputError:
        shutil.rmtree(root / "crops" / video.video_id, ignore_errors=True)  # incomplete: the disk is full
        raise


def _crop_video(
    video: Video, footage: Footage, detector: Detector, *, spec: CropSpec, root: Path, max_pixels: int
) -> VideoRecord:
    found = find_crops(video, footage, detector=detector, spec=spec, max_pixels=max_pixels)
    rows = []
    for crop in found.crops:
        path = name_crop(video, crop.index, crop.track, spec)
        write_bytes(root / path, crop.data)
        face = crop.face
        rows.append(CropRow(path, crop.index, crop.seconds, crop.track, face.box, face.landmarks, face.confidence))
    return record_crops(video, footage, rows, list(found.notes), num_examined=found.num_examined)


@dataclass(frozen=True)
class FoundCrop:
    """A crop of a person, encoded as a face dataset stores it."""

    index: int
    seconds: float
    track: int
    face: Face
    data: bytes


@dataclass(frozen=True)
class FoundCrops:
    """Crops of a video, in order of time.

    Args:
        crops: Crops of the main person, or of all; those of a person are evenly spaced.
        num_examined: Number of frames searched for faces.
        notes: Sentences on faces that failed a limit, on why there are no crops, and on the mask.
    """

    crops: tuple[FoundCrop, ...]
    num_examined: int
    notes: tuple[str, ...]


def find_crops(video: Video, footage: Footage, *, detector: Detector, spec: CropSpec, max_pixels: int) -> FoundCrops:
    """Detect, track and crop the faces of a video, in memory.

    Args:
        video: Video, for its mask.
        footage: Frames of the video.
        detector: Face detector.
        spec: Crop settings.
        max_pixels: Maximum number of pixels of a frame of the mask.

    Raises:
        MediaError: No frame can be read.
    """
    sieve = Sieve(spec)
    examined = examine(footage, detector, spec, sieve)
    forged = _find_forged(video, examined, footage, max_pixels)
    crops = tuple(
        FoundCrop(frame.index, frame.seconds, track, face, frame.crops[frame.faces.index(face)])
        for frame, people in choose_people(examined, None if forged is None else forged.weights, spec)
        for track, face in people.items()
    )
    notes = [] if forged is None or not forged.note else [forged.note]
    if sieve.num_failed:
        notes.insert(0, f"{sieve.describe_failed()} failed a limit.")
    elif not crops and not notes:
        notes.append(f"No face in any of the {len(examined):,} of {footage.num_frames:,} frames examined.")
    lost = sorted(set(footage.choose(spec.num_frames)) - {frame.index for frame in examined})
    if lost:
        notes.append(f"{len(lost):,} of the frames chosen cannot be read, such as frame {lost[0]:,}.")
    return FoundCrops(crops, len(examined), tuple(notes))


def _find_forged(video: Video, examined: Sequence[Examined], footage: Footage, max_pixels: int) -> Forged | None:
    """Return how much of each face the mask of a video marks, or None if the video has no mask."""
    if video.mask is None:
        return None
    faces = {frame.index: frame.faces for frame in examined}
    return weigh_by_mask(video.mask, faces, size=(footage.width, footage.height), max_pixels=max_pixels)
