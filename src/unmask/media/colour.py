"""Convert colours to sRGB: PQ and HLG by tone mapping, ICC profiles, matrices and ranges of video."""

import io
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from unmask.types import Array, Image

if TYPE_CHECKING:
    from PIL import Image as PilImage

HDR_NOTE = "It is HDR: it was tone-mapped to SDR (ITU-R BT.2390), which viewers do in slightly different ways."
PQ, HLG = 16, 18
_LINEAR = 8
_GAMMAS = {4: 2.2, 5: 2.8}

_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""BT.709, BT.2020, DCI-P3 and Display P3. Those of BT.601 (5, 6) are so close to BT.709 that players leave them."""

_WHITE_POINT = (0.3127, 0.3290)  # D65
_WHITE = 203.0  # cd/m²
_PEAK = 1000.0  # cd/m², of masters that do not say
_MAX_PEAK = 10_000.0
_PIXELS_AT_ONCE = 1 << 19

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ColourSpace:
    """The colours of RGB pixels.

    Args:
        primaries: Code point of H.273; an unknown one is taken for BT.709.
        transfer: Code point of H.273; any but PQ, HLG, linear and the plain gammas is taken for the screen's own curve.
        peak: The brightest pixel of the master in cd/m², for PQ; None where unknown.
        is_srgb: Whether the screen's curve is that of sRGB, as for images, or BT.1886, as for videos.
    """

    primaries: int
    transfer: int
    peak: float | None = None
    is_srgb: bool = False

    @property
    def is_hdr(self) -> bool:
        """Whether brightness goes beyond the white of an ordinary screen."""
        return self.transfer in (PQ, HLG)

    @property
    def is_plain(self) -> bool:
        """Whether the pixels can be shown as they are."""
        has_own_curve = self.is_hdr or self.transfer == _LINEAR or (self.is_srgb and self.transfer in _GAMMAS)
        return not has_own_curve and self.primaries not in (9, 11, 12)


def convert_to_sdr(pixels: Array, space: ColourSpace) -> Image:
    """Convert pixels to sRGB as an ordinary screen shows them.

    Args:
        pixels: RGB pixels with 8 or 16 bits in full range, shape `(height, width, 3)`.
        space: Colour space of the pixels.
    """
    levels = int(np.iinfo(pixels.dtype).max)
    to_light = _make_curve(space, levels)
    matrix = _make_matrix(space.primaries)
    peak = (_PEAK if space.transfer == HLG else min(max(space.peak or _PEAK, _WHITE), _MAX_PEAK)) / _WHITE
    shown = np.empty(pixels.shape, np.uint8)
    rows = max(_PIXELS_AT_ONCE // pixels.shape[1], 1)  # at a time, as light takes four times the memory
    for start in range(0, len(pixels), rows):
        light: Any = np.take(to_light, pixels[start : start + rows])
        if space.transfer == HLG:
            light = _show_hlg(light)
        if space.is_hdr:
            light = _compress(light, peak)
        if space.primaries in _PRIMARIES:
            light = cv2.transform(light, matrix)
        shown[start : start + rows] = _encode(np.clip(light, 0, 1), is_srgb=space.is_srgb)
    return shown


def _make_curve(space: ColourSpace, levels: int) -> Floats:
    """Return the light of each level, where 1 is the white of the screen; of HLG, that of the scene."""
    signal = np.linspace(0, 1, levels + 1)
    if space.transfer == PQ:
        light = _decode_pq(signal) / _WHITE
    elif space.transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    elif space.transfer == _LINEAR:
        light = signal
    elif space.transfer in _GAMMAS and space.is_srgb:
        light = signal ** _GAMMAS[space.transfer]
    elif space.is_srgb:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    else:
        light = signal**2.4
    return np.asarray(light, np.float32)


def _decode_pq(signal: Any) -> Any:
    """Return light in cd/m² (SMPTE ST 2084)."""
    power = np.power(signal, 1 / 78.84375)
    return _MAX_PEAK * np.power(np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power), 1 / 0.1593017578125)


def _encode_pq(light: Any) -> Any:
    power = np.power(light / _MAX_PEAK, 0.1593017578125)
    return np.power((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power), 78.84375)


def _show_hlg(light: Floats) -> Floats:
    """Apply the OOTF of HLG for a display of 1,000 cd/m²: the light of the scene becomes that of the display."""
    brightness = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    scale = (_PEAK / _WHITE) * np.power(brightness, np.float32(0.2))
    return np.asarray(light * scale[..., None], np.float32)


@cache
def _make_compression(peak: float) -> tuple[Array, Array]:
    """Return brightnesses, and by what each is multiplied: the EETF of BT.2390 with black at 0."""
    levels = np.linspace(0, 1, 1024)
    top = _encode_pq(peak * _WHITE)
    white = _encode_pq(_WHITE) / top
    knee = 1.5 * white - 0.5
    t = np.clip((levels - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * white
    before = _decode_pq(levels * top) / _WHITE
    after = _decode_pq(np.where(levels < knee, levels, spline) * top) / _WHITE
    return before, after / np.maximum(before, 1e-9)


def _compress(light: Floats, peak: float) -> Floats:
    """Bring brightness under the white of the screen; what is dark stays as it is."""
    if peak <= 1:
        return light
    brightest = light.max(axis=2)
    before, factors = _make_compression(round(peak, 2))
    first = before[np.flatnonzero(factors[1:] < 0.999)[0]]
    is_bright = brightest > first
    light[is_bright] *= np.interp(brightest[is_bright], before, factors).astype(np.float32)[:, None]
    return light


@cache
def _make_matrix(primaries: int) -> Floats:
    """Return the matrix from RGB of some primaries to RGB of BT.709; unknown ones are taken for those."""
    from_709 = _to_xyz(_PRIMARIES[1])
    return np.asarray(np.linalg.inv(from_709) @ _to_xyz(_PRIMARIES.get(primaries, _PRIMARIES[1])), np.float32)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> Array:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*primaries, _WHITE_POINT)]).T
    return np.asarray(columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3]))


def _encode(light: Floats, *, is_srgb: bool) -> Image:
    if is_srgb:
        signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * cv2.pow(light, 1 / 2.4) - 0.055)
    else:
        signal = cv2.pow(light, 1 / 2.4)
    return np.asarray(signal * 255 + 0.5, np.uint8)


_PAPER = (255, 255, 255)
_SRGB_GAMMA = 1 / 2.2


def show_image(image: "PilImage.Image", data: bytes, *, space: ColourSpace | None = None) -> tuple[Image, list[str]]:
    """Return an image as RGB as viewers show it, and notes on hidden or approximate content.

    Args:
        image: Pillow image with 8 bits per channel.
        data: Contents of the file.
        space: Colour space of an image without a profile; None to read it from the file.
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


