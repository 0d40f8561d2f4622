"""Decode and encode pictures."""

import io
import os
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from unmask.errors import MediaError
from unmask.media.kinds import PICTURE_FORMATS, check_file
from unmask.types import Picture
from unmask.writing import writing

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000
"""The largest picture that is decoded: 300 MB as RGB."""

_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
"""Formats whose further pictures are an animation; those of the others are previews, pages and depth maps."""

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # of TIFF

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True)
class Still:
    """A picture, and what was left out of it.

    Args:
        image: RGB, upright.
        is_animated: Whether the file holds more pictures, of which this is the first.
    """

    image: Picture
    is_animated: bool = False


def read_picture(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture file, turned upright by its EXIF orientation; of an animation the first picture.

    Args:
        path: JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF.
        max_pixels: A larger picture is refused before it is decoded.

    Raises:
        MediaError: Absent, empty, truncated, too large, in numbers without a white, or not a picture.
    """
    return read_still(path, max_pixels=max_pixels).image


def read_still(path: Path, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Still:
    """Decode a picture file as `read_picture` does, and tell whether there is more in it.

    Args:
        path: As for `read_picture`.
        name: What messages call it; None for its path.
        max_pixels: A larger picture is refused before it is decoded.
    """
    check_file(path, name=name)
    return _decode(_read_bytes(path), where=name or str(path), max_pixels=max_pixels)


def decode_picture(data: bytes, *, where: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode the bytes of a picture; see `read_picture`.

    Args:
        data: The whole file.
        where: What the bytes are, for messages.
        max_pixels: A larger picture is refused before it is decoded.
    """
    return _decode(data, where=where, max_pixels=max_pixels).image


def _decode(data: bytes, *, where: str, max_pixels: int) -> Still:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            opened = Image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
        with opened as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise MediaError(
                    f"'{where}' is {width} x {height} pixels, more than the {max_pixels:,} that are decoded. "
                    f"Scale it down first."
                )
            _check_mode(picture, where=where)
            is_animated = picture.format in _ANIMATED and bool(getattr(picture, "is_animated", False))
            ImageOps.exif_transpose(picture, in_place=True)
            return Still(_to_rgb(picture), is_animated)
    except UnidentifiedImageError as error:
        raise MediaError(
            f"'{where}' cannot be read as a picture: it is none of {', '.join(PICTURE_FORMATS)}. Export it as JPEG."
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"'{where}' holds more than the {max_pixels:,} pixels that are decoded. Scale it down first."
        ) from error
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error, EOFError) as error:
        # Pillow's readers fail in all these ways on bytes that were made up.
        raise MediaError(f"'{where}' cannot be read as a picture: {error}. Download or export it again.") from error


def _check_mode(picture: "Image.Image", *, where: str) -> None:
    """Raise where nobody knows which number is white: Pillow would make white of all above 255, and black of 0.5."""
    if picture.mode in ("I", "F") and picture.format != "PNG":  # a PNG has 16 bits, in mode I with some Pillows
        numbers = "fractions" if picture.mode == "F" else "whole numbers of 32 bits, or with a sign,"
        raise MediaError(
            f"'{where}' stores brightness as {numbers} (mode {picture.mode}), and does not say which one is white. "
            f"Convert it to 8 bits a channel first."
        )


def _to_rgb(picture: "Image.Image") -> Picture:
    from PIL import Image

    if picture.mode == "I" or picture.mode.startswith("I;16"):  # Pillow would clip 16 bits to white, not scale them
        picture = Image.fromarray(_narrow(picture))
    # Converting RGB to RGB would copy it: 300 MB at the limit.
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _narrow(picture: "Image.Image") -> Picture:
    """Scale greys of up to 16 bits to 8: a TIFF may keep 12 of them, or count from white, and Pillow hands on both."""
    tags = getattr(picture, "tag_v2", {})
    (num_bits, *_), white_is_zero = tags.get(_BITS_PER_SAMPLE, (16,)), tags.get(_PHOTOMETRIC) == 0
    greys = np.asarray(np.asarray(picture) >> (num_bits - 8), np.uint8)
    return ~greys if white_is_zero else greys


def decode_crop_file(path: Path) -> Picture:
    """Decode a stored crop as fast as possible, and strictly.

    OpenCV fills the missing part of a truncated JPEG with grey and only prints a warning; so a JPEG without its end
    marker, and every other format, goes through `read_picture`, which refuses it.
    """
    data = _read_bytes(path)
    if data.startswith(_JPEG_START) and data.endswith(_JPEG_END):
        return decode_jpeg(data, where=str(path))
    if not data:
        raise MediaError(f"'{path}' holds 0 bytes.")
    return decode_picture(data, where=str(path))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MediaError(f"'{path}' cannot be read: {error.strerror}. Check its permissions and the disk.") from error


def decode_jpeg(data: bytes, *, where: str) -> Picture:
    """Decode a complete JPEG to RGB."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise MediaError(f"'{where}' cannot be read as a JPEG picture.")
    return np.asarray(image, dtype=np.uint8)


def encode_jpeg(image: Picture, *, quality: int) -> bytes:
    """Encode an RGB picture as JPEG with 4:2:0 chroma, OpenCV's default.

    Args:
        image: RGB, shape `(height, width, 3)`.
        quality: 1 to 100.
    """
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def write_jpeg(path: Path, image: Picture, *, quality: int) -> None:
    """Write a JPEG file that is either whole or absent, whatever interrupts."""
    write_bytes(path, encode_jpeg(image, quality=quality))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that is either whole or as it was, whatever interrupts.

    Raises:
        OutputError: The disk is full, or the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
