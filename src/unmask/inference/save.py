"""Write files beside the predictions: heat maps, annotated videos, timelines."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unmask.errors import ConfigError
from unmask.faces.spec import CropSpec
from unmask.inference.annotate import draw_face_heat, write_annotated
from unmask.inference.results import FrameResult, Prediction
from unmask.inference.timeline import write_timeline
from unmask.media.image import MAX_PIXELS, read_image, write_jpeg
from unmask.media.streams import name_failures, name_failures_of
from unmask.media.video import index_video, read_indexed
from unmask.types import Image, MediaKind

logger = logging.getLogger(__name__)

EXTRAS = ("heatmaps", "video", "timeline")


def check_extras(names: Sequence[str]) -> None:
    """Raise a ConfigError unless all names are in `EXTRAS`."""
    unknown = [name for name in names if name not in EXTRAS]
    if unknown:
        raise ConfigError(f"save={list(names)} contains '{unknown[0]}'. Choose from: {', '.join(EXTRAS)}.")


def has_no_maps(predictions: Sequence[Prediction]) -> bool:
    """Return whether faces were scored, but none has a heat map."""
    faces = [face for prediction in predictions for frame in prediction.frames for face in frame.faces]
    return bool(faces) and all(face.activation_map is None for face in faces)


def save_extras(
    prediction: Prediction,
    folder: Path,
    *,
    names: Sequence[str],
    spec: CropSpec,
    max_pixels: int = MAX_PIXELS,
    tell: Callable[[str], None] = logger.warning,
) -> list[Path]:
    """Write the requested files of one input; those that do not apply to its kind are skipped.

    Args:
        prediction: Prediction of a readable file.
        folder: Folder for this file alone.
        names: Names from `EXTRAS`.
        spec: Crop spec.
        max_pixels: Maximum number of pixels of an image or frame, as in the prediction.
        tell: Function that receives a warning about a loss in a written file, such as its sound.

    Returns:
        The files written.

    Raises:
        MediaError: The file cannot be read once more, or FFmpeg cannot write what was made of it.
    """
    is_video = prediction.kind is MediaKind.VIDEO
    written = []
    if "heatmaps" in names:
        written += _write_heatmaps(prediction, folder, spec, max_pixels=max_pixels)
    if "video" in names and is_video:
        path = folder / "annotated.mp4"
        written.append(write_annotated(path, prediction, max_pixels=max_pixels, tell=tell))
    if "timeline" in names and is_video:
        write_timeline(folder / "timeline.png", prediction)
        written.append(folder / "timeline.png")
    return written


def _write_heatmaps(prediction: Prediction, folder: Path, spec: CropSpec, *, max_pixels: int) -> list[Path]:
    written = []
    for frame, image in _shown_frames(prediction, max_pixels=max_pixels):
        for face in frame.faces:
            overlay = draw_face_heat(image, face, spec)
            if overlay is not None:
                path = folder / f"heatmap_{frame.index:06d}_face{face.track + 1}.jpg"
                write_jpeg(path, overlay, quality=92)
                written.append(path)
    return written


def _shown_frames(prediction: Prediction, *, max_pixels: int) -> Iterator[tuple[FrameResult, Image]]:
    """Yield the image, or the key frames of a video in order of time."""
    path = Path(prediction.path)
    if prediction.kind is not MediaKind.VIDEO:
        yield prediction.frames[0], read_image(path, max_pixels=max_pixels, bounds=None)
        return
    wanted = {frame.index: frame for frame in prediction.frames if frame.index in prediction.key_frames}
    if wanted:
        with name_failures(path):
            index = index_video(path, max_pixels=max_pixels)
        for frame in name_failures_of(read_indexed(index, sorted(wanted)), path):
            yield wanted[frame.index], frame.image
