import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.media.drawn import BLUE, GREEN, GREY, RED, draw_quarters, is_close, make_profile, read_quarters

from unmask.media.image import decode_crop_file, decode_image, read_image, read_still

_WHITE = (255, 255, 255)
_UPSIDE = [_WHITE, _WHITE, BLUE, GREY]


def _transparent() -> Image.Image:
    """The upper half is hidden."""
    pixels = np.dstack([draw_quarters(), np.full((64, 64), 255, np.uint8)])
    pixels[:32, :, 3] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif"])
def test_what_transparency_hides_is_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    _transparent().save(path, **({"lossless": True} if suffix == ".webp" else {}))
    still = read_still(path)
    assert is_close(read_quarters(still.image), _UPSIDE, within=8)
    assert "transparent" in " ".join(still.notes)


def _palette(mode: str) -> Image.Image:
    image = Image.fromarray(draw_quarters()).quantize(4)
    hidden = {image.getpixel((5, 5)), image.getpixel((60, 5))}
    image.info["transparency"] = bytes(0 if index in hidden else 255 for index in range(4))
    return image.convert("PA") if mode == "PA" else image


def test_palettes_keys_and_greys_hide_too(tmp_path: Path) -> None:
    _palette("P").save(tmp_path / "palette.png")
    Image.fromarray(draw_quarters()).save(tmp_path / "key.png", transparency=RED)
    _transparent().convert("LA").save(tmp_path / "grey.png")
    grey = np.full((8, 8), 300, np.uint16)
    grey[4:] = 65_535 // 2
    Image.fromarray(grey).save(tmp_path / "deep.png", transparency=300)
    assert is_close(read_quarters(read_image(tmp_path / "palette.png")), _UPSIDE, within=3)
    assert is_close(read_quarters(read_image(tmp_path / "key.png")), [_WHITE, GREEN, BLUE, GREY])
    assert is_close(read_quarters(read_image(tmp_path / "grey.png"))[:2], [_WHITE] * 2)
    assert is_close(read_quarters(read_image(tmp_path / "deep.png")), [_WHITE, _WHITE, [127] * 3, [127] * 3])


def test_the_first_image_of_an_animation_is_on_white(tmp_path: Path) -> None:
    _transparent().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGBA", (64, 64), "red")])
    still = read_still(tmp_path / "a.gif")
    assert is_close(read_quarters(still.image), _UPSIDE, within=40)  # a palette
    assert "animation" in still.notes[0]


def test_half_opaque_pixels_are_mixed_and_whole_ones_are_not_noted(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (*RED, 128)).save(tmp_path / "a.png")
    assert is_close(read_image(tmp_path / "a.png")[3, 3], [(value + 255) / 2 for value in RED], within=2)
    Image.new("RGBA", (8, 8), (*RED, 255)).save(tmp_path / "b.png")
    still = read_still(tmp_path / "b.png")
    assert (still.notes, tuple(still.image[3, 3])) == ((), RED)


def test_a_wholly_transparent_image_shows_nothing(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (*RED, 0)).save(tmp_path / "a.png")
    still = read_still(tmp_path / "a.png")
    assert still.image.min() == 255
    assert "fully transparent" in still.notes[0]


def test_an_animated_png_shows_its_animation_and_not_what_stands_for_it(tmp_path: Path) -> None:
    frames = [Image.fromarray(draw_quarters()), Image.new("RGB", (64, 64), GREY)]
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png", save_all=True, append_images=frames, default_image=True)
    assert is_close(read_quarters(read_image(tmp_path / "a.png")), [RED, GREEN, BLUE, GREY])


_CORNERS = {
    1: [RED, GREEN, BLUE, GREY],
    2: [GREEN, RED, GREY, BLUE],
    3: [GREY, BLUE, GREEN, RED],
    4: [BLUE, GREY, RED, GREEN],
    5: [RED, BLUE, GREEN, GREY],
    6: [BLUE, RED, GREY, GREEN],
    7: [GREY, GREEN, BLUE, RED],
    8: [GREEN, GREY, RED, BLUE],
}


