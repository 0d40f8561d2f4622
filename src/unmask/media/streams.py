"""Choose the streams that players play, count their packets, and decode their frames in order."""

from array import array
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from unmask.errors import MediaError
from unmask.media.frames import Decoded
from unmask.media.mp4 import MAX_SAMPLES
from unmask.paths import is_of_disk

Item = TypeVar("Item")


def list_failures() -> tuple[type[Exception], ...]:
    """Return what PyAV raises on damaged media, and, of what it writes, on a full disk: see `is_of_output`."""
    import av

    return (av.FFmpegError, EOFError, ValueError, IndexError, ArithmeticError)


def is_of_output(error: Exception) -> bool:
    """Tell whether an error of FFmpeg's is one of the disk that it writes to, and not of the file that it reads."""
    return isinstance(error, OSError) and is_of_disk(error)


def tell_reason(error: Exception) -> str:
    """Return the reason in an error without the file name, which our messages contain already."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


@contextmanager
def name_failures(path: Path) -> Iterator[None]:
    """Convert any error of PyAV to a MediaError that names the file.

    Wrap only code that reads and writes media: bugs in other code raise the same errors and must stay visible. An error
    about a full disk passes, so that `unmask.paths.writing` can name the file being written.

    Args:
        path: File that is read.
    """
    try:
        yield
    except list_failures() as error:
        if is_of_output(error):
            raise
        raise MediaError(
            f"'{path}' cannot be read again for drawing: {tell_reason(error)}. Check that it plays to the end."
        ) from error


def name_failures_of(items: Iterable[Item], path: Path) -> Iterator[Item]:
    """Yield what is read, and raise as `name_failures` where reading fails; what the caller does with it is its own.

    Args:
        items: Frames, for example, which are read as they are asked for.
        path: The file that is read.
    """
    with name_failures(path):
        yield from items


@dataclass(frozen=True)
class Packets:
    """What was counted of a video.

    Args:
        times: Presentation times of all frames that have one, in order, in units of the stream's time base.
        num_untimed: Packets without one.
    """

    times: npt.NDArray[np.int64]
    num_untimed: int


def list_packets(container: Any, stream: Any, name: str) -> Packets:
    """Find the times of all frames from packets alone.

    Args:
        container: Of PyAV, at its beginning.
        stream: Of the video.
        name: What messages call the file.

    Raises:
        MediaError: There are more than `MAX_SAMPLES`.
    """
    import av

    times, num_untimed = array("q"), 0
    try:
        for packet in to_the_end(container.demux(stream)):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                num_untimed += 1
            else:
                times.append(packet.pts)
            if len(times) + num_untimed > MAX_SAMPLES:
                raise MediaError(f"'{name}' has more than {MAX_SAMPLES:,} frames. Split it into parts.")
    except (av.FFmpegError, OSError):
        pass  # a file cut off in the middle: the packets before the cut are good
    return Packets(np.unique(np.frombuffer(times, np.int64)) if times else np.zeros(0, np.int64), num_untimed)


def to_the_end(parts: Iterator[Any]) -> Iterator[Any]:
    """Yield the packets or frames of PyAV, and end where it stumbles over their end.

    Having yielded the last of a file in which a stream begins in the middle (damaged MPEG-TS and FLV), PyAV looks for
    that stream among those it had counted at the beginning.
    """
    try:
        yield from parts
    except IndexError:
        return


def count_times(stream: Any, num_packets: int, *, fps: float) -> npt.NDArray[np.int64]:
    """Make the times of a raw stream, whose packets have none, of its rate: a packet is a frame.

    Args:
        stream: Of the video.
        num_packets: How many there are.
        fps: Its rate, 0 where unknown.
    """
    step = round(1 / (fps * float(stream.time_base))) if fps and stream.time_base else 1
    return np.arange(num_packets, dtype=np.int64) * max(step, 1)


def choose_video(container: Any) -> Any:
    """Return the video of a file: the one its container marks as the default, else the first; None without any.

    Covers, thumbnails and what only completes another stream are never it. A stream whose codec is unknown is it only
    where there is no other.

    Args:
        container: Of PyAV.
    """
    videos = [stream for stream in container.streams.video if not _is_beside(stream)]
    return _prefer_default(videos) if videos else None


def list_passed_over(chosen: Any) -> list[str]:
    """Say which images and videos of a file are not shown.

    Args:
        chosen: The video of that file.
    """
    others = [stream for stream in chosen.container.streams.video if stream.index != chosen.index]
    if not others:
        return []
    why = ", which the file marks as the default," if _is_default(chosen) else ""
    named = ", ".join(map(_describe, others))
    return [f"Of several images and videos in the file, the {_describe(chosen)}{why} was examined, not the {named}."]


def choose_sound(container: Any) -> Any:
    """Return the sound that players play; None where there is none in a known codec.

    Args:
        container: Of PyAV.
    """
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return _prefer_default(known) if known else None


def name_streams(container: Any) -> str:
    """Return what kinds of streams there are, for messages."""
    kinds = {
        "cover image" if stream.type == "video" and _is_beside(stream) else stream.type for stream in container.streams
    }
    return " and ".join(sorted(kinds)) or "no streams at all"


def _is_beside(stream: Any) -> bool:
    """Tell whether a video stream is an image beside the video: a cover, a thumbnail, a layer of another stream."""
    from av.stream import Disposition

    images = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent
    return bool(stream.disposition & images)


def _prefer_default(streams: list[Any]) -> Any:
    known = [stream for stream in streams if stream.codec_context is not None]
    return max(known or streams, key=lambda stream: (_is_default(stream), -stream.index))


def _is_default(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.default)


def _describe(stream: Any) -> str:
    kind = "cover image" if _is_beside(stream) else "video"
    context = stream.codec_context
    size = f" ({context.width} x {context.height})" if context is not None and context.width else ""
    return f"{kind} in stream {stream.index}{size}"


_ALPHA_BLOCK = 1
"""Of WebM: the number of the block addition that holds the opacity of a frame, as a VP8 or VP9 frame of its own."""


class Decoder:
    """Yields the frames of a stream, and knows the neighbours of each.

    Args:
        container: Of PyAV.
        stream: Of the video.
        max_pixels: A layer of opacity with more is not decoded.
        needed: Presentation times of the only frames that matter, so that others may be missing; None for all frames.
    """

    def __init__(self, container: Any, stream: Any, *, max_pixels: int, needed: Collection[int] | None = None) -> None:
        self._container, self._stream, self._max_pixels = container, stream, max_pixels
        self._needed = needed if can_skip(stream) else None
        self.restart()

    @property
    def is_skipping(self) -> bool:
        """Whether frames are missing that nobody needs."""
        return self._needed is not None

    def need_all(self) -> None:
        """Decode all frames from the next restart on."""
        self._needed = None
        self._stream.codec_context.skip_frame = "DEFAULT"

    def restart(self) -> None:
        """Begin anew where the container stands: after seeking, or after an error."""
        self._frames = to_the_end(self._decode())
        self._ahead: list[Decoded | Exception | None] = []
        self._current: Decoded | None = None
        self.before: Any = None

    def step(self) -> Decoded | None:
        """Return the next frame, None at the end."""
        current = self._current
        self.before = current.frame if current is not None and current.frame.interlaced_frame else None
        following = self._ahead.pop() if self._ahead else next(self._frames, None)
        if isinstance(following, Exception):
            raise following
        self._current = following
        return following

    def look_ahead(self) -> Any:
        """Return the frame after the current one, None where there is none or it is damaged."""
        import av

        if not self._ahead:
            try:
                self._ahead.append(next(self._frames, None))
            except (av.FFmpegError, OSError) as error:
                self._ahead.append(error)  # raised where that frame is asked for
        following = self._ahead[0]
        return following.frame if isinstance(following, Decoded) else None

    def _decode(self) -> Iterator[Decoded]:
        if _has_alpha_layer(self._stream):
            yield from _decode_with_alpha(self._container, self._stream, max_pixels=self._max_pixels)
        elif self._needed is not None:
            yield from _decode_needed(self._container, self._stream, self._needed)
        else:
            for frame in self._container.decode(self._stream):
                yield Decoded(frame)


def can_skip(stream: Any) -> bool:
    """Return whether a stream marks the frames that no other is predicted from, and shows each without its neighbours.

    Only H.264 does the former: other codecs mark frames that some others may still need, or none.

    Args:
        stream: Stream of PyAV.
    """
    context = stream.codec_context
    return bool(context.name == "h264" and context.field_order <= 1)  # interlaced frames are shown with neighbours


def _decode_needed(container: Any, stream: Any, needed: Collection[int]) -> Iterator[Decoded]:
    """Decode frames without those that are neither needed nor referenced by others; the pixels stay the same."""
    context = stream.codec_context
    for packet in container.demux(stream):
        is_needed = packet.pts is None or packet.pts in needed
        context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        for frame in packet.decode():
            yield Decoded(frame)


def _has_alpha_layer(stream: Any) -> bool:
    return stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in ("vp8", "vp9")


def _decode_with_alpha(container: Any, stream: Any, *, max_pixels: int) -> Iterator[Decoded]:
    """Decode WebM's opacity beside the frames, which FFmpeg's own decoders leave out; its brightness is the opacity."""
    import av

    opacity = av.CodecContext.create(stream.codec_context.name, "r")
    opacity.options = {"max_pixels": str(max_pixels)}
    opacity.thread_type = "NONE"
    for packet in container.demux(stream):
        alpha = None
        if packet.size and packet.has_sidedata("matroska_block_additional"):
            block = bytes(packet.get_sidedata("matroska_block_additional"))
            if int.from_bytes(block[:8], "big") == _ALPHA_BLOCK:
                for layer in opacity.decode(av.Packet(block[8:])):
                    alpha = _read_brightness(layer)
        for frame in packet.decode():
            yield Decoded(frame, alpha)


def _read_brightness(layer: Any) -> Any:
    plane = layer.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return np.ascontiguousarray(rows[: layer.height, : layer.width])
