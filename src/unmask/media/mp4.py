"""Check what an MP4 claims to hold before FFmpeg believes it.

FFmpeg makes its index as large as the tables of the file say, 72 bytes a frame: two kilobytes that claim a hundred
million frames would cost seven gigabytes of memory, and hours to seek in.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from unmask.errors import MediaError

MAX_SAMPLES = 4_000_000
"""Frames or packets of sound in one track: 18 hours at 60 frames a second."""

MAX_BOXES = 1_000_000
"""Boxes that are looked at, some of them twice: a second. A video cut into fragments has about a dozen in each."""

_CONTAINERS = frozenset(
    {
        *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"),
        # Tables have no business in these, but FFmpeg would find them there.
        *(b"udta", b"edts", b"dinf", b"mvex", b"tref", b"sinf", b"schi", b"wave", b"ilst"),
    }
)
_TABLES = frozenset({b"stts", b"ctts", b"stsz", b"stz2", b"trun"})
_MAX_DEPTH = 8  # moov, trak, mdia, minf, stbl are five
_LONGEST_TABLE = 8 * MAX_SAMPLES  # bytes


def check_claims(path: Path, *, name: str) -> None:
    """Raise where an MP4 or MOV claims more frames than a file of its size can hold; other files pass.

    The boxes are those of ISO/IEC 14496-12 (ISO base media file format).

    Args:
        path: Any file.
        name: What messages call it.

    Raises:
        MediaError: The claim is a lie, or beyond `MAX_SAMPLES`; or more than `MAX_BOXES`, or a track in a track.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof"):
            return
        fragments = 0
        for kind, count in _list_claims(_Boxes(file, name), 0, size):
            fragments += count if kind == b"trun" else 0
            claimed = max(count, fragments)
            if claimed > min(size, MAX_SAMPLES):
                raise MediaError(
                    f"'{name}' claims to hold {claimed:,} frames (box '{kind.decode()}'), and a file of {size:,} "
                    f"bytes does not hold so many. It is damaged, or made to do damage: export it again."
                )


@dataclass
class _Boxes:
    """The boxes of a file, counted as they are looked at: a megabyte has room for a hundred thousand.

    Args:
        file: Is read here and there.
        name: What messages call it.
        num_seen: So far.
    """

    file: BinaryIO
    name: str
    num_seen: int = 0

    def list_within(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield kind, first and last byte of what is in each box."""
        while start + 8 <= end:
            self._count_one()
            self.file.seek(start)
            length, kind = struct.unpack(">I4s", self.file.read(8))
            head = 8
            if length == 1:
                length, head = int.from_bytes(self.file.read(8), "big"), 16
            if 0 < length < head:
                return  # no box: FFmpeg will say what is wrong
            stop = min(start + length, end) if length else end
            yield kind, start + head, stop
            start = stop

    def read(self, start: int, end: int, length: int) -> bytes:
        """Return the first bytes of what is in a box."""
        self.file.seek(start)
        return self.file.read(max(min(end - start, length), 0))

    def _count_one(self) -> None:
        self.num_seen += 1
        if self.num_seen > MAX_BOXES:
            raise MediaError(
                f"'{self.name}' is cut into more than {MAX_BOXES:,} boxes, and no more are looked at. It is damaged, "
                f"or made to do damage: export it again, without fragments."
            )


def _list_claims(
    boxes: _Boxes, start: int, end: int, *, depth: int = 0, in_track: bool = False
) -> Iterator[tuple[bytes, int]]:
    """Yield the kind of every table of samples, and how many it claims."""
    for kind, first, last in boxes.list_within(start, end):
        is_track = kind == b"trak"
        if is_track and in_track:  # each level would have all below it looked at once more
            raise MediaError(f"'{boxes.name}' holds a track within a track. It is damaged: export it again.")
        if is_track and _is_uncompressed_sound(boxes, first, last):
            continue  # has a sample of every instant, and FFmpeg indexes it by the chunk
        if kind in _CONTAINERS and depth < _MAX_DEPTH:
            yield from _list_claims(boxes, first, last, depth=depth + 1, in_track=in_track or is_track)
        elif kind in _TABLES:
            yield kind, _count(boxes, kind, first, last)


def _is_uncompressed_sound(boxes: _Boxes, start: int, end: int) -> bool:
    """Tell as FFmpeg does: a sound track whose every sample lasts one tick."""
    found: dict[bytes, bytes] = {}
    for kind, first, last in _list_leaves(boxes, start, end):
        if kind in (b"hdlr", b"stts") and kind not in found:  # the first one counts
            found[kind] = boxes.read(first, last, 16)
        if len(found) == 2:
            break
    handler, times = found.get(b"hdlr", b""), found.get(b"stts", b"")
    is_one_tick = len(times) == 16 and (times[4:8], times[12:]) == (b"\0\0\0\1", b"\0\0\0\1")
    return handler[8:12] == b"soun" and is_one_tick


def _list_leaves(boxes: _Boxes, start: int, end: int, *, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    for kind, first, last in boxes.list_within(start, end):
        if kind in _CONTAINERS and kind != b"trak" and depth < _MAX_DEPTH:
            yield from _list_leaves(boxes, first, last, depth=depth + 1)
        else:
            yield kind, first, last


def _count(boxes: _Boxes, kind: bytes, start: int, end: int) -> int:
    """Return how many samples a table claims."""
    if kind == b"trun":
        return int.from_bytes(boxes.read(start, end, 8)[4:], "big")
    if kind in (b"stsz", b"stz2"):
        return int.from_bytes(boxes.read(start, end, 12)[8:], "big")
    table = boxes.read(start, end, 8 + _LONGEST_TABLE)[8:]  # runs: how many, and how long each
    return sum(count for count, _ in struct.iter_unpack(">II", table[: len(table) // 8 * 8]))
