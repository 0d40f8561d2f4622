"""Encode a video anew and keep its sound as it is."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from unmask.types import Frame

_TICKS = 90_000  # a second

_SOUND_OF_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})


def write_with_sound(path: Path, frames: Iterable[Frame], *, source: Path, crf: int = 23) -> Path:
    """Encode frames as H.264 at their own times, and copy the sound of the video they come from.

    Args:
        path: Its suffix is replaced: `.mp4`, or `.mkv` where MP4 cannot hold the sound.
        frames: At least one, all of one size; an odd side is made even by repeating its last row or column.
        source: The video whose sound is kept.
        crf: Constant rate factor of x264.

    Returns:
        The file, which is either whole or absent, whatever interrupts.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    remaining = iter(frames)
    first = next(remaining)
    with ExitStack() as stack:
        sound = stack.enter_context(av.open(str(source)))
        stream = next((item for item in sound.streams.audio if item.codec_context is not None), None)
        fits = stream is None or stream.codec_context.name in _SOUND_OF_MP4
        path = path.with_suffix(".mp4" if fits else ".mkv")
        part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        stack.callback(part.unlink, missing_ok=True)
        with av.open(str(part), "w") as output:
            video = output.add_stream("libx264", rate=Fraction(30))
            video.pix_fmt, video.thread_count = "yuv420p", 1
            video.height, video.width = (side + side % 2 for side in first.image.shape[:2])
            video.time_base = video.codec_context.time_base = Fraction(1, _TICKS)
            video.options = {"crf": str(crf), "preset": "veryfast"}
            copied = None if stream is None else output.add_stream_from_template(stream)
            packets = _shift(sound, stream, copied)
            waiting = next(packets, None)
            for frame in chain([first], remaining):
                while waiting is not None and waiting.pts * waiting.time_base <= frame.time_seconds:
                    output.mux(waiting)
                    waiting = next(packets, None)
                output.mux(video.encode(_to_frame(frame)))
            output.mux(video.encode(None))
            for packet in [] if waiting is None else [waiting, *packets]:
                output.mux(packet)
        part.replace(path)
    return path


def _to_frame(frame: Frame) -> Any:
    import av

    height, width = frame.image.shape[:2]
    even = np.pad(frame.image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoded = av.VideoFrame.from_ndarray(even, format="rgb24")
    encoded.pts, encoded.time_base = round(frame.time_seconds * _TICKS), Fraction(1, _TICKS)
    return encoded


def _shift(container: Any, stream: Any, copied: Any) -> Iterator[Any]:
    """Yield the packets of the sound, counted from the first frame of the picture."""
    if stream is None:
        return
    video = container.streams.video[0]
    start = round((video.start_time or 0) * video.time_base / stream.time_base)
    for packet in container.demux(stream):
        if packet.dts is None or packet.pts is None or packet.pts < start:
            continue
        packet.pts, packet.dts = packet.pts - start, packet.dts - start
        packet.stream = copied
        yield packet
