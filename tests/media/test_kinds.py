from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.media.conftest import draw_brands

from unmask.errors import MediaError
from unmask.media.image import read_image, write_jpeg
from unmask.media.kinds import sniff_kind
from unmask.media.listing import list_media
from unmask.types import MediaKind


def test_kind_is_told_by_content_not_by_name(tmp_path: Path, counter_video: Callable[..., Path]) -> None:
    write_jpeg(tmp_path / "image.mp4", np.zeros((8, 8, 3), np.uint8), quality=90)
    assert sniff_kind(tmp_path / "image.mp4") == MediaKind.IMAGE
    assert sniff_kind(counter_video(2).rename(tmp_path / "video.jpg")) == MediaKind.VIDEO


def test_image_that_is_too_large_is_still_an_image(huge_png: Callable[..., Path]) -> None:
    assert sniff_kind(huge_png(30_000, 30_000)) == MediaKind.IMAGE


@pytest.mark.parametrize("size", [0, None])
def test_nothing_has_no_kind(tmp_path: Path, size: int | None) -> None:
    path = tmp_path / "a.jpg"
    if size is not None:
        path.touch()
    with pytest.raises(MediaError, match=r"0 bytes" if size == 0 else "No such file"):
        sniff_kind(path)


def test_folders_are_searched_deeply_and_in_order(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.mp4", "a.png", "b/.hidden.jpg", "b/._3.jpg", "note.txt", "folder.jpg/4.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_media(tmp_path)]
    assert found == ["a.png", "b/1.mp4", "b/2.JPG", "folder.jpg/4.webm"]


def test_typescript_in_a_folder_is_no_video(tmp_path: Path, counter_video: Callable[..., Path]) -> None:
    stream = counter_video(3, name="stream.ts").read_bytes()
    packets = [stream[place : place + 188] for place in range(0, len(stream), 188)]
    (tmp_path / "camera.MTS").write_bytes(b"".join(bytes(4) + packet for packet in packets))
    for name in ("main.ts", "module.mts", "Guard.ts"):
        (tmp_path / name).write_text("Greet(): string { return 'good' }\n" * 20)
    (tmp_path / "empty.ts").touch()
    assert [path.name for path in list_media(tmp_path)] == ["camera.MTS", "stream.ts"]
    assert sniff_kind(tmp_path / "main.ts") is MediaKind.VIDEO


def test_text_with_the_name_of_an_image_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello\n" * 100)
    assert sniff_kind(tmp_path / "a.jpg") is MediaKind.IMAGE


@pytest.mark.parametrize(
    "brands", [(b"heic", b"mif1", b"heic"), (b"mif1", b"heic"), (b"msf1",), (b"hevc", b"msf1"), (b"heix", b"avif")]
)
def test_a_heic_is_told_by_its_content_and_a_damaged_one_is_an_image_too(
    tmp_path: Path, brands: tuple[bytes, ...]
) -> None:
    path = tmp_path / "IMG_1.mov"
    path.write_bytes(draw_brands(*brands) + bytes(500))
    assert sniff_kind(path) is MediaKind.IMAGE
    with pytest.raises(MediaError, match=r"IMG_1\.mov' cannot be read as a HEIC .*again"):
        read_image(path)


def test_an_avif_is_an_image_whole_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.new("RGB", (64, 64), "red").save(path)
    assert sniff_kind(path) is MediaKind.IMAGE
    assert read_image(path).shape == (64, 64, 3)
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"mif1" + data[12:])  # another name of its container
    assert sniff_kind(path) is MediaKind.IMAGE
    path.write_bytes(data[:100])
    assert sniff_kind(path) is MediaKind.IMAGE


@pytest.mark.parametrize("main", [b"isom", b"mp42", b"qt  "])
def test_a_video_that_shows_a_still_first_is_a_video(tmp_path: Path, main: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(draw_brands(main, b"mif1", b"hvc1") + bytes(500))
    assert sniff_kind(tmp_path / "a.mp4") is MediaKind.VIDEO
