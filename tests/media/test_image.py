import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from unmask.errors import LimitError, MediaError
from unmask.media.image import decode_crop_file, decode_image, encode_jpeg, read_image, write_jpeg
from unmask.paths import write_bytes

RED = (200, 30, 10)


def _red(size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.full((*size, 3), RED, np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_images_of_every_format_come_as_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_red()).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((32, 48, 3), np.uint8)
    assert np.abs(image.reshape(-1, 3).mean(0) - RED).max() < 8


def test_image_is_turned_upright_by_its_exif(tmp_path: Path) -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :10] = 255  # the left edge as stored is the top edge as shown
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "phone.png", exif=exif)
    upright = read_image(tmp_path / "phone.png")
    assert upright.shape == (40, 20, 3)
    assert upright[:10].min() == 255
    assert upright[10:].max() == 0


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA"])
def test_images_without_plain_rgb_are_converted(tmp_path: Path, mode: str) -> None:
    Image.fromarray(np.full((8, 8, 3), 102, np.uint8)).convert(mode).save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - 102).max() <= 1


def test_sixteen_bit_greys_keep_their_brightness() -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(data, "PNG")
    assert np.abs(decode_image(data.getvalue(), where="scan").astype(int) - 128).max() <= 1


def test_sixteen_bit_greys_keep_their_brightness_where_pillow_takes_them_for_thirty_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(data, "PNG")
    monkeypatch.setitem(PngImagePlugin._MODES, (16, 0), ("I", "I;16B"))  # as before Pillow 11
    with Image.open(io.BytesIO(data.getvalue())) as image:
        assert image.mode == "I"
    assert np.abs(decode_image(data.getvalue(), where="scan").astype(int) - 128).max() <= 1


def _make_grey_tiff(number: int, *, num_bits: int, white: int = 1) -> bytes:
    """A TIFF of 4 x 2 pixels, all of one number, packed without gaps; `white` is its photometric interpretation."""
    data = sum(number << num_bits * place for place in range(8)).to_bytes(num_bits, "big")
    if num_bits == 16:
        data = struct.pack("<8H", *[number] * 8)
    places = {256: 4, 257: 2, 258: num_bits, 259: 1, 262: white, 273: 122, 277: 1, 278: 2, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in places.items())
    return b"II*\0" + struct.pack("<IH", 8, len(places)) + entries + bytes(4) + data


@pytest.mark.parametrize(
    ("number", "num_bits", "white", "grey"),
    [(0x800, 12, 1, 0x80), (0xFFF, 12, 1, 255), (0x8000, 16, 1, 0x80), (0xF000, 16, 0, 0x0F)],
)
def test_greys_of_a_tiff_are_scaled_by_their_depth_from_its_black(
    number: int, num_bits: int, white: int, grey: int
) -> None:
    image = decode_image(_make_grey_tiff(number, num_bits=num_bits, white=white), where="scan")
    assert image.shape == (2, 4, 3)
    assert set(image.flat) == {grey}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (np.int32(40_000), r"as whole numbers of 32 bits, or with a sign, \(mode I\)"),
        (np.float32(0.5), r"as fractions \(mode F\)"),
    ],
)
def test_numbers_without_a_white_are_refused(tmp_path: Path, number: np.generic, words: str) -> None:
    Image.fromarray(np.full((8, 8), number)).save(tmp_path / "scan.tif")
    with pytest.raises(MediaError, match=rf"scan\.tif' stores brightness {words}.*Convert it to 8 bits per channel"):
        read_image(tmp_path / "scan.tif")


def test_huge_image_is_refused_before_it_is_decoded(huge_png: Callable[..., Path]) -> None:
    # No pixels stand behind the header, so whoever decodes complains of the data instead of the size.
    path = huge_png(30_000, 30_000)
    with pytest.raises(
        MediaError,
        match=r"30000x30000\.png' .*limits\.max_pixels=900000000, or scale it down",
    ):
        read_image(path)


