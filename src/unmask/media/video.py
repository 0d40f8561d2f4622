"""Decode videos with PyAV (FFmpeg)."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unmask.errors import LimitError, MediaError
from unmask.media.frames import Screen, is_sane, list_screen_notes, square_size
from unmask.media.image import MAX_PIXELS
from unmask.media.kinds import (
    IMAGE_NAMES,
    IMAGE_SUFFIXES,
    VIDEO_FORMATS,
    VIDEO_SUFFIXES,
    check_file,
    is_image,
    is_text,
)
from unmask.media.mp4 import check_claims
from unmask.media.streams import (
    Decoder,
    choose_video,
    count_times,
    list_packets,
    list_passed_over,
    name_streams,
    tell_reason,
)
from unmask.types import Frame

_ALIGNMENT = 128
"""Columns and rows, at most, that FFmpeg adds to a frame to align it, and counts as its pixels."""

_SEEK_FROM_FRAMES = 250
"""Seek when the next wanted frame is at least this far; nearer ones are decoded through (x264's default GOP is 250)."""

_WHOLE_SHARE = 0.9
"""Minimum share of the claimed frames or duration in a whole file; headers are inexact, and edit lists hide frames."""

_UNTIMED = frozenset({"avi", "asf"})
"""Containers that may hold the order of decoding only."""

_OPTIONS = {
    # Playlists (HLS, DASH, concat) would have FFmpeg read other files and addresses, as whoever wrote them likes.
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,mpegvideo,ogg,h264,hevc,m4v",
    "protocol_whitelist": "file",
}


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video stream, determined without decoding it.

    Args:
        width: Width in square pixels before rotation; many phones store upright videos sideways.
        height: Height in square pixels before rotation.
        fps: Average frame rate, 0 if unknown.
        num_frames: Number of packets counted, which the header may misstate.
        duration_seconds: Time from the first frame to the end of the last.
        codec: FFmpeg's name of the codec, such as `h264`.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    duration_seconds: float
    codec: str


@dataclass(frozen=True)
class VideoIndex:
    """A video whose packets were counted: 8 bytes a frame.

    Args:
        path: The file.
        name: What messages call it.
        info: Size, rate, codec, number of frames.
        times: Presentation times of all frames in order, in units of the stream's time base.
        is_timed: Whether packets carry the times of their frames; in raw streams they are counted instead.
        max_pixels: A frame with more is not decoded.
        notes: What of the file is not shown, or only approximately; a sentence each.
    """

    path: Path
    name: str
    info: VideoInfo
    times: npt.NDArray[np.int64] = field(repr=False)
    is_timed: bool
    max_pixels: int
    notes: tuple[str, ...] = ()


def probe_video(path: Path, *, max_pixels: int = MAX_PIXELS) -> VideoInfo:
    """Read size, rate, codec and the true number of frames of a video.

    Args:
        path: A video.
        max_pixels: A video with larger frames is refused.

    Raises:
        MediaError: Absent, empty, not a video, or without a video stream.
    """
    return index_video(path, max_pixels=max_pixels).info


def index_video(path: Path, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> VideoIndex:
    """Index the packets of a video, so that its frames can be chosen and found, without decoding any.

    Args:
        path: Path of a video.
        name: Name of the file in messages; None for its path.
        max_pixels: Maximum size of a frame; larger videos are refused.

    Raises:
        MediaError: As for `probe_video`, or the frames exceed `max_pixels`, or the file claims more frames than it can
            contain.
    """
    name = name or str(path)
    with _open(path, name=name, max_pixels=max_pixels) as (container, stream):
        packets = list_packets(container, stream, name)
        is_raw = not len(packets.times)
        rate = (stream.guessed_rate if is_raw else None) or stream.average_rate  # FFmpeg calls every raw stream 25 fps
        times = count_times(stream, packets.num_untimed, fps=float(rate or 0)) if is_raw else packets.times
        info = _describe(stream, times, fps=float(rate or 0))
        is_timed = not is_raw and _has_true_times(container, stream)
        notes = (*_list_losses(container, stream, info), *list_passed_over(stream), *list_screen_notes(stream))
        return VideoIndex(path, name, info, times, is_timed, max_pixels, notes)


def read_frames(
    path: Path, *, num_frames: int | None = None, every_n: int | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Frame]:
    """Yield frames evenly spaced over the whole video, first and last included; or every n-th.

    Only one frame is held at a time. Where the stream is shorter than asked for, every frame is yielded once.

    Args:
        path: A video.
        num_frames: How many; None for every frame.
        every_n: Takes every n-th frame instead.
        max_pixels: A video with larger frames is refused.

    Raises:
        MediaError: As `probe_video`, or where not one frame can be decoded.
    """
    index = index_video(path, max_pixels=max_pixels)
    yield from read_indexed(index, choose_frames(index.info.num_frames, num_frames=num_frames, every_n=every_n))


def read_indexed(index: VideoIndex, wanted: Sequence[int]) -> Iterator[Frame]:
    """Yield the wanted frames of an indexed video.

    Args:
        index: Result of `index_video`.
        wanted: Positions of frames, ascending.

    Raises:
        MediaError: None of the frames can be decoded, or one exceeds `max_pixels`.
    """
    # Opened anew: not every container can be sought back to its start.
    with _open(index.path, name=index.name, max_pixels=index.max_pixels) as (container, stream):
        yield from _decode_wanted(container, stream, index, wanted)


def choose_frames(total: int, *, num_frames: int | None, every_n: int | None = None) -> list[int]:
    """Return indices evenly spaced from 0 to `total - 1`, both included, without repetition; or every n-th."""
    if every_n is not None:
        return list(range(0, total, every_n))
    if num_frames is None or num_frames >= total:
        return list(range(total))
    return sorted({int(index) for index in np.linspace(0, total - 1, num_frames).round()})


def open_container(path: Path, *, name: str | None = None) -> Any:
    """Open a file with FFmpeg, which then reads that file alone, and only as a video.

    Args:
        path: A video.
        name: What messages call it; None for its path.

    Raises:
        MediaError: Absent, empty, not a video, or its file claims frames it cannot hold.
    """
    import av

    name = name or str(path)
    check_file(path, name=name)
    if is_image(path):
        raise MediaError(f"'{name}' is an image, not a video. Give a video, or predict it as an image.")
    try:
        check_claims(path, name=name)
        # A bare name such as 'concat:a|b' is an address.
        return av.open(f"file:{path}", options=_OPTIONS, **_tolerate_titles(av.__version__))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _refusal(error, path, name) from error


def _tolerate_titles(version: str) -> dict[str, str]:
    """Return the options of PyAV's `open` with which titles may be written in any alphabet's bytes.

    Args:
        version: Of PyAV. From 19 on, the option is gone, and `open` keeps such bytes as they are.
    """
    return {"metadata_errors": "replace"} if int(version.partition(".")[0]) < 19 else {}


def _refusal(error: Exception, path: Path, name: str) -> MediaError:
    """Explain why a file cannot be opened: its content decides, but its name shows what it should be."""
    import av

    suffix = Path(name).suffix.lower()
    said = f"'{name}' {'is not an image and ' if suffix in IMAGE_SUFFIXES else ''}cannot be read as a video: "
    is_unknown = getattr(error, "errno", None) == errno.EINVAL  # what FFmpeg says of formats we do not let it read
    if is_unknown or (suffix not in VIDEO_SUFFIXES and isinstance(error, av.InvalidDataError)):
        if suffix not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:  # nobody meant it for a video
            said = f"'{name}' is neither an image nor a video{', but text' if is_text(path) else ''}: "
        return MediaError(
            f"{said}its format is not supported. Images: {', '.join(IMAGE_NAMES)}; "
            f"videos: {', '.join(VIDEO_FORMATS)}. If it should be one of them, download or copy it again."
        )
    return MediaError(f"{said}{tell_reason(error)}. Download or copy it again.")


@contextmanager
def _open(path: Path, *, name: str, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    with open_container(path, name=name) as container:
        stream = choose_video(container)
        if stream is None:
            raise MediaError(
                f"'{name}' has no video stream, only {name_streams(container)}. Give a file with a video stream."
            )
        context = stream.codec_context
        if context is None:
            raise MediaError(f"The codec of '{name}' is not supported. Convert it, for example to H.264.")
        _check_size(*_find_size(stream), name=name, max_pixels=max_pixels)
        # Frames may be larger than the header says.
        aligned = (context.width + _ALIGNMENT) * (context.height + _ALIGNMENT)
        context.options = {"max_pixels": str(max(max_pixels, aligned))}
        stream.thread_type = "NONE"  # work runs in parallel over videos; threads would only compete
        yield container, stream


def _find_size(stream: Any) -> tuple[int, int]:
    """Return width and height in square pixels, before rotation."""
    context, aspect = stream.codec_context, stream.sample_aspect_ratio
    size = context.width, context.height
    return square_size(*size, aspect) if aspect and is_sane(aspect) else size


def _check_size(width: int, height: int, *, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        problem = f"The frames of '{name}' are {width} x {height} pixels, more than the maximum of {max_pixels:,}."
        raise LimitError(problem, "limits.max_pixels", width * height, "scale it down")


def _has_true_times(container: Any, stream: Any) -> bool:
    """Tell whether packets carry the times of their frames; AVI and ASF store reordered frames without them."""
    return not (stream.codec_context.has_b_frames and container.format.name in _UNTIMED)


def _describe(stream: Any, times: npt.NDArray[np.int64], *, fps: float) -> VideoInfo:
    base = float(stream.time_base or 0)
    span = (int(times[-1]) - int(times[0])) * base + (1 / fps if fps else 0.0) if len(times) else 0.0
    context = stream.codec_context
    return VideoInfo(*_find_size(stream), fps, len(times), span, context.name)


def _list_losses(container: Any, stream: Any, info: VideoInfo) -> list[str]:
    """Return a sentence on what the header claims and the file lacks, or nothing if it is whole."""
    claimed = int(stream.frames)
    if info.num_frames < _WHOLE_SHARE * claimed:
        return [f"The file is cut off or damaged: {info.num_frames:,} of its {claimed:,} frames are there."]
    if claimed or "matroska" not in container.format.name or len(container.streams) > 1:
        return []  # the duration of other formats may be a guess, or that of another stream
    whole = (container.duration or 0) / 1e6
    if info.duration_seconds < _WHOLE_SHARE * whole:
        return [f"The file is cut off or damaged: it has {info.duration_seconds:.1f} of its {whole:.1f} s."]
    return []


def _decode_wanted(container: Any, stream: Any, index: VideoIndex, wanted: Sequence[int]) -> Iterator[Frame]:
    """Decode up to each wanted frame in turn, seeking where the next one is far; damaged stretches are passed over."""
    import av

    times, is_timed, base = index.times, index.is_timed, float(stream.time_base or 0)
    needed = {int(times[target]) for target in wanted} if is_timed and len(wanted) < len(times) else None
    decoder = Decoder(container, stream, max_pixels=index.max_pixels, needed=needed)
    screen = Screen(container, stream)
    last_index, problem, found = -1, "no frame was found in it", 0
    for target in wanted:
        try:
            if is_timed and target - last_index >= _SEEK_FROM_FRAMES:
                container.seek(int(times[target]), stream=stream)
                decoder.restart()
            while last_index < target:
                decoded = decoder.step()
                if decoded is None:
                    break
                frame = decoded.frame
                place = _find_place(times, frame.pts) if is_timed else last_index + 1
                if place == target and frame.interlaced_frame and decoder.is_skipping:  # its neighbours are missing
                    decoder.need_all()
                    container.seek(int(times[max(target - 1, 0)]), stream=stream)
                    decoder.restart()
                    continue
                last_index = max(last_index, place)
                if place == target:
                    found += 1
                    size = square_size(frame.width, frame.height, screen.aspect)
                    _check_size(*size, name=index.name, max_pixels=index.max_pixels)
                    after = decoder.look_ahead() if frame.interlaced_frame else None
                    seconds = (int(times[target]) - int(times[0])) * base
                    # Without a name here, which would hold its memory while the next one is made.
                    yield Frame(screen.show(decoded, before=decoder.before, after=after), target, seconds)
        except (av.FFmpegError, OSError) as error:
            problem = tell_reason(error)
            decoder.restart()
            if is_timed:
                last_index = target - _SEEK_FROM_FRAMES  # go on by seeking to the next wanted one
    if not found:
        raise MediaError(f"'{index.name}' cannot be decoded: {problem}. Download or copy it again.")


def _find_place(times: npt.NDArray[np.int64], time: int | None) -> int:
    """Return the position of a frame by its time, -1 where no packet has that time."""
    if time is None:
        return -1
    place = int(np.searchsorted(times, time))
    return place if place < len(times) and times[place] == time else -1
