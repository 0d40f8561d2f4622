"""Decode image files to upright sRGB pixels, as viewers show them, and encode crops.

What transparency hides is composited as viewers do, so that nobody can hide pixels that decide.
"""

import io
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from unmask.errors import LimitError, MediaError
from unmask.media.amplifiers import DEFAULT_BOUNDS, Bounds, check_work
from unmask.media.colour import HDR_NOTE, ColourSpace, convert_to_sdr, show_image
from unmask.media.kinds import IMAGE_FORMATS, IMAGE_NAMES, check_file, is_heic
from unmask.paths import write_bytes
from unmask.types import Image

if TYPE_CHECKING:
    from PIL import Image as PilImage


@dataclass(frozen=True)
class HeifImage:
    """The primary image of a file.

    Args:
        image: Of Pillow, upright.
        space: Its colours where it has no profile.
        num_images: In the file.
        notes: Sentences on what is approximate.
    """

    image: "PilImage.Image"
    space: ColourSpace
    num_images: int
    notes: tuple[str, ...] = ()


def read_heif(data: bytes, *, where: str, max_pixels: int) -> HeifImage:
    """Decode the primary image of a HEIC or HEIF.

    Args:
        data: The whole file.
        where: What the bytes are, for messages.
        max_pixels: A larger image is refused before it is decoded.

    Raises:
        MediaError: pi-heif is not installed, or the file is damaged or too large.
    """
    try:
        import pi_heif
    except ImportError as error:
        raise MediaError(
            f"'{where}' is a HEIC (HEIF) image, which needs the package pi-heif. Install it with: pip install pi-heif. "
            f"Or export the image as JPEG."
        ) from error
    try:
        file: Any = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
        width, height = file.size
        if width * height > max_pixels:
            raise MediaError(
                f"'{where}' is {width} x {height} pixels, more than the maximum of {max_pixels:,}. Scale it down first."
            )
        primary = file[file.primary_index]
        space = _read_space(primary.info)
        if not space.is_hdr:
            return HeifImage(_to_pillow(primary), space, len(file))
        deep = pi_heif.open_heif(data, convert_hdr_to_8bit=False)
        image = _show_hdr(deep[deep.primary_index], space)
        return HeifImage(image, ColourSpace(1, 13, is_srgb=True), len(file), (HDR_NOTE,))
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, IndexError, KeyError, TypeError) as error:
        raise MediaError(
            f"'{where}' cannot be read as a HEIC (HEIF) image: {error}. Download or export it again."
        ) from error


def _read_space(info: dict[str, Any]) -> ColourSpace:
    colours = info.get("nclx_profile") or {}
    primaries, transfer = colours.get("color_primaries", 1), colours.get("transfer_characteristics", 13)
    return ColourSpace(int(primaries), int(transfer), is_srgb=True)


def _to_pillow(primary: Any) -> "PilImage.Image":
    """Return the pixels: libheif has turned them already, so that EXIF has no say in that."""
    image: PilImage.Image = primary.to_pillow()
    image.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return image


def _show_hdr(primary: Any, space: ColourSpace) -> "PilImage.Image":
    from PIL import Image as PilImage

    pixels = np.asarray(primary)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    image = PilImage.fromarray(convert_to_sdr(np.ascontiguousarray(pixels[..., :3]), space))
    if pixels.shape[2] == 4:
        image.putalpha(PilImage.fromarray((pixels[..., 3] >> (8 * pixels.itemsize - 8)).astype(np.uint8)))
    return image


MAX_PIXELS = 100_000_000
"""The largest image that is decoded: 300 MB as RGB."""

_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
"""Formats whose further images are an animation; those of the others are previews, pages and depth maps."""

