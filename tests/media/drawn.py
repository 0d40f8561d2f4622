"""Videos and images of which a test knows what a viewer shows."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from unmask.types import Array

RED, GREEN, BLUE, GREY = (200, 60, 40), (50, 160, 70), (60, 80, 180), (120, 120, 120)
_WEIGHTS = {5: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}


def draw_quarters(*, height: int = 64, width: int = 64) -> Array:
    """Return an image with another colour in each corner."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, GREY
    return image


def read_quarters(image: Array) -> list[tuple[int, ...]]:
    """Return the colours of the corners, by rows."""
    height, width = image.shape[:2]
    places = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return [tuple(int(value) for value in image[place]) for place in places]


def is_close(found: Any, wanted: Any, *, within: int = 6) -> bool:
    return bool(np.abs(np.asarray(found, int) - np.asarray(wanted, int)).max() <= within)


def make_yuv(rgb: Sequence[float], *, matrix: int, is_full: bool, num_bits: int = 8) -> list[int]:
    """Return Y, Cb and Cr of a colour of levels 0 to 1, by ITU-R BT.601, BT.709 or BT.2020."""
    red_weight, blue_weight = _WEIGHTS[matrix]
    red, green, blue = rgb
    y = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    cb, cr = (blue - y) / (2 * (1 - blue_weight)), (red - y) / (2 * (1 - red_weight))
    unit, top = 1 << (num_bits - 8), (1 << num_bits) - 1
    if is_full:
        return [round(y * top), round(cb * top) + 128 * unit, round(cr * top) + 128 * unit]
    return [round((16 + 219 * y) * unit), round((128 + 224 * cb) * unit), round((128 + 224 * cr) * unit)]


def fill_frame(values: Sequence[int], *, pix_fmt: str, height: int, width: int) -> Any:
    """Return a frame of one colour.

    Args:
        values: Of each plane.
        pix_fmt: With a plane each.
        height: In pixels.
        width: In pixels.
    """
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, value in zip(frame.planes, values, strict=True):
        kind = np.uint16 if "10" in pix_fmt else np.uint8
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind).tobytes())
    return frame


def write_frames(
    path: Path,
    frames: Sequence[Any],
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    colours: dict[str, int] | None = None,
    display: Sequence[int] | None = None,
) -> Path:
    """Encode frames as they are.

    Args:
        path: Its suffix chooses the container.
        frames: Of PyAV, or RGB arrays, which become yuv420p.
        codec: FFmpeg's name.
        options: Of the codec.
        aspect: Width of a pixel by its height.
        colours: Attributes of the codec, such as `colorspace`.
        display: The nine numbers of a display matrix.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        first = frames[0]
        is_array = isinstance(first, np.ndarray)
        stream.height, stream.width = first.shape[:2] if is_array else (first.height, first.width)
        stream.pix_fmt = "yuv420p" if is_array else first.format.name
        # Without B-frames, of which x265 loses count in a video of one frame.
        stream.options = {"crf": "5", "x265-params": "log-level=none:bframes=0", **(options or {})}
        for name, value in (colours or {}).items():
            setattr(stream.codec_context, name, value)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if display is not None:
            stream.set_display_matrix(display)
        for index, item in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(item, format="rgb24") if is_array else item
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_profile(primaries: tuple[tuple[float, float], ...], *, gamma: float) -> bytes:
    """An ICC profile (version 2) of three primaries with the white of D65, adapted to D50 by Bradford, and a gamma."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*primaries, (0.3127, 0.3290))]).T
    matrix = columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])
    bradford = np.array([[1.0478, 0.0229, -0.0501], [0.0296, 0.9905, -0.0171], [-0.0092, 0.0151, 0.7521]])
    adapted = bradford @ matrix

    def fixed(values: Any) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in values))

    tags = {
        b"wtpt": fixed([0.9642, 1.0, 0.8249]),
        **{f"{name}XYZ".encode(): fixed(adapted[:, place]) for place, name in enumerate("rgb")},
        **{f"{name}TRC".encode(): b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256)) for name in "rgb"},
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text\0\0\0\0x\0\0\0",
    }
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = place + len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp")
    head += bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