def test_image_just_past_the_limit_is_refused_with_its_size(huge_png: Callable[..., Path]) -> None:
    with pytest.raises(MediaError, match=r"10001 x 10000 pixels, more than the maximum of 100,000,000"):
        read_image(huge_png(10_001, 10_000))


@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (30_000, 30_000)])
def test_the_limit_that_a_refusal_names_lets_the_image_pass(
    huge_png: Callable[..., Path], width: int, height: int
) -> None:
    path = huge_png(width, height)
    with pytest.raises(LimitError) as told:
        read_image(path)
    assert f"limits.max_pixels={width * height}" in str(told.value)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)  # a worker process raises it
    assert "max_pixels=" not in told.value.tell_guest(where="this service")
    assert "limits.max_pixels is a limit of this service" in told.value.tell_guest(where="this service")
    with pytest.raises(MediaError, match="cannot be read"):  # no pixels stand behind the header
        read_image(path, max_pixels=width * height)


def test_image_of_exactly_the_limit_is_decoded(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "a.jpg", _red((10, 20)), quality=90)
    assert read_image(tmp_path / "a.jpg", max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(MediaError, match=r"20 x 10 pixels, .*199"):
        read_image(tmp_path / "a.jpg", max_pixels=199)


def test_absent_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"No such file: '.*gone\.jpg'"):
        read_image(tmp_path / "gone.jpg")


def test_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is not a file"):
        read_image(tmp_path)


def test_empty_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(MediaError, match=r"empty\.jpg' is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_image_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    half = tmp_path / f"half.{suffix}"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MediaError, match=rf"half\.{suffix}' cannot be read as an image: .*truncated.*again"):
        read_image(half)


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("hello")
    with pytest.raises(MediaError, match=r"note\.jpg' cannot be read as an image.*HEIC"):
        read_image(tmp_path / "note.jpg")


def test_jpeg_keeps_the_order_of_colours() -> None:
    image = decode_image(encode_jpeg(_red(), quality=95), where="memory")
    assert np.abs(image.reshape(-1, 3).mean(0) - RED).max() < 5


def test_quality_decides_the_size_of_a_jpeg() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, quality=30)) < len(encode_jpeg(noise, quality=95)) / 2


def test_crop_file_comes_as_rgb(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "crop.jpg", _red(), quality=95)
    assert np.abs(decode_crop_file(tmp_path / "crop.jpg").reshape(-1, 3).mean(0) - RED).max() < 5


def test_crop_file_may_be_a_png(tmp_path: Path) -> None:
    Image.fromarray(_red()).save(tmp_path / "crop.png")
    assert (decode_crop_file(tmp_path / "crop.png") == RED).all()


def test_truncated_crop_is_refused_not_filled_with_grey(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "crop.jpg", _red((64, 64)), quality=95)
    data = (tmp_path / "crop.jpg").read_bytes()
    (tmp_path / "crop.jpg").write_bytes(data[:-40])
    with pytest.raises(MediaError, match=r"crop\.jpg' cannot be read as an image: .*truncated"):
        decode_crop_file(tmp_path / "crop.jpg")


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "0 bytes"), (b"\xff\xd8 no image \xff\xd9", "cannot be read as a JPEG")]
)
def test_crop_file_that_holds_no_crop_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "crop.jpg").write_bytes(data)
    with pytest.raises(MediaError, match=rf"crop\.jpg' .*{words}"):
        decode_crop_file(tmp_path / "crop.jpg")


def test_absent_crop_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.jpg' cannot be read: No such file"):
        decode_crop_file(tmp_path / "gone.jpg")


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.bin"
    write_bytes(path, b"old")

    def fail(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_image_that_may_not_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.jpg"
    path.write_bytes(b"x")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(MediaError, match=r"locked\.jpg' cannot be read: Permission denied\. Check its permissions"):
        read_image(path)
