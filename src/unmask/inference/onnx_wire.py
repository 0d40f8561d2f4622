"""Look into an ONNX file for weights that lie in other files, without the library of ONNX, which no service installs.

ONNX Runtime opens whatever file a tensor names, and Protocol Buffers leave the order and spelling of fields to whoever
writes them; so the fields are walked one by one (protobuf.dev/programming-guides/encoding, onnx/onnx.proto).
"""

from collections.abc import Iterator, Mapping

MAX_FIELDS = 2_000_000
"""Some seconds. A network of ours has a few thousand, the largest of timm's some hundred thousand."""

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14

# By message: in which fields there are messages that can hold a tensor at last.
_PLACES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def names_further_files(data: bytes) -> bool:
    """Tell whether a tensor of an ONNX file has its values in another file.

    Args:
        data: The whole file.

    Raises:
        ValueError: It is none, or one such as no exporter writes.
    """
    waiting, num_fields = [("model", 0, len(data))], 0
    while waiting:  # a list of its own, since messages in messages would exhaust a recursion
        message, start, end = waiting.pop()
        for number, first, last in _list_fields(data, start, end):
            num_fields += 1
            if num_fields > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS:,} fields")
            if message == "tensor" and _is_external(data, number, first, last):
                return True
            inner = _PLACES[message].get(number)
            if inner is not None:
                waiting.append((inner, first, last))
    return False


def _is_external(data: bytes, number: int, first: int, last: int) -> bool:
    # A location that is written out as 0 is the default: in this file.
    return number == _EXTERNAL_DATA or (number == _DATA_LOCATION and data[first:last].strip(b"\x80\0") != b"")


def _list_fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field, and the first and last byte of its value."""
    while start < end:
        tag, start = _read_varint(data, start, end)
        tag &= 0xFFFFFFFF  # readers drop what is above
        kind = tag & 7
        if kind == _VARINT:
            stop = _read_varint(data, start, end)[1]
        elif kind == _BYTES:
            length, start = _read_varint(data, start, end)
            stop = start + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = start + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"a field of kind {kind} is in it")  # groups, which ONNX does not have
        if stop > end:
            raise ValueError("it is cut off")
        yield tag >> 3, start, stop
        start = stop


def _read_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return a whole number, and the place behind it."""
    value = 0
    for place in range(start, min(start + 10, end)):
        value |= (data[place] & 0x7F) << 7 * (place - start)
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError("it is cut off")
