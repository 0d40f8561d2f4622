"""Limit the decoding work of an image file before decoding it.

A file of a few kilobytes can make a decoder process the whole image thousands of times, and a file of a few megabytes
can contain millions of empty parts, each far more expensive to read than its few bytes. This module counts the
elements that the formats do not limit and that cost Pillow seconds.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap

from unmask.errors import MediaError

Data = bytes | mmap

MAX_SCANS = 50
"""Maximum number of JPEG scans. Progressive JPEGs have about ten; each costs 10 to 50 ms on a large image."""

MAX_PARTS = 100_000
"""Maximum number of segments, chunks, blocks, tags or strips, at up to 10 µs each: a PNG of 800 MB in 8 kB chunks."""

_MAX_PROFILES = 16
"""Maximum number of colour profiles in a PNG, which should have one; Pillow decompresses each, up to a thousandfold."""

_MAX_ITEMS = 4096
"""Maximum number of tiles and other items in an AVIF; its reader searches all of them for each."""

_MAX_RUNS = 10_000_000
"""Maximum pixels plus bytes of a run-length encoded BMP, which Pillow decodes in Python within a second or two."""

_MAX_REPEATS = 4
"""Maximum total size of TIFF strips, which may overlap, as a multiple of the file size."""

_BYTES_OF_BLOCK = 128  # a GIF keeps its pixels in blocks of 255, however many; of one byte each there would be millions

_JPEG, _PNG, _GIF, _BMP = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"
_TIFF = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}  # the last two are BigTIFF

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # of JPEG, but those that stand within a scan
_SCAN = b"\xff\xda"
_TIFF_FORMATS = {3: "H", 4: "L", 16: "Q"}
_COMPRESSION, _OLD_JPEG, _JPEG_STREAM = 259, 6, 513
_LENGTHS = (279, 325)  # of strips, and of tiles
_OFFSETS = (273, 324)


@dataclass(frozen=True)
class Bounds:
    """Limits of the decoding work.

    Args:
        max_scans: Maximum number of JPEG scans, each of which covers the whole image.
        max_parts: Maximum number of segments, chunks, blocks, tags or strips.
    """

    max_scans: int = MAX_SCANS
    max_parts: int = MAX_PARTS


DEFAULT_BOUNDS = Bounds()


def check_work(data: bytes, *, where: str, bounds: Bounds = DEFAULT_BOUNDS) -> None:
    """Raise if decoding an image would cost far more than its size suggests.

    Args:
        data: Contents of the file; unknown formats pass.
        where: Name of the file, for messages.
        bounds: Limits of the work.

    Raises:
        MediaError: Too many scans, parts, profiles, items or runs, or overlapping strips.
    """
    check_parts(data, where=where, bounds=bounds)
    if data.startswith(_JPEG):
        scans = _count_scans(data) if data.count(_SCAN) > bounds.max_scans else 0
        _check_scans(scans, where=where, bounds=bounds)
    elif data[:4] in _TIFF:
        _check_strips(_Directory(data), where=where, bounds=bounds)
    elif data.startswith(_BMP):
        _check_runs(data, where=where)


def check_parts(data: Data, *, where: str, bounds: Bounds = DEFAULT_BOUNDS) -> None:
    """Raise if a file contains so many parts that merely opening it takes long; see `check_work`."""
    num_profiles = 0
    for num_parts, kind in enumerate(_list_parts(data), start=1):
        num_profiles += kind == "profiles"
        if num_parts > bounds.max_parts:
            raise MediaError(
                f"'{where}' has more than {bounds.max_parts:,} {kind}, the maximum "
                f"(limits.max_parts of predict.py and serve.py). Export it again, or raise that key."
            )
        if num_profiles > _MAX_PROFILES:
            raise MediaError(
                f"'{where}' has more than {_MAX_PROFILES} colour profiles, but an image needs one. Export it again."
            )
    if data[4:8] == b"ftyp" and (num_items := _count_items(data)) > _MAX_ITEMS:
        raise MediaError(
            f"'{where}' has {num_items:,} tiles and other items, more than the maximum of {_MAX_ITEMS:,}. "
            f"Export it again, for example as JPEG."
        )


def _list_parts(data: Data) -> Iterator[str]:
    """Yield the kind of each part that Pillow reads to open a file."""
    if data[:2] == _JPEG:
        return _list_segments(data)
    if data[:8] == _PNG:
        return _list_chunks(data)
    if data[:4] == _GIF:
        return _list_blocks(data)
    if data[:4] in _TIFF:
        return _Directory(data).list_parts()
    return iter(())


def _check_scans(num_scans: float, *, where: str, bounds: Bounds) -> None:
    if num_scans > bounds.max_scans:
        raise MediaError(
            f"'{where}' has {num_scans:,.0f} scans of its image, more than the maximum of {bounds.max_scans:,} "
            f"(limits.max_scans of predict.py and serve.py). Export it again, or raise that key."
        )


def _list_segments(data: Data) -> Iterator[str]:
    """Yield each segment of a JPEG up to its first scan; behind it only libjpeg reads, which is fast."""
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        yield "segments"
        place = found.end()
        if found[0] in (_SCAN, b"\xff\xd9"):
            return
        place += _measure_segment(data, found[0], place)


def _measure_segment(data: Data, marker: bytes, place: int) -> int:
    return 0 if marker == _JPEG else max(int.from_bytes(data[place : place + 2], "big"), 2)


def _count_scans(data: bytes) -> int:
    """Count the scans of a JPEG up to the end of its image, behind which others may stand."""
    num_scans, place = 0, 2
    while (found := _MARKER.search(data, place)) is not None and found[0] != b"\xff\xd9":
        num_scans += found[0] == _SCAN
        place = found.end() + _measure_segment(data, found[0], found.end())
    return num_scans


def _list_chunks(data: Data) -> Iterator[str]:
    """Yield the chunks of a PNG (ISO/IEC 15948)."""
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        yield "profiles" if kind == b"iCCP" else "chunks"
        if kind == b"IEND":
            return
        place += length + 12


def _list_blocks(data: Data) -> Iterator[str]:
    """Yield the blocks of a GIF up to its second image, by which Pillow knows an animation, and the bytes between."""
    place, num_images, num_pieces = 13 + _measure_palette(data[10:11]), 0, 0
    while place < len(data) and num_images < 2:
        yield "blocks"
        kind, place = data[place], place + 1
        if kind == 0x3B:
            return
        if kind == 0x2C:
            num_images += 1
            place += 10 + _measure_palette(data[place + 8 : place + 9])
        elif kind == 0x21:
            place += 1
        else:  # Pillow passes over it, and looks at the next byte
            continue
        while place < len(data) and (size := data[place]):
            place += size + 1
            num_pieces += 1
            if kind == 0x21 or num_pieces > len(data) // _BYTES_OF_BLOCK:
                yield "blocks"
        place += 1


def _measure_palette(flags: bytes) -> int:
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


class _Directory:
    """The first directory of a TIFF, which describes the image that is read.

    Args:
        data: Of a TIFF or BigTIFF.
    """

    def __init__(self, data: Data) -> None:
        self.data, self._order, is_big = data, _TIFF[data[:4]], data[2:4] in (b"+\0", b"\0+")
        # An entry has a tag, a type, a count, and the values or their place.
        self._entry, self._pointer = (f"{self._order}HHQ8s", "Q") if is_big else (f"{self._order}HHL4s", "L")
        (self._start,) = self._unpack(self._pointer, 8 if is_big else 4) or (len(data),)
        (claimed,) = self._unpack("Q" if is_big else "H", self._start) or (0,)
        self._start += 8 if is_big else 2
        self.num_tags = min(claimed, max(len(data) - self._start, 0) // struct.calcsize(self._entry))

    def _unpack(self, kind: str, place: int) -> tuple[int, ...]:
        layout = struct.Struct(self._order + kind)
        return layout.unpack_from(self.data, place) if place + layout.size <= len(self.data) else ()

    @cached_property
    def _entries(self) -> dict[int, tuple[int, int, int]]:
        """Type, number and place of the values of each tag, of the first where there are several."""
        size = struct.calcsize(self._entry)
        found: dict[int, tuple[int, int, int]] = {}
        for place in range(self._start, self._start + self.num_tags * size, size):
            tag, kind, count, inline = struct.unpack_from(self._entry, self.data, place)
            length = count * struct.calcsize(self._order + _TIFF_FORMATS.get(kind, "B"))
            pointed = struct.unpack(self._order + self._pointer, inline)[0]
            found.setdefault(tag, (kind, count, place + size - len(inline) if length <= len(inline) else pointed))
        return found

    def list_parts(self) -> Iterator[str]:
        """Yield each tag, and each strip or tile of the image."""
        yield from ("tags" for _ in range(self.num_tags))
        yield from ("strips" for tag in _OFFSETS for _ in range(self._entries.get(tag, (0, 0, 0))[1]))

    def read(self, *tags: int) -> tuple[int, ...]:
        """Return the values of the first of these tags that is there, none where they lie outside of the file."""
        kind, count, place = next((self._entries[tag] for tag in tags if tag in self._entries), (0, 0, 0))
        return self._unpack(f"{count}{_TIFF_FORMATS[kind]}", place) if kind in _TIFF_FORMATS else ()


def _check_strips(directory: _Directory, *, where: str, bounds: Bounds) -> None:
    data, offsets, lengths = directory.data, directory.read(*_OFFSETS), directory.read(*_LENGTHS)
    strips = [(start, min(start + length, len(data))) for start, length in zip(offsets, lengths, strict=False)]
    total = sum(max(end - start, 0) for start, end in strips)
    if total > _MAX_REPEATS * len(data):
        raise MediaError(
            f"The {len(strips):,} strips of '{where}' add up to {total:,} bytes, but the file has {len(data):,}, so "
            f"they overlap. Export it again."
        )
    (compression, *_) = directory.read(_COMPRESSION) or (1,)
    if compression in (_OLD_JPEG, 7) and strips:
        per_strip = sum(data[start:end].count(_SCAN) for start, end in strips) / len(strips)
        is_one_stream = bool(directory.read(_JPEG_STREAM))
        _check_scans(data[:].count(_SCAN) if is_one_stream else per_strip, where=where, bounds=bounds)


def _check_runs(data: bytes, *, where: str) -> None:
    head = data[14:34].ljust(20, b"\0")
    _, width, height, _, _, compression = struct.unpack("<IiiHHI", head)
    num_runs = abs(width * height) + len(data)
    if compression in (1, 2) and num_runs > _MAX_RUNS:
        raise MediaError(
            f"'{where}' is a run-length encoded BMP of {abs(width)} x {abs(height)} pixels and {len(data):,} bytes, "
            f"together more than the maximum of {_MAX_RUNS:,}. Save it as PNG."
        )


def _count_items(data: Data) -> int:
    """Return how many items an AVIF or HEIF says that it holds (boxes `iinf` and `iloc` of ISO/IEC 14496-12)."""
    most = 0
    for start, end in _find_boxes(data, 0, len(data), b"meta"):
        for kind in (b"iinf", b"iloc"):
            for first, _ in _find_boxes(data, start + 4, end, kind):
                version = data[first]
                place = first + (6 if kind == b"iloc" else 4)
                size = 4 if version > (1 if kind == b"iloc" else 0) else 2
                most = max(most, int.from_bytes(data[place : place + size], "big"))
    return most


def _find_boxes(data: Data, start: int, end: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Yield where boxes of a kind begin and end; of as many boxes as a file may have parts."""
    for _ in range(MAX_PARTS):
        if start + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1:
            length, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        stop = min(start + length, end) if length else end
        if kind == wanted and start + head < stop:
            yield start + head, stop
        if stop <= start:
            return
        start = stop
