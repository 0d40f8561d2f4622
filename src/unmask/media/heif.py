"""Decode HEIC and HEIF images with libheif, which also joins their tiles, turns and crops them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unmask.errors import MediaError
from unmask.media.colour import HDR_NOTE, ColourSpace, convert_to_sdr

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class HeifImage:
    """The primary image of a file.

    Args:
        image: Of Pillow, upright.
        space: Its colours where it has no profile.
        num_images: In the file.
        notes: Sentences on what is approximate.
    """

    image: "Image.Image"
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
                f"'{where}' is {width} x {height} pixels, more than the {max_pixels:,} that are decoded. "
                f"Scale it down first."
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


def _to_pillow(primary: Any) -> "Image.Image":
    """Return the pixels: libheif has turned them already, so that EXIF has no say in that."""
    image: Image.Image = primary.to_pillow()
    image.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return image


def _show_hdr(primary: Any, space: ColourSpace) -> "Image.Image":
    from PIL import Image

    pixels = np.asarray(primary)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    image = Image.fromarray(convert_to_sdr(np.ascontiguousarray(pixels[..., :3]), space))
    if pixels.shape[2] == 4:
        image.putalpha(Image.fromarray((pixels[..., 3] >> (8 * pixels.itemsize - 8)).astype(np.uint8)))
    return image
