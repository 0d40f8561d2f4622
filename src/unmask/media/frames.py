"""Turn a decoded frame into what players show: upright, of square pixels, progressive, opaque, SDR."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from unmask.media.colour import HDR_NOTE, PQ, ColourSpace, convert_to_sdr
from unmask.types import Array, Image

_WIDEST = 10
"""No lens and no broadcast stores pixels wider or narrower than this: such a ratio is ignored."""

_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""From the matrices of H.273 to those of FFmpeg's scaler."""

_BT601, _BT709 = 5, 1
_HD_WIDTH, _SD_HEIGHT = 1280, 576
"""Where a file does not name its matrix, mpv takes BT.709 from this width or above this height, else BT.601."""

_LIMITED, _FULL = 1, 2
_UNKNOWN = (0, 2)
_LIMITED_GREY = frozenset({"h264", "hevc", "av1", "vp9", "mpeg2video"})
"""Codecs whose grey goes from 16 to 235 unless they say otherwise, which FFmpeg's scaler does not expect of grey."""


@dataclass(frozen=True)
class Decoded:
    """A frame as the decoder gives it.

    Args:
        frame: Of PyAV.
        alpha: Its opacity where that is a stream of its own, shape `(height, width)`.
    """

    frame: Any
    alpha: Array | None = None


class Screen:
    """Shows the frames of one stream.

    Args:
        container: Of PyAV.
        stream: Of its video.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        from av.video.reformatter import VideoReformatter

        context, aspect = stream.codec_context, stream.sample_aspect_ratio
        self.aspect = aspect if aspect and is_sane(aspect) else Fraction(1)
        self._codec, self._transfer, self._primaries = context.name, context.color_trc, context.color_primaries
        # Uncompressed AVI of 32 bits has a fourth byte, which nobody writes or reads.
        self._has_alpha = not (container.format.name == "avi" and context.name == "rawvideo")
        self._reformatter = VideoReformatter()  # one of all frames: preparing it takes a quarter of the time
        self._matrix: tuple[float, tuple[int, int, int, int] | None] | None = None
        self._peak: float | None = None
        self._is_peak_known = False

    def show(self, decoded: Decoded, *, before: Any = None, after: Any = None) -> Image:
        """Return the RGB of a frame as players show it.

        Args:
            decoded: The frame.
            before: The frame before, for a frame of two fields; None at the beginning.
            after: The frame after.
        """
        source = decoded.frame
        frame = _deinterlace(before, source, after) if source.interlaced_frame else source
        size = square_size(frame.width, frame.height, self.aspect)
        space = self._find_space(source)
        if space.is_plain:
            image = self._to_rgb(frame, source, size, format="rgb24")
        else:
            image = convert_to_sdr(self._to_rgb(frame, source, size, format="rgb48le"), space)
        alpha = decoded.alpha
        if alpha is None and self._has_alpha and has_alpha_format(frame.format):
            alpha = np.ascontiguousarray(frame.to_ndarray(format="rgba")[..., 3])
        if alpha is not None and alpha.min() < 255:
            alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
            image = cv2.multiply(image, cv2.merge([alpha] * 3), scale=1 / 255)
        return turn_upright(image, self._find_matrix(source))

    def _to_rgb(self, frame: Any, source: Any, size: tuple[int, int], *, format: str) -> Array:
        from av.video.reformatter import Interpolation

        name, (width, height) = frame.format.name, size
        is_grey = name.startswith(("gray", "ya"))
        colours: dict[str, int] = {}
        if not frame.format.is_rgb and not is_grey and not name.startswith(("mono", "pal")):
            is_full = source.color_range == _FULL or name.startswith("yuvj")
            colours = {"src_colorspace": _choose_matrix(source), "src_color_range": _FULL if is_full else _LIMITED}
        kind = Interpolation.BICUBIC if size != (frame.width, frame.height) else Interpolation.BILINEAR
        if format != "rgb24":
            kind |= Interpolation.ACCURATE_RND
        shown = self._reformatter.reformat(frame, width, height, format, interpolation=kind, **colours)
        is_limited = source.color_range == _LIMITED or (source.color_range != _FULL and self._codec in _LIMITED_GREY)
        return _expand_grey(shown.to_ndarray()) if is_grey and is_limited else shown.to_ndarray()

    def _find_space(self, source: Any) -> ColourSpace:
        transfer, primaries = getattr(source, "color_trc", 2), getattr(source, "color_primaries", 2)
        transfer = self._transfer if transfer in _UNKNOWN else transfer
        primaries = self._primaries if primaries in _UNKNOWN else primaries
        if transfer == PQ and not self._is_peak_known:
            self._peak, self._is_peak_known = _find_peak(source), True
        return ColourSpace(primaries, transfer, self._peak)

    def _find_matrix(self, source: Any) -> tuple[int, int, int, int] | None:
        """Return the display matrix's a, b, c, d, by which (x, y) becomes (ax + cy, bx + dy).

        It is read again only where the rotation changes: PyAV's frames that were asked for their side data stay in
        memory until Python's garbage collector comes by.
        """
        if self._matrix is None or self._matrix[0] != source.rotation:
            self._matrix = source.rotation, _read_matrix(source)
        return self._matrix[1]


def list_screen_notes(stream: Any) -> list[str]:
    """Say where what is shown is only close to what players show."""
    context, notes = stream.codec_context, []
    if not is_sane(stream.sample_aspect_ratio or Fraction(1)):
        notes.append(f"The file claims pixels of {stream.sample_aspect_ratio} width by height: taken as square.")
    if ColourSpace(1, context.color_trc).is_hdr:
        notes.append(HDR_NOTE)
    if context.field_order > 1:
        notes.append("The video is interlaced: it was deinterlaced, which approximates every second line.")
    if stream.metadata.get("alpha_mode") == "1" or (context.pix_fmt and has_alpha_format(context.format)):
        notes.append("The video has an alpha channel: what is transparent was shown on black.")
    return notes


def is_sane(aspect: Fraction) -> bool:
    """Tell whether a pixel aspect ratio may be true."""
    return Fraction(1, _WIDEST) <= aspect <= _WIDEST


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return width and height once pixels are square: the shorter side grows, so that nothing is lost."""
    if aspect >= 1:
        return max(round(width * aspect), 1), height
    return width, max(round(height / aspect), 1)


