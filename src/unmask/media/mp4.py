"""Check the number of frames that an MP4 claims before FFmpeg relies on it.

FFmpeg allocates an index of the size claimed in the file, 72 bytes per frame: a file of 2 kB that claims 100 million
frames would cost 7 GB of memory, and hours of seeking. For uncompressed audio it adds an entry per 1024 samples of a
chunk: a file of 600 bytes that claims chunks of a billion samples would cost as much.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from unmask.errors import MediaError

MAX_SAMPLES = 4_000_000
"""Frames or packets of sound in one track: 18 hours at 60 frames a second."""

MAX_IN_ALL = 2 * MAX_SAMPLES
"""The same of all tracks together: images and sound of 18 hours, or 16 tracks of uncompressed sound of 3 hours."""

MAX_BOXES = 1_000_000
"""Boxes that are looked at: a second. A video cut into fragments has about a dozen in each."""

_CONTAINERS = frozenset(
    {
        *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"),
        # Tables have no business in these, but FFmpeg would find them there.
        *(b"meta", b"udta", b"edts", b"dinf", b"mvex", b"tref", b"sinf", b"schi", b"wave", b"ilst"),
    }
)
_TABLES = frozenset({b"stts", b"ctts", b"stsz", b"stz2", b"trun"})
_OF_TRACK = frozenset({b"stts", b"ctts", b"stsz", b"stz2", b"stsc", b"stco", b"co64", b"stsd", b"elst"})
"""What a track has one of."""

_HANDLERS = frozenset({b"soun", b"vide", b"subp", b"clcp"})
"""Those by which FFmpeg tells what a track is."""

_HIDDEN = re.compile(b"stts|ctts|stsz|stz2|trun|stsc|stco|co64|hdlr|trak|cmov")
_FEW_EDITS = 4  # delays, and a cut or two: not counted
_MAX_DEPTH = 8  # moov, trak, mdia, minf, stbl are five
_LONGEST_TABLE = 8 * MAX_SAMPLES  # bytes


def check_claims(path: Path, *, name: str) -> None:
    """Raise if an MP4 or MOV claims more frames than a file of its size can contain; other files pass.

    Parses the boxes of ISO/IEC 14496-12 (ISO base media file format).

    Args:
        path: Any file.
        name: Name of the file in messages.

    Raises:
        MediaError: The claim is false or exceeds `MAX_SAMPLES` or `MAX_IN_ALL`, or there are more than `MAX_BOXES`
            boxes or misplaced tables.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof"):
            return
        in_all = fragments = 0
        for kind, count in _list_claims(_Boxes(file, name), 0, size):
            in_all += count
            fragments += count if kind == b"trun" else 0
            claimed = max(count, fragments)
            if claimed > min(size, MAX_SAMPLES) or in_all > min(size, MAX_IN_ALL):
                raise MediaError(
                    f"'{name}' claims {max(claimed, in_all):,} frames (box '{kind.decode()}'), more than a file of "
                    f"{size:,} bytes can contain. It is damaged or malicious: export it again."
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

    def read_whole(self, start: int, end: int) -> bytes:
        """Return what is in a box that is small in every video."""
        if end - start > _LONGEST_TABLE:
            raise MediaError(f"A box of '{self.name}' has {end - start:,} bytes. It is damaged: export it again.")
        return self.read(start, end, _LONGEST_TABLE)

    def _count_one(self) -> None:
        self.num_seen += 1
        if self.num_seen > MAX_BOXES:
            raise MediaError(
                f"'{self.name}' has more than {MAX_BOXES:,} boxes, the maximum. It is damaged or malicious: export it "
                f"again, without fragments."
            )


def _list_claims(boxes: _Boxes, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield the kind of the largest table of samples of every track, and how many it claims."""
    for kind, first, last in _list_leaves(boxes, start, end):
        if kind == b"trak":
            yield from _list_claims_of_track(boxes, first, last)
        elif kind == b"stsd":
            _check_description(boxes, first, last)
        elif kind in _TABLES:
            yield kind, _count(boxes, kind, first, last)


def _list_leaves(boxes: _Boxes, start: int, end: int, *, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes that hold no others, and tracks."""
    for kind, first, last in boxes.list_within(start, end):
        if kind == b"cmov":
            raise MediaError(
                f"The header of '{boxes.name}' is compressed (box 'cmov', from old QuickTime), which is not supported. "
                f"Convert it, for example to MP4."
            )
        inner = _find_handler(boxes, first, last) if kind == b"meta" else first
        if kind in _CONTAINERS and kind != b"trak" and depth < _MAX_DEPTH:
            yield from _list_leaves(boxes, inner, last, depth=depth + 1)
        else:
            yield kind, first, last


def _find_handler(boxes: _Boxes, start: int, end: int) -> int:
    """Return where the boxes in a `meta` begin, which FFmpeg looks for in steps of four bytes."""
    data = boxes.read_whole(start, end)
    place = data.find(b"hdlr")
    while place > 0 and place % 4:
        place = data.find(b"hdlr", place + 1)
    return start + place - 4 if place >= 4 else end


def _list_claims_of_track(boxes: _Boxes, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    tables: dict[bytes, tuple[int, int]] = {}
    handlers: set[bytes] = set()
    for kind, first, last in _list_leaves(boxes, start, end):
        if kind == b"trak":  # each level would have all below it looked at once more
            raise MediaError(f"'{boxes.name}' has a track inside a track. It is damaged: export it again.")
        if kind in tables:  # FFmpeg believes the first of some, and the last of others
            raise MediaError(f"A track of '{boxes.name}' has two boxes '{kind.decode()}'. Export it again.")
        if kind == b"stsd":
            _check_description(boxes, first, last)
        if kind in _OF_TRACK:
            tables[kind] = first, last
        elif kind == b"hdlr":
            handlers |= {boxes.read(first, last, 12)[8:]} & _HANDLERS
        elif kind == b"trun":
            yield kind, _count(boxes, kind, first, last)
    pieces = _count_pieces(boxes, tables)
    # Sound without compression has a sample of every instant: those need not fit into the index.
    is_in_pieces = handlers == {b"soun"} and _is_one_tick(boxes, tables)
    counts = {kind: _count(boxes, kind, *tables[kind]) for kind in _TABLES & tables.keys() if not is_in_pieces}
    kind, count = max([*counts.items(), (b"stsc", pieces)], key=lambda claim: claim[1])
    num_edits = _read_number(boxes, tables[b"elst"], 4) if b"elst" in tables else 0
    # Every edit may show all of the track, and FFmpeg makes the index of each anew.
    yield (b"elst", num_edits * count) if num_edits > _FEW_EDITS else (kind, count)


def _check_description(boxes: _Boxes, start: int, end: int) -> None:
    """Raise where the description of a track holds tables, which FFmpeg would find there."""
    hidden = _HIDDEN.search(boxes.read_whole(start, end))
    if hidden:
        raise MediaError(
            f"A track of '{boxes.name}' hides a box '{hidden[0].decode()}' in its description. It is damaged or "
            f"malicious: export it again."
        )


def _is_one_tick(boxes: _Boxes, tables: dict[bytes, tuple[int, int]]) -> bool:
    """Tell whether every sample lasts one tick, by which FFmpeg knows sound that it reads by the chunk."""
    times = boxes.read(*tables[b"stts"], 16) if b"stts" in tables else b""
    return len(times) == 16 and (times[4:8], times[12:]) == (b"\0\0\0\1", b"\0\0\0\1")


def _count_pieces(boxes: _Boxes, tables: dict[bytes, tuple[int, int]]) -> int:
    """Return how many entries FFmpeg makes of sound that it reads by the chunk; no other track has fewer samples."""
    if b"stsc" not in tables or not tables.keys() & {b"stco", b"co64"}:
        return 0
    num_chunks = max(_read_number(boxes, tables[kind], 4) for kind in (b"stco", b"co64") if kind in tables)
    table = boxes.read_whole(*tables[b"stsc"])[8:]
    num_runs = min(_read_number(boxes, tables[b"stsc"], 4), len(table) // 12)
    # First chunk, samples in each, their kind.
    runs: list[tuple[int, int, int]] = list(struct.iter_unpack(">iii", table[: num_runs * 12]))
    if not runs:
        return 0
    size = _measure_piece(boxes, tables.get(b"stsd"))
    firsts = [1, *(first for first, _, _ in runs[1:]), num_chunks + 1]
    if any(a >= b for a, b in pairwise(firsts)) or any(min(count, kind) < 1 for _, count, kind in runs):
        # FFmpeg repairs such a table, but no chunk becomes larger than the largest one.
        return num_chunks * max(-(-count // size) for _, count, _ in runs)
    return sum((b - a) * -(-count // size) for (a, b), (_, count, _) in zip(pairwise(firsts), runs, strict=True))


def _measure_piece(boxes: _Boxes, description: tuple[int, int] | None) -> int:
    """Return how many samples FFmpeg puts into an entry: 1024, but a frame where frames are long, as those of GSM.

    The layout is that of QuickTime's sound descriptions of versions 0 to 2.
    """
    data = boxes.read(*description, 80) if description else b""
    place = {b"\0\0": 0, b"\0\1": 44, b"\0\2": 76}.get(data[24:26])
    is_framed = data[12:16] in (b"agsm", b"ms\0\x31") or place is None
    if data[4:8] != b"\0\0\0\1" or is_framed or (place and int.from_bytes(data[place : place + 4], "big") >= 160):
        return 160
    return 1024


def _read_number(boxes: _Boxes, box: tuple[int, int], offset: int) -> int:
    return int.from_bytes(boxes.read(*box, offset + 4)[offset:], "big")


def _count(boxes: _Boxes, kind: bytes, start: int, end: int) -> int:
    """Return how many samples a table claims."""
    if kind == b"trun":
        return _read_number(boxes, (start, end), 4)
    if kind in (b"stsz", b"stz2"):
        return _read_number(boxes, (start, end), 8)
    table = boxes.read(start, end, 8 + _LONGEST_TABLE)[8:]  # runs: how many, and how long each
    return sum(count for count, _ in struct.iter_unpack(">II", table[: len(table) // 8 * 8]))
