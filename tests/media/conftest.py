import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unmask.media.encode import write_video
from unmask.types import Picture

Maker = Callable[..., Path]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture
def huge_png(tmp_path: Path) -> Maker:
    """Writes a PNG whose header promises any size; there are no pixels behind it."""

    def make(width: int, height: int) -> Path:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")
        path = tmp_path / f"{width}x{height}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
        return path

    return make


def draw_counter(num_frames: int, *, size: int = 64) -> list[Picture]:
    """Grey pictures whose brightness tells their number: 6 levels a frame."""
    return [np.full((size, size, 3), 20 + 6 * index, np.uint8) for index in range(num_frames)]


def read_counter(image: Picture) -> int:
    """Return the number that `draw_counter` gave a picture."""
    return round((float(image.mean()) - 20) / 6)


@pytest.fixture
def counter_video(tmp_path: Path) -> Maker:
    """Writes a video of `draw_counter`."""

    def make(num_frames: int, *, name: str = "counter.mp4", fps: float = 25) -> Path:
        path = tmp_path / name
        write_video(path, draw_counter(num_frames), fps=fps, crf=10)
        return path

    return make


@pytest.fixture
def number_of() -> Callable[[Picture], int]:
    return read_counter


@pytest.fixture
def audio_only(tmp_path: Path) -> Path:
    """A file with a video's name that holds sound alone."""
    import av

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