def _expand_grey(image: Array) -> Array:
    top = int(np.iinfo(image.dtype).max)
    levels = (np.arange(top + 1) - 16 * (top + 1) / 256) * (top / (219 * (top + 1) / 256))
    return np.asarray(np.take(np.clip(levels.round(), 0, top).astype(image.dtype), image))


def _choose_matrix(source: Any) -> int:
    is_large = source.width >= _HD_WIDTH or source.height > _SD_HEIGHT
    return _MATRICES.get(source.colorspace, _BT709 if is_large else _BT601)


def _find_peak(source: Any) -> float | None:
    """Return the brightest pixel of a master in cd/m², by FFmpeg's structures; content first, as players do."""
    from av.sidedata.sidedata import Type

    data = _find_side_data(source, Type.CONTENT_LIGHT_LEVEL)
    if data is not None and len(data) >= 4 and (content := int(np.frombuffer(data, np.uint32, 1)[0])):
        return float(content)
    data = _find_side_data(source, Type.MASTERING_DISPLAY_METADATA)
    if data is not None and len(data) >= 88:
        values = np.frombuffer(data, np.int32, 22)  # 8 fractions of chromaticity, least and most light, what is set
        if values[21] and values[19] > 0:
            return float(values[18]) / float(values[19])
    return None


def _find_side_data(source: Any, kind: Any) -> bytes | None:
    data = source.side_data.get(kind)  # to walk through them gives items with PyAV 18, and their types with 19
    return None if data is None else bytes(data)


def has_alpha_format(format: Any) -> bool:
    """Tell whether a pixel format of PyAV can be transparent."""
    return format.name == "pal8" or any(component.is_alpha for component in format.components)


def _deinterlace(before: Any, frame: Any, after: Any) -> Any:
    """Make a whole frame of two fields with FFmpeg's bwdif, which looks at the frames beside it."""
    import av
    from av.filter import Graph

    if min(frame.width, frame.height) < 4:
        return frame
    has_before = _is_alike(before, frame)
    items = [*([before] if has_before else []), frame, *([after] if _is_alike(after, frame) else []), None]
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=all"), graph.add("buffersink")).configure()
    shown = []
    for item in items:
        graph.vpush(item)
        while True:
            try:
                shown.append(graph.vpull())
            except (av.BlockingIOError, av.EOFError):
                break
    return shown[has_before] if len(shown) > has_before else frame


def _is_alike(other: Any, frame: Any) -> bool:
    """Tell whether a neighbour can pass the same filter: streams change their size in the middle."""
    shapes = [(item.width, item.height, item.format.name) for item in (other, frame) if item is not None]
    return len(shapes) == 2 and shapes[0] == shapes[1]


def _read_matrix(source: Any) -> tuple[int, int, int, int] | None:
    from av.sidedata.sidedata import Type

    data = _find_side_data(source, Type.DISPLAYMATRIX)
    if data is None:
        return None
    a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(data, np.int32, 9))
    return a, b, c, d


def turn_upright(image: Image, matrix: tuple[int, int, int, int] | None) -> Image:
    """Turn and mirror a frame as its display matrix says, to the nearest of the eight ways.

    Args:
        image: As stored.
        matrix: Its a, b, c, d; None for as it is.
    """
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        is_mirrored, is_upside_down = a < 0, d < 0
    else:  # columns become rows
        image, is_mirrored, is_upside_down = image.swapaxes(0, 1), c < 0, b < 0
    return np.ascontiguousarray(image[:: -1 if is_upside_down else 1, :: -1 if is_mirrored else 1])
