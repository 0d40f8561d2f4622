"""Decode the frames of a stream in order, with what lies beside them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from unmask.media.frames import Decoded
from unmask.media.packets import to_the_end

_ALPHA_BLOCK = 1
"""Of WebM: the number of the block addition that holds the opacity of a frame, as a VP8 or VP9 frame of its own."""


class Decoder:
    """Yields the frames of a stream, and knows the neighbours of each.

    Args:
        container: Of PyAV.
        stream: Of the video.
        max_pixels: A layer of opacity with more is not decoded.
    """

    def __init__(self, container: Any, stream: Any, *, max_pixels: int) -> None:
        self._container, self._stream, self._max_pixels = container, stream, max_pixels
        self.restart()

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
        else:
            for frame in self._container.decode(self._stream):
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
