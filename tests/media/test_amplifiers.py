"""Files of which a few bytes ask for much work: told before any of it is done."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from unmask.errors import MediaError
from unmask.inference.limits import Limits
from unmask.media.amplifiers import Bounds, check_work
from unmask.media.image import decode_image, read_image
from unmask.media.kinds import is_image

FEW = Bounds(max_parts=1000)


def save(kind: str, *, side: int = 64, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 150)).save(buffer, kind, **options)
    return buffer.getvalue()


def progressive(num_scans: int, *, side: int = 64) -> bytes:
    """Repeat a scan of a progressive JPEG: every one is valid, and goes through the whole image."""
    data = save("JPEG", side=side, progressive=True)
    starts = [place for place in range(len(data)) if data.startswith(b"\xff\xda", place)]
    scan = data[starts[1] : starts[2]]
    return data[: starts[2]] + scan * num_scans + data[starts[2] :]


def segment(kind: int, data: bytes) -> bytes:
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(data) + 2) + data


def jpeg(*segments: bytes) -> bytes:
    data = save("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(chunks: bytes, *, after: bool = False) -> bytes:
    data = save("PNG")
    place = len(data) - 12 if after else 33
    return data[:place] + chunks + data[place:]


def gif(blocks: bytes) -> bytes:
    data = save("GIF")
    place = data.index(b"\x2c\0\0\0\0")
    return data[:place] + blocks + data[place:]


def bmp(width: int, height: int, runs: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 1024 + len(runs), 0, 0, 14 + 40 + 1024) + head + bytes(1024) + runs


def tiff(num_strips: int, *, strip: bytes, compression: int, rows: int = 1, big: bool = False) -> bytes:
    """Have every strip be the same bytes of the file."""
    count, pointer = ("Q", "Q") if big else ("I", "I")
    start = 16 if big else 8
    offsets = start + len(strip)
    lengths = offsets + num_strips * 8
    tags = [
        (256, 64), (257, num_strips * rows), (258, 8), (259, compression), (262, 1), (277, 1), (278, rows),
    ]  # fmt: skip
    entries = [struct.pack(f"<HH{count}", tag, 4, 1) + struct.pack(f"<{pointer}", value) for tag, value in tags]
    for tag, place, values in ((273, offsets, start), (279, lengths, len(strip))):
        where = place if num_strips > 1 else values
        entries.append(
            struct.pack(f"<HH{count}", tag, 16 if big else 4, num_strips) + struct.pack(f"<{pointer}", where)
        )
    size = "Q" if big else "I"
    tables = b"".join(
        struct.pack(f"<{num_strips}{size}", *[value] * num_strips).ljust(num_strips * 8, b"\0")
        for value in (start, len(strip))
    )
    directory = offsets + len(tables)
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", directory) if big else b"II*\0" + struct.pack("<I", directory)
    listed = struct.pack("<Q" if big else "<H", len(entries)) + b"".join(sorted(entries)) + bytes(8)
    return head + strip + tables + listed


def items(number: int) -> bytes:
    """Have an AVIF say that it consists of so many."""
    data = save("AVIF")
    place = data.index(b"iinf") + 8
    return data[:place] + struct.pack(">H", number) + data[place + 2 :]


HUNGRY: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: progressive(4000), r"4,\d\d\d scans.*50.*limits\.max_scans"),
    "segments": (lambda: jpeg(segment(0xFE, b"") * 2000), r"1,000 segments.*limits\.max_parts"),
    "chunks": (lambda: png(chunk(b"tEXt", b"a\0b") * 2000), r"1,000 chunks.*limits\.max_parts"),
    "chunks behind": (lambda: png(chunk(b"prVt", b"") * 2000, after=True), r"1,000 chunks.*limits\.max_parts"),
    "data by the byte": (lambda: png(chunk(b"IDAT", b"") * 2000), r"1,000 chunks.*limits\.max_parts"),
    "profiles": (lambda: png(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(9999))) * 20), "16 colour profiles"),
    "comments": (lambda: gif(b"\x21\xfe\1x\0" * 2000), r"1,000 blocks.*limits\.max_parts"),
    "comment by the byte": (lambda: gif(b"\x21\xfe" + b"\1x" * 2000 + b"\0"), r"1,000 blocks.*limits\.max_parts"),
    "bytes between blocks": (lambda: gif(bytes(2000)), r"1,000 blocks.*limits\.max_parts"),
    "runs": (lambda: bmp(9000, 9000, b"\0\0" * 100), "9000 x 9000 pixels.*10,000,000.*PNG"),
    "strips": (lambda: tiff(2000, strip=bytes(64), compression=1), r"1,000 strips.*limits\.max_parts"),
    "strips over overlap": (lambda: tiff(900, strip=bytes(30_000), compression=8), "27,000,000 bytes.*overlap"),
    "strips of BigTIFF": (lambda: tiff(900, strip=bytes(30_000), compression=8, big=True), "27,000,000 bytes"),
    "scans in a TIFF": (lambda: tiff(1, strip=progressive(400), compression=7, rows=64), r"4\d\d scans.*max_scans"),
    "items": (lambda: items(60_000), "60,000 tiles.*4,096"),
}  # fmt: skip


@pytest.mark.parametrize("case", HUNGRY)
def test_file_that_asks_for_too_much_work_is_refused_before_it_is_done(case: str) -> None:
    make, told = HUNGRY[case]
    data = make()
    start = time.process_time()
    with pytest.raises(MediaError, match=rf"(?s)'a\.img'.*{told}"):
        check_work(data, where="a.img", bounds=FEW)
    assert time.process_time() - start < 1


ORDINARY: dict[str, Callable[[], bytes]] = {
    "progressive": lambda: save("JPEG", progressive=True),
    "with another image behind it": lambda: save("JPEG") + progressive(300),
    "with another image as its thumbnail": lambda: jpeg(segment(0xE1, b"\xff\xda" * 300)),
    "restarts": lambda: save("JPEG", side=512, restart_marker_blocks=1),
    "MPO": lambda: save("MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))] * 60),
    "PNG": lambda: save("PNG", side=512),
    "GIF": lambda: save("GIF", side=512),
    "animation": lambda: save("GIF", save_all=True, append_images=[Image.new("L", (64, 64), n) for n in range(99)]),
    "BMP": lambda: save("BMP"),
    "runs": lambda: bmp(4, 1, b"\4\7\0\1"),
    "TIFF": lambda: save("TIFF", side=300, compression="tiff_lzw"),
    "TIFF of JPEG": lambda: save("TIFF", side=300, compression="jpeg"),
    "big-endian TIFF": lambda: b"MM\0*\0\0\0\x08\0\0",
    "WebP": lambda: save("WEBP"),
    "AVIF": lambda: save("AVIF"),
    "cut off": lambda: save("PNG")[:40],
    "two bytes": lambda: b"BM",
    "head of a TIFF": lambda: b"II*\0",
}  # fmt: skip


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_file_passes(case: str) -> None:
    check_work(ORDINARY[case](), where="a.img", bounds=FEW)


def test_reader_refuses_before_it_decodes_and_takes_as_much_as_it_is_told(tmp_path: Path) -> None:
    (path := tmp_path / "a.jpg").write_bytes(progressive(60))
    with pytest.raises(MediaError, match=r"a\.jpg.*limits\.max_scans"):
        read_image(path)
    with pytest.raises(MediaError, match=r"limits\.max_scans"):
        decode_image(path.read_bytes(), where="a.jpg")
    assert read_image(path, bounds=Limits(max_scans=100).bounds).shape == (64, 64, 3)
    assert read_image(path, bounds=None).shape == (64, 64, 3)


def test_telling_the_kind_of_a_hungry_file_takes_no_time_either(tmp_path: Path) -> None:
    (path := tmp_path / "a.png").write_bytes(png(chunk(b"prVt", b"") * 500_000))
    start = time.process_time()
    assert is_image(path)
    assert time.process_time() - start < 1
