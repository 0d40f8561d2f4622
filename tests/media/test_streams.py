import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image
from tests.media.drawn import BLUE, GREEN, GREY, RED, draw_quarters, is_close, read_quarters

from unmask.errors import MediaError
from unmask.media.encode import write_with_sound
from unmask.media.video import index_video, read_frames


def _write(path: Path, *, videos: int = 0, default: int | None = None, cover: str = "", has_sound: bool = True) -> Path:
    """Write a file whose last video shows quarters, and the others grey; the cover comes first where it can."""
    with av.open(str(path), "w") as container:
        attached = _add_cover(container, cover) if cover else None
        streams = []
        for number in range(videos):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64 + 32 * number, 64, "yuv420p"
            stream.disposition = Disposition.default if number == default else Disposition(0)
            streams.append(stream)
        sound = container.add_stream("aac", rate=44_100, layout="mono") if has_sound else None
        for number, stream in enumerate(streams):
            last = number == len(streams) - 1
            image = draw_quarters(width=stream.width) if last else np.full((64, stream.width, 3), 99, np.uint8)
            for index in range(5):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 44_100
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
        if attached is not None:
            packet = av.Packet(_draw_cover(cover))
            packet.stream, packet.pts, packet.dts = attached, 0, 0
            container.mux(packet)
    return path


def _add_cover(container: "av.container.OutputContainer", codec: str) -> "av.VideoStream":
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = 96, 96, "yuvj420p" if codec == "mjpeg" else "rgb24"
    stream.disposition = Disposition.attached_pic
    return stream


def _draw_cover(codec: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (96, 96), "red").save(data, format="JPEG" if codec == "mjpeg" else "PNG")
    return data.getvalue()


@pytest.mark.parametrize("cover", ["png", "mjpeg"])
def test_sound_with_a_cover_has_no_video(tmp_path: Path, cover: str) -> None:
    path = _write(tmp_path / "a.mp4", cover=cover).rename(tmp_path / "a.m4a")
    with pytest.raises(MediaError, match=r"no video stream, only audio and cover image"):
        index_video(path)


def test_a_cover_is_never_the_video(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", videos=1, cover="mjpeg")
    assert is_close(read_quarters(next(iter(read_frames(path))).image), [RED, GREEN, BLUE, GREY])
    assert "cover image" in " ".join(index_video(path).notes)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("default", [0, 1, None])
def test_the_default_of_several_videos_is_taken_and_named(tmp_path: Path, name: str, default: int | None) -> None:
    path = _write(tmp_path / name, videos=2, default=default)
    index = index_video(path)
    assert index.info.width == (96 if default == 1 else 64)
    (note,) = index.notes
    assert f"the video in stream {default or 0} " in note
    assert f"not the video in stream {1 - (default or 0)} " in note
    written = write_with_sound(tmp_path / "b.mp4", read_frames(path), source=path)
    with av.open(str(written)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.video[0].width == index.info.width


def test_one_video_with_sound_needs_no_note(tmp_path: Path) -> None:
    assert index_video(_write(tmp_path / "a.mp4", videos=1)).notes == ()
