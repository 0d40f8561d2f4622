"""Show the pixels of an image as viewers do: its colours as sRGB, what is transparent on white."""

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from unmask.media.colour import HDR_NOTE, ColourSpace, convert_to_sdr
from unmask.types import Array, Picture

if TYPE_CHECKING:
    from PIL import Image

_WHITE = (255, 255, 255)
_SRGB_GAMMA = 1 / 2.2


def show_image(image: "Image.Image", data: bytes, *, space: ColourSpace | None = None) -> tuple[Picture, list[str]]:
    """Return the RGB of an image as viewers show it, and sentences on what is hidden or approximate in it.

    Args:
        image: Of Pillow, of 8 bits a channel.
        data: The whole file.
        space: Its colours where it has no profile; None to find them in the file.
    """
    notes: list[str] = []
    alpha = _take_alpha(image)
    image = _drop_alpha(image)
    space = space or _find_space(image, data)
    if image.info.get("icc_profile") and (space is None or space.is_plain):
        shown = _apply_profile(image, notes)
    elif image.mode == "LAB":
        shown = _convert(image, "LAB", image)
    else:
        if image.mode == "CMYK":
            notes.append("The image is CMYK without a colour profile: its colours are approximate.")
        shown = image if image.mode == "RGB" else image.convert("RGB")
    if space is not None and not space.is_plain and not image.info.get("icc_profile"):
        notes += [HDR_NOTE] if space.is_hdr else []
        shown = _from_array(convert_to_sdr(np.asarray(shown), space))
    if alpha is not None:
        shown = _put_on_white(shown, alpha, notes)
    return np.array(shown), notes


def _take_alpha(image: "Image.Image") -> "Image.Image | None":
    """Return the opacity of an image, None where all of it is opaque."""
    is_transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if not is_transparent:
        return None
    if image.mode in ("La", "RGBa"):
        return image.getchannel("a")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA").getchannel("A")
    lowest: Any = alpha.getextrema()
    return alpha if lowest[0] < 255 else None


def _drop_alpha(image: "Image.Image") -> "Image.Image":
    """Return the colours of an image without its opacity, and without its palette."""
    plain = {"RGBA": "RGB", "RGBa": "RGB", "PA": "RGB", "P": "RGB", "LA": "L", "La": "L", "1": "L", "RGBX": "RGB"}
    if image.mode not in plain:
        return image
    info, target = image.info, plain[image.mode]
    if image.mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # of a palette whose colours have an opacity each
    image = image.convert(target)
    image.info = {key: value for key, value in info.items() if key != "transparency"}
    return image


def _put_on_white(image: "Image.Image", alpha: "Image.Image", notes: list[str]) -> "Image.Image":
    from PIL import Image

    extrema: Any = alpha.getextrema()
    if extrema[0] == 255:
        return image
    if extrema[1] == 0:
        notes.append("The image is wholly transparent: a viewer shows nothing of it, and nothing of it was examined.")
    else:
        notes.append("Parts of the image are transparent: they were shown on white, as most viewers do.")
    ground = Image.new("RGB", image.size, _WHITE)
    ground.paste(image, mask=alpha)
    return ground


def _apply_profile(image: "Image.Image", notes: list[str]) -> "Image.Image":
    """Convert to sRGB by the ICC profile in the file; a broken or foreign one is ignored, as viewers do."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        if profile.profile.xcolor_space.strip() == "RGB" and image.mode != "RGB" and image.mode in ("L", "YCbCr"):
            image = image.convert("RGB")
        return _convert(image, image.mode, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        notes.append(f"The colour profile of the image cannot be used ({reason}): its colours are approximate.")
        return image.convert("RGB") if image.mode != "LAB" else _convert(image, "LAB", image)


def _convert(image: "Image.Image", mode: str, profile: Any) -> "Image.Image":
    """Convert with LittleCMS, or return the image itself where that changes nothing that can be seen."""
    from PIL import ImageCms

    source = ImageCms.createProfile("LAB") if mode == "LAB" and profile is image else profile
    transform: Any = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "RGB" and _is_identity(transform):
        return image
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None where it is done in place
    return converted


def _is_identity(transform: Any) -> bool:
    """Tell whether a transform leaves colours within two levels: most photographs carry a profile of sRGB itself."""
    from PIL import ImageCms

    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    converted = ImageCms.applyTransform(_from_array(colours), transform)
    return bool(np.abs(np.asarray(converted).astype(int) - colours).max() <= 2)


def _from_array(pixels: Array) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(pixels)


def _find_space(image: "Image.Image", data: bytes) -> ColourSpace | None:
    """Return the colours that a PNG or AVIF names by numbers, None where it does not."""
    if data.startswith(b"\x89PNG"):
        code_points = _find_chunk(data, b"cICP")
        if code_points is not None and len(code_points) == 4:
            return ColourSpace(code_points[0], code_points[1], is_srgb=True)
        gamma = image.info.get("gamma")
        if gamma and "srgb" not in image.info and abs(gamma - _SRGB_GAMMA) > 0.03 and abs(gamma - 1.0) < 0.03:
            return ColourSpace(1, 8, is_srgb=True)
        return None
    if data[4:8] == b"ftyp":
        place = data.find(b"colrnclx", 0, 1 << 16)
        if place >= 0 and place + 12 <= len(data):
            primaries, transfer = struct.unpack(">HH", data[place + 8 : place + 12])
            return ColourSpace(primaries, transfer, is_srgb=True)
    return None


def _find_chunk(data: bytes, wanted: bytes) -> bytes | None:
    """Return what a chunk of a PNG holds, of those before its pixels."""
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == wanted:
            return data[place + 8 : place + 8 + length]
        if kind == b"IDAT":
            return None
        place += length + 12
    return None
