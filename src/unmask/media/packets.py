"""Count the packets of a video, which tells its frames without decoding one."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unmask.errors import MediaError
from unmask.media.mp4 import MAX_SAMPLES


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
                raise MediaError(f"'{name}' holds more than {MAX_SAMPLES:,} frames. Cut it into parts.")
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
