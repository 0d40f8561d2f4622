import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unmask.media.encode import write_video
from unmask.types import Image

Maker = Callable[..., Path]


def draw_counter(num_frames: int, *, size: int = 64) -> list[Image]:
    """Grey images whose brightness tells their number: 6 levels a frame."""
    return [np.full((size, size, 3), 20 + 6 * index, np.uint8) for index in range(num_frames)]


def read_counter(image: Image) -> int:
    """Return the number that `draw_counter` gave an image."""
    return round((float(image.mean()) - 20) / 6)


def make_box(kind: bytes, data: bytes) -> bytes:
    """A box of an MP4 (ISO/IEC 14496-12)."""
    return struct.pack(">I4s", len(data) + 8, kind) + data


def draw_brands(main: bytes, *others: bytes) -> bytes:
    """The first box of a HEIC, AVIF or MP4."""
    return make_box(b"ftyp", main + bytes(4) + b"".join(others))


@pytest.fixture
def counter_video(tmp_path: Path) -> Maker:
    """Writes a video of `draw_counter`."""

    def make(num_frames: int, *, name: str = "counter.mp4", fps: float = 25) -> Path:
        path = tmp_path / name
        write_video(path, draw_counter(num_frames), fps=fps, crf=10)
        return path

    return make


@pytest.fixture
def number_of() -> Callable[[Image], int]:
    return read_counter