def _take_alpha(image: "PilImage.Image") -> "PilImage.Image | None":
    """Return the opacity of an image, None where all of it is opaque."""
    is_transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if not is_transparent:
        return None
    if image.mode in ("La", "RGBa"):
        return image.getchannel("a")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA").getchannel("A")
    lowest: Any = alpha.getextrema()
    return alpha if lowest[0] < 255 else None


def _drop_alpha(image: "PilImage.Image") -> "PilImage.Image":
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


def _put_on_white(image: "PilImage.Image", alpha: "PilImage.Image", notes: list[str]) -> "PilImage.Image":
    from PIL import Image as PilImage

    extrema: Any = alpha.getextrema()
    if extrema[0] == 255:
        return image
    if extrema[1] == 0:
        notes.append("The image is fully transparent: viewers show nothing of it, and nothing of it was examined.")
    else:
        notes.append("Parts of the image are transparent: they were composited on white, as most viewers do.")
    ground = PilImage.new("RGB", image.size, _PAPER)
    ground.paste(image, mask=alpha)
    return ground


def _apply_profile(image: "PilImage.Image", notes: list[str]) -> "PilImage.Image":
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


def _convert(image: "PilImage.Image", mode: str, profile: Any) -> "PilImage.Image":
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


def _from_array(pixels: Array) -> "PilImage.Image":
    from PIL import Image as PilImage

    return PilImage.fromarray(pixels)


def _find_space(image: "PilImage.Image", data: bytes) -> ColourSpace | None:
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
