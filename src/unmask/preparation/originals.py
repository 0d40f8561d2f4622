"""Reuse the boxes of an original for its forgeries, so that real and fake crops are aligned pairs."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.faces.crop import cut_crop, encode_crop
from unmask.faces.spec import CropSpec
from unmask.media.listing import open_frame_folder
from unmask.paths import write_bytes
from unmask.preparation.masks import weigh_by_mask
from unmask.preparation.reading import Footage, record_crops
from unmask.preparation.records import CropRow, VideoRecord, is_guided, name_crop
from unmask.types import Face, Label, MediaKind, Outcome, Video

OWN_BOXES = "Its own boxes were detected, since "
"""Start of the message of a forgery that cannot reuse the boxes of its original."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guide:
    """A finished original whose boxes its forgeries reuse."""

    video: Video
    record: VideoRecord


def find_guides(
    videos: Iterable[Video], originals: Iterable[Video], records: Mapping[str, VideoRecord], spec: CropSpec
) -> dict[str, Guide]:
    """Return the finished originals of forgeries by `video_id`; empty unless `faces.boxes=from_original`.

    Args:
        videos: Videos that may be forgeries.
        originals: Videos that may be originals.
        records: Finished records by `video_id`.
        spec: Crop settings.
    """
    wanted = {video.original for video in videos if is_guided(video, spec)}
    return {
        video.video_id: Guide(video, records[video.video_id])
        for video in originals
        if video.video_id in wanted and video.video_id in records
    }


def explain_unfit(video: Video, guide: Guide | None, footage: Footage, *, max_pixels: int) -> str:
    """Return why a forgery cannot reuse the boxes of its original, or "".

    Frames are matched by index, or by file name in folders of frames. A shorter forgery reuses the boxes of the frames
    that it has, if they are at least half of its original's crops.

    Args:
        video: Forgery.
        guide: Its original; None if that takes no part.
        footage: Footage of the forgery.
        max_pixels: Maximum number of pixels of a mask.

    Raises:
        MediaError: The mask of the forgery is missing.
    """
    if guide is None:
        return f"its original '{video.original}' is not among the videos prepared"
    if guide.record.outcome != Outcome.OK:
        return f"its original '{video.original}' has no crops ({guide.record.outcome})"
    if problem := _compare(video, guide, footage):
        return problem
    if video.mask is None:
        return ""
    faces = list_faces(row for row in guide.record.crops if row.frame_index < footage.num_frames)
    forged = weigh_by_mask(video.mask, faces, size=(footage.width, footage.height), max_pixels=max_pixels)
    if forged.weights is None or any(value for each in forged.weights.values() for value in each):
        return ""
    return "its mask marks another face than those cropped in its original"


def _compare(video: Video, guide: Guide, footage: Footage) -> str:
    """Return why the frames of a forgery are not those of its original, or ""."""
    record = guide.record
    if (video.kind, footage.width, footage.height) != (guide.video.kind, record.width, record.height):
        return (
            f"it is {video.kind} of {footage.width} x {footage.height} pixels, and its original is "
            f"{guide.video.kind} of {record.width} x {record.height}"
        )
    if not math.isclose(footage.fps, record.fps, rel_tol=0.01):
        return f"it has {footage.fps:.4g} frames per second, and its original has {record.fps:.4g}"
    rows = [row for row in record.crops if row.frame_index < footage.num_frames]
    if 2 * len(rows) < len(record.crops):
        return f"it ends before {len(record.crops) - len(rows)} of the {len(record.crops)} crops of its original"
    if video.kind == MediaKind.FRAMES and not _have_same_names(video, guide.video, rows):
        return "its frames have other file names than those of its original"
    return ""


def _have_same_names(video: Video, original: Video, rows: Sequence[CropRow]) -> bool:
    files, theirs = (one.frames or open_frame_folder(one.path).files for one in (video, original))
    return all(files[row.frame_index].stem == theirs[row.frame_index].stem for row in rows)


def list_faces(rows: Iterable[CropRow]) -> dict[int, list[Face]]:
    """Return the faces of crops by frame index."""
    faces: dict[int, list[Face]] = {}
    for row in rows:
        x1, y1, x2, y2 = row.box
        points = None if row.landmarks is None else tuple((x, y) for x, y in row.landmarks)
        faces.setdefault(row.frame_index, []).append(Face((x1, y1, x2, y2), points, row.confidence))
    return faces


def crop_like(video: Video, guide: Guide, footage: Footage, *, spec: CropSpec, root: Path) -> VideoRecord:
    """Crop a forgery in the frames and at the boxes of its original; the limits of the spec held there.

    Args:
        video: Forgery.
        guide: Its original, for which `explain_unfit` returns "".
        footage: Footage of the forgery.
        spec: Crop settings.
        root: Folder of the face dataset.
    """
    rows_of: dict[int, list[CropRow]] = {}
    for row in guide.record.crops:
        if row.frame_index < footage.num_frames:
            rows_of.setdefault(row.frame_index, []).append(row)
    rows, num_read = [], 0
    for frame in footage.read(list(rows_of)):
        num_read += 1
        theirs = rows_of[frame.index]
        for row, face in zip(theirs, list_faces(theirs)[frame.index], strict=True):
            path = name_crop(video, frame.index, row.track, spec)
            write_bytes(root / path, encode_crop(cut_crop(frame.image, face, spec), spec))
            rows.append(replace(row, crop=path, time_seconds=frame.time_seconds))
    total, left = len(guide.record.crops), len(guide.record.crops) - len(rows)
    notes = [f"{left} of the {total} crops of its original lie in frames that are missing here."] if left else []
    return record_crops(video, footage, rows, notes, num_examined=num_read)


def report_own_boxes(videos: Sequence[Video], records: Mapping[str, VideoRecord], spec: CropSpec) -> None:
    """Log how many forgeries reuse the boxes of their originals, and why others do not."""
    fakes = [video for video in videos if video.label == Label.FAKE]
    if spec.boxes != "from_original" or not fakes:
        return
    unknown = sum(video.original is None for video in fakes)
    own = sum(OWN_BOXES in records[video.video_id].message for video in fakes)
    num_unread = sum(records[video.video_id].outcome != Outcome.OK for video in fakes)
    logger.log(
        logging.WARNING if unknown or own else logging.INFO,
        "faces.boxes=from_original: of %d forgeries, %d have boxes of their own, since the source names no original "
        "for them, and %d, since their original does not fit or is missing; %d have no crops. The column message of "
        "videos.parquet has the reason.", len(fakes), unknown, own, num_unread,
    )  # fmt: skip