_ANIMATION_NOTE = "The file is an animation: only its first image was examined."
_XMP = ("xmp", "XML:com.adobe.xmp")

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # of TIFF

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True)
class Still:
    """An image, and what was left out of it.

    Args:
        image: RGB, upright, as a viewer shows it.
        notes: What of the file is not shown, or only approximately; a sentence each.
    """

    image: Image
    notes: tuple[str, ...] = ()


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS, bounds: Bounds | None = DEFAULT_BOUNDS) -> Image:
    """Decode an image file, rotated by its EXIF orientation; for an animation, its first image.

    Args:
        path: JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC file.
        max_pixels: Maximum number of pixels; larger images are refused before decoding.
        bounds: Limits of the decoding work; None for a file that has passed them before.

    Raises:
        MediaError: The file is missing, empty, truncated, too large, too expensive to decode, of undefined brightness,
            or not an image.
    """
    return read_still(path, max_pixels=max_pixels, bounds=bounds).image


def read_still(
    path: Path, *, name: str | None = None, max_pixels: int = MAX_PIXELS, bounds: Bounds | None = DEFAULT_BOUNDS
) -> Still:
    """Decode an image file as `read_image` does, and tell whether there is more in it.

    Args:
        path: As for `read_image`.
        name: What messages call it; None for its path.
        max_pixels: A larger image is refused before it is decoded.
        bounds: As for `read_image`.
    """
    check_file(path, name=name)
    data, where = _read_bytes(path), name or str(path)
    if bounds is not None:
        check_work(data, where=where, bounds=bounds)
    return _decode(data, where=where, max_pixels=max_pixels)


