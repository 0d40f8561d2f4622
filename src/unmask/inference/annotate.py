"""Write a video with boxes, scores and verdict drawn into it."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from unmask.inference.drawing import draw_faces
from unmask.inference.results import FaceScore, FrameResult, Prediction
from unmask.inference.words import entitle
from unmask.media.failures import name_failures, name_failures_of
from unmask.media.picture import MAX_PIXELS
from unmask.media.remux import write_with_sound
from unmask.media.video import index_video, read_indexed
from unmask.types import Box, Frame

logger = logging.getLogger(__name__)


def write_annotated(
    path: Path, prediction: Prediction, *, max_pixels: int = MAX_PIXELS, tell: Callable[[str], None] = logger.warning
) -> Path:
    """Write a video with its faces marked in every frame, its sound kept; faces move between the frames looked at.

    Args:
        path: Its suffix is replaced by `.mp4`, or `.mkv` where MP4 cannot hold the sound.
        prediction: Of a video.
        max_pixels: Of a frame; the limit it was predicted with.
        tell: Takes a sentence on what of its sound is lost.

    Returns:
        The file.

    Raises:
        MediaError: The video cannot be read once more, or FFmpeg cannot write what was made of it.
    """
    source = Path(prediction.path)
    return write_with_sound(path, _annotate(source, prediction, max_pixels=max_pixels), source=source, tell=tell)


def _annotate(source: Path, prediction: Prediction, *, max_pixels: int) -> Iterator[Frame]:
    times = [frame.time_seconds for frame in prediction.frames]
    title = entitle(prediction)
    with name_failures(source):
        index = index_video(source, max_pixels=max_pixels)
    for frame in name_failures_of(read_indexed(index, range(index.info.num_frames)), source):
        position = bisect_right(times, frame.time_seconds)
        before = prediction.frames[max(position - 1, 0)]
        after = prediction.frames[min(position, len(times) - 1)]
        faces = _between(before, after, frame.time_seconds)
        yield replace(frame, image=draw_faces(frame.image, faces, title=title))


def _between(before: FrameResult, after: FrameResult, seconds: float) -> list[FaceScore]:
    """Place the faces of a frame looked at on their way to the next one looked at, for a moment between the two.

    A face that the next one does not have stays in place; one that the next alone has comes with it, not before. Its
    score, and so its colour, is that of the frame examined last.
    """
    span = after.time_seconds - before.time_seconds
    share = min(max((seconds - before.time_seconds) / span, 0.0), 1.0) if span > 0 else 0.0
    later = {face.track: face for face in after.faces}
    return [_move(face, later.get(face.track, face), share) for face in before.faces]


def _move(first: FaceScore, last: FaceScore, share: float) -> FaceScore:
    x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(first.box, last.box, strict=True))
    box: Box = (x1, y1, x2, y2)
    return replace(first, box=box)
