"""Encode videos with PyAV (x264, BT.709 in limited range), with or without the sound of another file."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.media.streams import (
    choose_sound,
    choose_video,
    is_of_output,
    list_failures,
    name_failures,
    tell_reason,
    to_the_end,
)
from unmask.media.video import open_container
from unmask.paths import writing
from unmask.types import Frame, Image

logger = logging.getLogger(__name__)

_SOUND_OF_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})

_RATE = 48_000
"""Samples a second where AAC does not know those of the source."""


@contextmanager
def hold_sound(source: Path, *, beside: Path, tell: Callable[[str], None]) -> Iterator[Path | None]:
    """Write the sound of a video into a file of its own for a while, counted from the first frame of the image.

    What comes out has been written once, so that it cannot fail beside the image any more.

    Args:
        source: The video.
        beside: A file in whose folder there is room.
        tell: Takes a sentence on what of the sound is lost.

    Raises:
        MediaError: The source cannot be opened.

    Yields:
        An `.mp4`, or an `.mkv` where MP4 cannot hold the sound; None where there is none, or none that can be kept.
    """
    parts = [beside.with_name(f".{beside.stem}.{os.getpid()}.sound.part{suffix}") for suffix in (".mp4", ".mkv")]
    try:
        yield _extract(source, *parts, tell=tell)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _extract(source: Path, mp4: Path, mkv: Path, *, tell: Callable[[str], None]) -> Path | None:
    """Copy the sound, or else encode it anew: Matroska and MP4 do not know the codecs of old phones and Flash."""
    name = _name_codec(source)
    if name is None:
        return None
    reason = "its codec is not supported"
    for part, add in [(mp4 if name in _SOUND_OF_MP4 else mkv, _copy), (mp4, _transcode)] if name else []:
        try:
            lost: list[str] = []
            has_packets = _write(source, part, add, lost)
        except list_failures() as error:
            if is_of_output(error):
                raise
            reason = tell_reason(error)
        else:
            for sentence in lost:
                tell(sentence)
            return part if has_packets else None
    tell(f"its sound{name and f', {name},'} cannot be kept: {reason}")
    return None


def _name_codec(source: Path) -> str | None:
    """Return FFmpeg's name of the sound's codec, nothing where it is unknown, None where there is no sound."""
    with open_container(source) as container:
        if not container.streams.audio:
            return None
        stream = choose_sound(container)
        return "" if stream is None else str(stream.codec_context.codec.canonical_name)


def _write(source: Path, part: Path, add: Callable[[Any, Any, Iterator[Any]], Iterator[Any]], lost: list[str]) -> bool:
    """Write the packets that `add` makes of those of the source; tell whether there were any."""
    import av

    is_there = False
    # A bare name such as 'pipe:1/x.mp4' is an address.
    with open_container(source) as container, av.open(f"file:{part}", "w") as output:
        stream = choose_sound(container)
        for packet in add(output, stream, _read_packets(container, stream, lost)):
            output.mux(packet)
            is_there = True
    return is_there


def _copy(output: Any, stream: Any, packets: Iterator[Any]) -> Iterator[Any]:
    copied = output.add_stream_from_template(stream)
    for packet in packets:
        packet.stream = copied
        yield packet


def _transcode(output: Any, stream: Any, packets: Iterator[Any]) -> Iterator[Any]:
    """Encode as AAC, at the rate of the source where AAC has it, and of more than two channels a stereo mix."""
    import av

    decoder, is_there = stream.codec_context, False
    knows_rate = decoder.sample_rate in (av.Codec("aac", "w").audio_rates or [])
    encoder = output.add_stream("aac", rate=decoder.sample_rate if knows_rate else _RATE)
    encoder.codec_context.layout = "mono" if decoder.layout.nb_channels == 1 else "stereo"
    for packet in chain(packets, [None]):
        try:
            frames = decoder.decode(packet)
        except list_failures():
            continue  # players pass over a damaged packet too
        for frame in frames:
            is_there = True
            yield from encoder.encode(frame)
    if not is_there:
        raise ValueError("none of it can be decoded")
    yield from encoder.encode(None)


def _read_packets(container: Any, stream: Any, lost: list[str]) -> Iterator[Any]:
    """Yield the packets of the sound at rising times, counted from the first frame of the image.

    Args:
        container: At its beginning.
        stream: Of the sound.
        lost: Takes a sentence on what is left out.
    """
    video = choose_video(container)
    start = round((video.start_time or 0) * video.time_base / stream.time_base) if video else 0
    last, num_back = None, 0
    try:
        for packet in to_the_end(container.demux(stream)):
            if packet.dts is None or packet.pts is None or packet.pts < start:
                continue
            if last is not None and packet.dts <= last:  # two recordings in one file: their images fall together too
                num_back += 1
                continue
            last = packet.dts
            packet.pts, packet.dts = packet.pts - start, packet.dts - start
            yield packet
    except list_failures() as error:
        lost.append(f"its sound ends where the file is damaged: {tell_reason(error)}")
    if num_back:
        lost.append(f"its sound lacks the packets whose times go back: {num_back}")


_BT709, _LIMITED = 1, 1  # of FFmpeg


def write_video(path: Path, images: Iterable[Image], *, fps: float, crf: int = 23) -> None:
    """Encode images as H.264 in MP4; the file is either whole or absent, whatever interrupts.

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


def to_yuv(image: Image) -> Any:
    """Return an image as a frame that x264 takes.

    Args:
        image: RGB, with even sides.
    """
    import av

    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED)


def recode_image(image: Image, *, crf: int) -> Image:
    """Return an image as it looks after H.264, in memory: a video of one frame; see `recode_images`."""
    return recode_images([image], crf=crf)[0]


def recode_images(images: Sequence[Image], *, crf: int) -> list[Image]:
    """Return images as they look as consecutive frames of an H.264 video, in memory.

    Args:
        images: RGB, at least one, all of one size; an odd side is made even by repeating its last row or column, which
            is cut off again.
        crf: Constant rate factor of x264.
    """
    import av

    height, width = images[0].shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = height + height % 2, width + width % 2
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 25), 1
    settings = "cpu-independent=1:log-level=none"
    encoder.options = {"crf": str(crf), "preset": "veryfast", "x264-params": settings}
    if len(images) == 1:
        encoder.options = {**encoder.options, "tune": "zerolatency"}
    packets = []
    for number, image in enumerate(images):
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    return [np.asarray(frame.to_ndarray(format="rgb24")[:height, :width], np.uint8) for frame in frames]


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
        for seconds, image in _prepare(chain([first], remaining), height=video.height, width=video.width):
            with name_failures(source):
                encoded = video.encode(image)
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


def _add_video(output: Any, image: Image, *, crf: int) -> Any:
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
        image = to_yuv(_fit(frame.image, height=height, width=width))
        # Two frames at one time, which clocks finer than ours may have, would end the file.
        image.pts = last = max(round(frame.time_seconds * _TICKS), last + 1)
        image.time_base = Fraction(1, _TICKS)
        yield frame.time_seconds, image


def _fit(image: Image, *, height: int, width: int) -> Image:
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
