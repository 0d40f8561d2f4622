"""Encode a video anew and keep its sound as it is."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.media.encode import name_colours, to_yuv
from unmask.media.failures import name_failures
from unmask.media.sound import hold_sound
from unmask.types import Frame, Picture
from unmask.writing import writing

logger = logging.getLogger(__name__)

_TICKS = 90_000  # a second


def write_with_sound(
    path: Path,
    frames: Iterable[Frame],
    *,
    source: Path,
    crf: int = 23,
    tell: Callable[[str], None] = logger.warning,
) -> Path:
    """Encode frames as H.264 at their own times, with the sound of the video they come from.

    The sound is copied; what neither MP4 nor Matroska holds becomes AAC. Where that fails too, the video has none.

    Args:
        path: Its suffix is replaced: `.mp4`, or `.mkv` where MP4 cannot hold the sound.
        frames: At least one; later ones are scaled to the size of the first, with black bars where their shape
            differs. An odd side is made even by repeating its last row or column.
        source: The video whose sound is kept.
        crf: Constant rate factor of x264.
        tell: Takes a sentence on what of the sound is lost.

    Raises:
        MediaError: The source cannot be opened, or FFmpeg cannot write the video. What `frames` raises is let through.
        OutputError: The disk is full, or the folder cannot be written to.

    Returns:
        The file, which is either whole or absent, whatever interrupts.
    """
    import av

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError(f"no frames to write to '{path}'")
    with writing(path), ExitStack() as stack:  # what is closed at the end may write too
        with name_failures(source):
            sound = stack.enter_context(hold_sound(source, beside=path, tell=tell))
            path = path.with_suffix(sound.suffix if sound else ".mp4")
            part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
            stack.callback(part.unlink, missing_ok=True)
            # A bare name such as 'pipe:1/x.mp4' is an address.
            with writing(path):
                output = stack.enter_context(av.open(f"file:{part}", "w"))
            video = _add_video(output, first.image, crf=crf)
            packets = _copy_sound(output, stack.enter_context(av.open(f"file:{sound}"))) if sound else iter(())
            waiting = next(packets, None)
        for seconds, picture in _prepare(chain([first], remaining), height=video.height, width=video.width):
            with name_failures(source):
                encoded = video.encode(picture)
                while waiting is not None and waiting.pts * waiting.time_base <= seconds:
                    output.mux(waiting)
                    waiting = next(packets, None)
                output.mux(encoded)
        with name_failures(source):
            output.mux(video.encode(None))
            for packet in [] if waiting is None else [waiting, *packets]:
                output.mux(packet)
            output.close()  # here, as it writes too
        part.replace(path)
    return path


def _add_video(output: Any, image: Picture, *, crf: int) -> Any:
    video = output.add_stream("libx264", rate=Fraction(30))
    video.pix_fmt, video.thread_count = "yuv420p", 1
    video.height, video.width = (side + side % 2 for side in image.shape[:2])
    video.time_base = video.codec_context.time_base = Fraction(1, _TICKS)
    name_colours(video)
    video.options = {"crf": str(crf), "preset": "veryfast"}
    return video


def _copy_sound(output: Any, sound: Any) -> Iterator[Any]:
    copied = output.add_stream_from_template(sound.streams.audio[0])
    for packet in sound.demux(audio=0):
        if packet.dts is not None:  # the last is empty
            packet.stream = copied
            yield packet


def _prepare(frames: Iterable[Frame], *, height: int, width: int) -> Iterator[tuple[float, Any]]:
    """Yield the time of every frame, and the frame as the encoder takes it."""
    last = -1
    for frame in frames:
        picture = to_yuv(_fit(frame.image, height=height, width=width))
        # Two frames at one time, which clocks finer than ours may have, would end the file.
        picture.pts = last = max(round(frame.time_seconds * _TICKS), last + 1)
        picture.time_base = Fraction(1, _TICKS)
        yield frame.time_seconds, picture


def _fit(image: Picture, *, height: int, width: int) -> Picture:
    """Bring a frame to the size of the video, which players know one of: streams change theirs in the middle.

    Args:
        image: Of any size; one that lacks a row or column is filled by repeating its last.
        height: Of the video.
        width: Of the video.
    """
    rows, columns = image.shape[:2]
    if (rows + rows % 2, columns + columns % 2) != (height, width):
        scale = min(height / rows, width / columns)
        rows, columns = max(round(rows * scale), 1), max(round(columns * scale), 1)
        image = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        top, left = (height - rows) // 2, (width - columns) // 2
        return np.pad(image, ((top, height - rows - top), (left, width - columns - left), (0, 0)))
    return np.pad(image, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
