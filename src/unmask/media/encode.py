"""Encode videos with PyAV (x264), in colours that name themselves: BT.709 in limited range."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from unmask.types import Picture
from unmask.writing import writing

_BT709, _LIMITED = 1, 1  # of FFmpeg


def write_video(path: Path, images: Iterable[Picture], *, fps: float, crf: int = 23) -> None:
    """Encode pictures as H.264 in MP4; the file is either whole or absent, whatever interrupts.

    Args:
        path: Ends in `.mp4`.
        images: RGB, all of one size with even sides.
        fps: Frames a second.
        crf: Constant rate factor of x264: 0 lossless, 23 its default, 40 strongly compressed.

    Raises:
        OutputError: The disk is full, or the folder cannot be written to.
    """
    import av

    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A bare name such as 'pipe:1/x.mp4' is an address.
            with av.open(f"file:{part}", "w") as container:
                stream = None
                for image in images:
                    if stream is None:
                        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                        stream.height, stream.width = image.shape[:2]
                        stream.pix_fmt = "yuv420p"
                        stream.thread_count = 1
                        name_colours(stream)
                        # Without the last option x264 gives now these bytes, now those, where a side is no multiple
                        # of 64.
                        stream.options = {"crf": str(crf), "preset": "veryfast", "x264-params": "cpu-independent=1"}
                    container.mux(stream.encode(to_yuv(image)))
                if stream is None:
                    raise ValueError(f"no frames to write to '{path}'")
                container.mux(stream.encode(None))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def name_colours(stream: Any) -> None:
    """Write into a stream which colours `to_yuv` gives it; players guess those of others by their size.

    Args:
        stream: Of PyAV, not yet opened.
    """
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED


def to_yuv(image: Picture) -> Any:
    """Return a picture as a frame that x264 takes.

    Args:
        image: RGB, with even sides.
    """
    import av

    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED)


def recode_picture(image: Picture, *, crf: int) -> Picture:
    """Return a picture as it looks after H.264, in memory: a video of one frame.

    Args:
        image: RGB; an odd side is made even by repeating its last row or column, which is cut off again.
        crf: Constant rate factor of x264.
    """
    import av

    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else image
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = even.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 25), 1
    settings = "cpu-independent=1:log-level=none"
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency", "x264-params": settings}
    packets = encoder.encode(av.VideoFrame.from_ndarray(even, format="rgb24")) + encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    return np.asarray(frames[0].to_ndarray(format="rgb24")[:height, :width], np.uint8)
