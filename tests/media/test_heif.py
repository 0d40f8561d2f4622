import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.media.drawn import BLUE, GREEN, GREY, RED, draw_quarters, is_close, read_quarters

from unmask.errors import MediaError
from unmask.media.image import read_image, read_still
from unmask.media.kinds import sniff_kind
from unmask.types import MediaKind

pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif, a development dependency, writes the inputs")


def _write(path: Path, *images: Image.Image, orientation: int | None = None, **options: Any) -> Path:
    file = pillow_heif.HeifFile()
    for image in images:
        added = file.add_from_pillow(image)
        if orientation is not None:
            exif = Image.Exif()
            exif[0x112] = orientation
            added.info["exif"] = exif.tobytes()
    file.save(str(path), quality=95, **options)
    return path


def test_a_heic_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = _write(tmp_path / "IMG_1.heic", Image.fromarray(draw_quarters(width=128))).rename(tmp_path / "IMG_1.jpg")
    assert sniff_kind(path) is MediaKind.IMAGE
    still = read_still(path)
    assert still.image.shape == (64, 128, 3)
    assert is_close(read_quarters(still.image), [RED, GREEN, BLUE, GREY], within=8)
    assert still.notes == ()


@pytest.mark.parametrize(
    ("orientation", "corners"),
    [
        (2, [GREEN, RED, GREY, BLUE]),
        (3, [GREY, BLUE, GREEN, RED]),
        (6, [BLUE, RED, GREY, GREEN]),
        (7, [GREY, GREEN, BLUE, RED]),
        (8, [GREEN, GREY, RED, BLUE]),
    ],
)
def test_it_is_turned_once(tmp_path: Path, orientation: int, corners: list[Any]) -> None:
    path = _write(tmp_path / "a.heic", Image.fromarray(draw_quarters(width=128)), orientation=orientation)
    image = read_image(path)
    assert image.shape == ((64, 128, 3) if orientation < 5 else (128, 64, 3))
    assert is_close(read_quarters(image), corners, within=8)


def test_what_transparency_hides_is_white(tmp_path: Path) -> None:
    pixels = np.dstack([draw_quarters(), np.full((64, 64), 255, np.uint8)])
    pixels[:32, :, 3] = 0
    still = read_still(_write(tmp_path / "a.heic", Image.fromarray(pixels)))
    assert is_close(read_quarters(still.image), [(255,) * 3, (255,) * 3, BLUE, GREY], within=8)
    assert "transparent" in still.notes[0]


def test_the_main_one_of_several_images_is_read(tmp_path: Path) -> None:
    images = [Image.new("RGB", (64, 64), "red"), Image.fromarray(draw_quarters())]
    still = read_still(_write(tmp_path / "a.heic", *images, primary_index=1))
    assert is_close(read_quarters(still.image), [RED, GREEN, BLUE, GREY], within=8)
    assert "2 images" in still.notes[0]


def test_its_size_is_checked_before_it_is_decoded(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.heic", Image.new("RGB", (300, 200)))
    with pytest.raises(MediaError, match=r"a\.heic' is 300 x 200 pixels, more than the maximum of 59,999"):
        read_image(path, max_pixels=59_999)


@pytest.mark.parametrize(
    ("transfer", "level", "shown"), [(16, 0.5807, 231), (16, 0.7518, 255), (18, 1.0, 255), (13, 0.5, 128)]
)
def test_ten_bits_and_hdr_are_shown_as_sdr(tmp_path: Path, transfer: int, level: float, shown: int) -> None:
    # PQ's 0.5807 is 203 cd/m², the white of SDR, which BT.2390 darkens where the master goes to 1,000.
    pixels = np.full((64, 64, 3), round(level * 65_535), np.uint16)
    file = pillow_heif.from_bytes(mode="RGB;16", size=(64, 64), data=pixels.tobytes())
    colours = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": 9}
    file.save(str(tmp_path / "a.heic"), quality=95, full_range_flag=1, **colours)
    still = read_still(tmp_path / "a.heic")
    assert is_close(still.image[9, 9], [shown] * 3, within=8)
    assert ("HDR" in " ".join(still.notes)) == (transfer != 13)


def test_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.heic", Image.fromarray(draw_quarters()))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MediaError, match=r"a\.heic' cannot be read as a HEIC"):
        read_image(path)


def test_without_its_package_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.heic", Image.fromarray(draw_quarters()))
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MediaError, match=r"a\.heic' .* pip install pi-heif"):
        read_image(path)


def test_its_reader_is_imported_only_where_there_is_one() -> None:
    code = "import sys, unmask.media.image, unmask.inference.predictor; assert 'pi_heif' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