@pytest.mark.parametrize("orientation", _CORNERS)
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".png"])
def test_all_orientations_of_exif(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(draw_quarters(width=128)).save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == ((64, 128, 3) if orientation < 5 else (128, 64, 3))
    assert is_close(read_quarters(image), _CORNERS[orientation], within=8)
    assert is_close(decode_crop_file(path), image, within=12)


def test_xmp_turns_nothing(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
    Image.fromarray(draw_quarters()).save(tmp_path / "a.jpg", xmp=xmp, quality=95)
    assert is_close(read_quarters(read_image(tmp_path / "a.jpg")), [RED, GREEN, BLUE, GREY], within=8)


_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def _from_srgb(rgb: tuple[int, ...], primaries: tuple[tuple[float, float], ...], *, gamma: float) -> tuple[int, ...]:
    """Return the numbers that a colour of sRGB has with other primaries and a plain gamma."""

    def to_xyz(points: tuple[tuple[float, float], ...]) -> Any:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*points, (0.3127, 0.3290))]).T
        return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])

    signal = np.array(rgb) / 255
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    other = np.linalg.inv(to_xyz(primaries)) @ to_xyz(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))) @ light
    return tuple(int(value) for value in (np.clip(other, 0, 1) ** (1 / gamma) * 255).round())


@pytest.mark.parametrize("primaries", [_P3, _ADOBE])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_colours_are_converted_by_their_profile(tmp_path: Path, suffix: str, primaries: Any) -> None:
    stored = _from_srgb(RED, primaries, gamma=2.2)
    assert not is_close(stored, RED, within=10)
    path = tmp_path / f"a{suffix}"
    icc = make_profile(primaries, gamma=2.2)
    Image.new("RGB", (32, 32), stored).save(path, icc_profile=icc, quality=98)
    assert is_close(read_image(path)[9, 9], RED, within=5)
    assert is_close(decode_crop_file(path)[9, 9], RED, within=5)  # as training reads an image that is a crop already


def test_a_profile_of_srgb_changes_nothing_and_of_grey_images_too(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "L"):
        image = Image.fromarray(draw_quarters()).convert(mode)
        image.save(tmp_path / "a.png", icc_profile=icc)
        still = read_still(tmp_path / "a.png")
        assert is_close(still.image, np.asarray(image.convert("RGB")), within=2)
        assert not still.notes


def test_a_broken_profile_is_ignored_and_noted(tmp_path: Path) -> None:
    Image.fromarray(draw_quarters()).save(tmp_path / "a.png", icc_profile=b"not a profile at all" * 20)
    still = read_still(tmp_path / "a.png")
    assert is_close(read_quarters(still.image), [RED, GREEN, BLUE, GREY])
    assert "profile" in still.notes[0]


def test_cmyk_and_lab_are_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    still = read_still(tmp_path / "a.jpg")
    assert is_close(still.image[9, 9], (255, 0, 0), within=6)
    assert "CMYK" in still.notes[0]
    assert is_close(decode_crop_file(tmp_path / "a.jpg"), still.image, within=2)
    lab = ImageCms.applyTransform(
        Image.new("RGB", (8, 8), RED),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    assert lab is not None
    lab.save(tmp_path / "a.tif")
    assert is_close(read_image(tmp_path / "a.tif")[3, 3], RED, within=4)


def _add_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """Put a chunk behind the header of a PNG."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


def test_a_png_names_its_colours_by_numbers() -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), _from_srgb(RED, _P3, gamma=2.2)).save(data, format="PNG")
    shown = decode_image(_add_chunk(data.getvalue(), b"cICP", bytes([12, 13, 0, 1])), where="a.png")
    assert is_close(shown[3, 3], RED, within=6)
    linear = _add_chunk(data.getvalue(), b"gAMA", struct.pack(">I", 100_000))
    assert decode_image(linear, where="a.png")[3, 3].min() > decode_image(data.getvalue(), where="a.png")[3, 3].min()


def test_an_hdr_avif_is_tone_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.new("RGB", (64, 64), (148, 148, 148)).save(path, quality=95)  # 203 cd/m² in PQ
    data = path.read_bytes()
    place = data.index(b"colrnclx") + 8
    path.write_bytes(data[:place] + struct.pack(">HH", 9, 16) + data[place + 4 :])
    still = read_still(path)
    assert still.image[9, 9].min() > 180
    assert "HDR" in still.notes[0]
