"""Decode videos with PyAV (FFmpeg)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import MediaError
from unmask.media.kinds import check_file
from unmask.types import Frame

_SEEK_FROM_FRAMES = 250
"""Seek when the next wanted frame is at least this far; nearer ones are decoded through (x264's default GOP is 250)."""


_UNTIMED = frozenset({"avi", "asf"})
"""Containers that may hold the order of decoding only."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video stream without decoding it.

    Args:
        width: In pixels as stored, which is sideways in the upright videos of many phones.
        height: In pixels as stored.
        fps: Average frames a second, 0 where unknown.
        num_frames: Counted packets, not the header's word.
        duration_seconds: From the first frame to the end of the last.
        codec: FFmpeg's name, such as `h264`.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    duration_seconds: float
    codec: str


def probe_video(path: Path) -> VideoInfo:
    """Read size, rate, codec and the true number of frames of a video.

    Raises:
        MediaError: Absent, empty, not a video, or without a video stream.
    """
    with _open(path) as (container, stream):
        return _describe(stream, _list_times(container, stream))


def read_frames(path: Path, *, num_frames: int | None = None, every_n: int | None = None) -> Iterator[Frame]:
    """Yield frames evenly spaced over the whole video, first and last included; or every n-th.

    Only one frame is held at a time. Where the stream is shorter than asked for, every frame is yielded once.

    Args:
        path: A video.
        num_frames: How many; None for every frame.
        every_n: Takes every n-th frame instead.

    Raises:
        MediaError: As `probe_video`, or where not one frame can be decoded.
    """
    with _open(path) as (container, stream):
        times = _list_times(container, stream)
        is_timed = _has_true_times(container, stream)
    wanted = choose_frames(len(times), num_frames=num_frames, every_n=every_n)
    with _open(path) as (container, stream):  # anew: not every container can be sought back to its start
        yield from _decode_wanted(container, stream, times, wanted, path, is_timed=is_timed)


def choose_frames(total: int, *, num_frames: int | None, every_n: int | None = None) -> list[int]:
    """Return indices evenly spaced from 0 to `total - 1`, both included, without repetition; or every n-th."""
    if every_n is not None:
        return list(range(0, total, every_n))
    if num_frames is None or num_frames >= total:
        return list(range(total))
    return sorted({int(index) for index in np.linspace(0, total - 1, num_frames).round()})


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    check_file(path)
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"'{path}' cannot be read as a video: {error}. Download or copy it again.") from error
    with container:
        if container.format.name == "tty":  # FFmpeg draws any text as on a terminal
            raise MediaError(f"'{path}' cannot be read as a video: it holds text. Name a video.")
        if not container.streams.video:
            raise MediaError(
                f"'{path}' holds no video stream, only {_name_streams(container)}. Name a video with pictures."
            )
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise MediaError(f"'{path}' is stored in a codec that is not known here. Convert it, to H.264 for example.")
        stream.thread_type = "NONE"  # work runs in parallel over videos; threads would only compete
        yield container, stream


def _name_streams(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "no streams at all"


def _list_times(container: Any, stream: Any) -> list[int]:
    """Return the presentation times of all frames in order, in units of the stream's time base, from packets alone."""
    import av

    times: set[int] = set()
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                times.add(packet.pts)
    except (av.FFmpegError, OSError):
        pass  # a file cut off in the middle: the packets before the cut are good
    return sorted(times)


def _has_true_times(container: Any, stream: Any) -> bool:
    """Tell whether packets carry the times of their frames; AVI and ASF store reordered frames without them."""
    return not (stream.codec_context.has_b_frames and container.format.name in _UNTIMED)


def _describe(stream: Any, times: list[int]) -> VideoInfo:
    base = float(stream.time_base or 0)
    fps = float(stream.average_rate or 0)
    span = (times[-1] - times[0]) * base + (1 / fps if fps else 0.0) if times else 0.0
    context = stream.codec_context
    return VideoInfo(context.width, context.height, fps, len(times), span, context.name)


def _decode_wanted(
    container: Any, stream: Any, times: list[int], wanted: list[int], path: Path, *, is_timed: bool
) -> Iterator[Frame]:
    """Decode up to each wanted frame in turn, seeking where the next one is far; damaged stretches are passed over."""
    import av

    base = float(stream.time_base or 0)
    positions = {time: index for index, time in enumerate(times)}
    last_index, decoder, problem, found = -1, container.decode(stream), "no frame was found in it", 0
    for target in wanted:
        try:
            if is_timed and target - last_index >= _SEEK_FROM_FRAMES:
                container.seek(times[target], stream=stream)
                decoder = container.decode(stream)
            while last_index < target:
                decoded = next(decoder, None)
                if decoded is None:
                    break
                place = positions.get(decoded.pts, -1) if is_timed else last_index + 1
                last_index = max(last_index, place)
                if place == target:
                    found += 1
                    yield Frame(_to_picture(decoded), target, (times[target] - times[0]) * base)
        except (av.FFmpegError, OSError) as error:
            problem, decoder = str(error), container.decode(stream)
            if is_timed:
                last_index = target - _SEEK_FROM_FRAMES  # go on by seeking to the next wanted one
    if not found:
        raise MediaError(f"'{path}' cannot be decoded: {problem}. Download or copy it again.")


def _to_picture(decoded: Any) -> Any:
    image = decoded.to_ndarray(format="rgb24")
    turns = round(getattr(decoded, "rotation", 0) / 90) % 4  # phones store upright video as sideways plus a rotation
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