def decode_image(data: bytes, *, where: str, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the bytes of an image; see `read_image`.

    Args:
        data: The whole file.
        where: What the bytes are, for messages.
        max_pixels: A larger image is refused before it is decoded.
    """
    check_work(data, where=where)
    return _decode(data, where=where, max_pixels=max_pixels).image


def _decode(data: bytes, *, where: str, max_pixels: int) -> Still:
    from PIL import Image as PilImage
    from PIL import ImageOps, UnidentifiedImageError

    if is_heic(data):
        heif = read_heif(data, where=where, max_pixels=max_pixels)
        image, notes = show_image(heif.image, data, space=heif.space)
        more = [f"The file holds {heif.num_images} images: only its main one was examined."]
        return Still(image, (*(more if heif.num_images > 1 else []), *heif.notes, *notes))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PilImage.DecompressionBombWarning)  # our own limit follows
            PilImage.MAX_IMAGE_PIXELS = max(PilImage.MAX_IMAGE_PIXELS or 0, max_pixels)  # Pillow refuses twice as many
            opened = PilImage.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        with opened as decoded:
            width, height = decoded.size
            if width * height > max_pixels:
                raise _over_limit(where, f"is {width} x {height} pixels,", width * height, max_pixels=max_pixels)
            _check_mode(decoded, where=where)
            is_animated = decoded.format in _ANIMATED and bool(getattr(decoded, "is_animated", False))
            if is_animated and getattr(decoded, "default_image", False):
                decoded.seek(1)  # of an animated PNG, the image that is for viewers which show no animations
            decoded.load()
            for key in _XMP:  # viewers turn an image by EXIF alone, Pillow by this too
                decoded.info.pop(key, None)
            ImageOps.exif_transpose(decoded, in_place=True)
            image, notes = _show(decoded, data)
            return Still(image, (*([_ANIMATION_NOTE] if is_animated else []), *notes))
    except UnidentifiedImageError as error:
        raise MediaError(
            f"'{where}' cannot be read as an image: it is none of {', '.join(IMAGE_NAMES)}. Export it as JPEG."
        ) from error
    except PilImage.DecompressionBombError as error:
        found = int(re.findall(r"\d+", str(error))[0])
        raise _over_limit(where, f"holds {found:,} pixels,", found, max_pixels=max_pixels) from error
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error, EOFError) as error:
        # Pillow's readers fail in all these ways on bytes that were made up.
        raise MediaError(f"'{where}' cannot be read as an image: {error}. Download or export it again.") from error


def _over_limit(where: str, told: str, num_pixels: int, *, max_pixels: int) -> LimitError:
    problem = f"'{where}' {told} more than the maximum of {max_pixels:,}."
    return LimitError(problem, "limits.max_pixels", num_pixels, "scale it down")


def _check_mode(decoded: "PilImage.Image", *, where: str) -> None:
    """Raise where nobody knows which number is white: Pillow would make white of all above 255, and black of 0.5."""
    if decoded.mode in ("I", "F") and decoded.format != "PNG":  # a PNG has 16 bits, in mode I with some Pillows
        numbers = "fractions" if decoded.mode == "F" else "whole numbers of 32 bits, or with a sign,"
        raise MediaError(
            f"'{where}' stores brightness as {numbers} (mode {decoded.mode}) without defining white. "
            f"Convert it to 8 bits per channel first."
        )


def _show(decoded: "PilImage.Image", data: bytes) -> tuple[Image, list[str]]:
    from PIL import Image as PilImage

    if decoded.mode != "I" and not decoded.mode.startswith("I;16"):
        return show_image(decoded, data)
    key = decoded.info.get("transparency")
    grey = PilImage.fromarray(_narrow(decoded))  # Pillow would clip 16 bits to white, not scale them
    if isinstance(key, int):
        opacity = np.where(np.asarray(decoded) == key, 0, 255).astype(np.uint8)
        grey = PilImage.merge("LA", (grey, PilImage.fromarray(opacity)))
    grey.info = {name: value for name, value in decoded.info.items() if name != "transparency"}
    return show_image(grey, data)


def _narrow(decoded: "PilImage.Image") -> Image:
    """Scale greys of up to 16 bits to 8: a TIFF may keep 12 of them, or count from white, and Pillow hands on both."""
    tags = getattr(decoded, "tag_v2", {})
    (num_bits, *_), white_is_zero = tags.get(_BITS_PER_SAMPLE, (16,)), tags.get(_PHOTOMETRIC) == 0
    greys = np.asarray(np.asarray(decoded) >> (num_bits - 8), np.uint8)
    return ~greys if white_is_zero else greys


def decode_crop_file(path: Path) -> Image:
    """Decode a stored crop as fast as possible, and strictly.

    OpenCV fills the missing part of a truncated JPEG with grey and only prints a warning; so a JPEG without its end
    marker, and every other format, goes through `read_image`, which refuses it. So does a JPEG whose colours OpenCV
    would take as they are stored: with a profile, or CMYK.
    """
    data = _read_bytes(path)
    if data.startswith(_JPEG_START) and data.endswith(_JPEG_END) and _is_plain_jpeg(data):
        return decode_jpeg(data, where=str(path))
    if not data:
        raise MediaError(f"'{path}' is empty (0 bytes). Download or copy it again.")
    return decode_image(data, where=str(path))


def _is_plain_jpeg(data: bytes) -> bool:
    """Tell whether a JPEG is grey or YCbCr without a colour profile, by its first segments."""
    place = 2
    while data[place : place + 1] == b"\xff" and place + 10 <= len(data):
        kind, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if kind == 0xE2 and data[place + 4 : place + 16] == b"ICC_PROFILE\0":
            return False
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return data[place + 9] != 4
        place += 2 + length
    return True


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MediaError(f"'{path}' cannot be read: {error.strerror}. Check its permissions and the disk.") from error


def decode_jpeg(data: bytes, *, where: str) -> Image:
    """Decode a complete JPEG to RGB."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise MediaError(f"'{where}' cannot be read as a JPEG image.")
    return np.asarray(image, dtype=np.uint8)


def encode_jpeg(image: Image, *, quality: int, full_chroma: bool = False) -> bytes:
    """Encode an RGB image as JPEG.

    Args:
        image: RGB, shape `(height, width, 3)`.
        quality: 1 to 100.
        full_chroma: Whether colours keep their full resolution (4:4:4); else 4:2:0, OpenCV's default.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_chroma:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return data.tobytes()


def encode_png(image: Image) -> bytes:
    """Encode an RGB image as PNG."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def encode_webp(image: Image) -> bytes:
    """Encode an RGB image as lossless WebP: by Pillow, since OpenCV's only effort takes three times as long."""
    from PIL import Image as PilImage

    file = io.BytesIO()
    PilImage.fromarray(image).save(file, "WEBP", lossless=True, quality=0, method=2)
    return file.getvalue()


def write_jpeg(path: Path, image: Image, *, quality: int) -> None:
    """Write a JPEG file that is either whole or absent, whatever interrupts."""
    write_bytes(path, encode_jpeg(image, quality=quality))
