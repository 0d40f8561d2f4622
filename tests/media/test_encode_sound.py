import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from unmask.errors import MediaError
from unmask.media import encode
from unmask.media.encode import write_with_sound
from unmask.media.video import probe_video, read_frames
from unmask.types import Frame

Maker = Callable[..., Path]

# PyAV 19 decodes the sound of old phones, but has no encoder with which a test could make it.
needs_amr = pytest.mark.skipif("libopencore_amrnb" not in av.codecs_available, reason="PyAV without an AMR encoder")


def _encode_sound(track: Any, *, rate: int, delay_seconds: float = 0.0) -> list[Any]:
    """Encode a second of a tone that begins after the delay."""
    packets = []
    for start in range(0, rate, 1000):
        wave = (np.sin(np.arange(start, min(start + 1000, rate)) / 5) * 9000).astype(np.int16)[None]
        piece = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = rate, start + round(delay_seconds * rate), Fraction(1, rate)
        packets += track.encode(piece)
    return packets + track.encode(None)


@pytest.fixture
def talkie(tmp_path: Path, counter_video: Maker) -> Maker:
    """Writes a video of a second and a half with sound in a codec."""

    def make(codec: str, *, name: str, rate: int = 8000, delay_seconds: float = 0.0) -> Path:
        path = tmp_path / name
        with av.open(str(counter_video(37))) as images, av.open(str(path), "w") as output:
            copied = output.add_stream_from_template(images.streams.video[0])
            track = output.add_stream(codec, rate=rate)
            track.codec_context.layout = "mono"
            packets = [packet for packet in images.demux(video=0) if packet.dts is not None]
            for packet in packets:
                packet.stream = copied
            packets += _encode_sound(track, rate=rate, delay_seconds=delay_seconds)
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                output.mux(packet)
        return path

    return make


def _remux(source: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    told: list[str] = []
    out = tmp_path / "out"
    path = write_with_sound(out / "a.mp4", read_frames(source), source=source, tell=told.append)
    assert list(out.iterdir()) == [path]
    assert probe_video(path).num_frames == probe_video(source).num_frames
    return path, told


def _hear(path: Path) -> tuple[str, float, float]:
    """Return the codec of the sound, and when it begins and ends being loud."""
    loud: list[float] = []
    with av.open(str(path)) as container:
        for piece in container.decode(audio=0):
            (shorts,) = av.AudioResampler(format="s16", layout="mono", rate=piece.sample_rate).resample(piece)
            places = np.flatnonzero(np.abs(shorts.to_ndarray()[0].astype(int)) > 3000)
            loud += [float(piece.pts * piece.time_base) + place / piece.sample_rate for place in places]
        return container.streams.audio[0].codec_context.codec.canonical_name, loud[0], loud[-1]


@pytest.mark.parametrize(
    ("codec", "name", "rate", "kept"),
    [
        pytest.param("libopencore_amrnb", "a.3gp", 8000, ".mp4 aac", marks=needs_amr),
        ("nellymoser", "a.flv", 22050, ".mp4 aac"),
        ("adpcm_ima_qt", "a.mov", 44100, ".mp4 aac"),
        ("pcm_s16le", "a.mov", 16000, ".mkv pcm_s16le"),
        ("libmp3lame", "a.mkv", 44100, ".mp4 mp3"),
        ("aac", "a.mp4", 44100, ".mp4 aac"),
    ],
)
def test_sound_of_every_codec_stays_with_the_images(
    talkie: Maker, tmp_path: Path, codec: str, name: str, rate: int, kept: str
) -> None:
    path, told = _remux(talkie(codec, name=name, rate=rate, delay_seconds=0.3), tmp_path)
    assert told == []
    found, start, end = _hear(path)
    assert f"{path.suffix} {found}" == kept
    assert (start, end) == pytest.approx((0.3, 1.3), abs=0.08)


def test_a_video_is_written_without_the_sound_that_cannot_be_kept(
    talkie: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Iterator[Any]:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(encode, "_transcode", fail)
    path, told = _remux(talkie("nellymoser", name="a.flv"), tmp_path)
    assert told == ["its sound, nellymoser, cannot be kept: tuple index out of range"]
    with av.open(str(path)) as container:
        assert not container.streams.audio


def test_sound_that_cannot_be_copied_is_encoded_anew(
    talkie: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_SOUND_OF_MP4", frozenset({"pcm_s16le", "amr_nb", "nellymoser"}))
    path, told = _remux(talkie("nellymoser", name="a.flv", rate=22050), tmp_path)
    assert (told, _hear(path)[0]) == ([], "aac")


def _join(path: Path, *sizes: tuple[int, int], step_seconds: float) -> Path:
    """Write MPEG-TS streams of ten grey frames and a second of sound behind each other, each of its own size."""
    with path.open("wb") as joined:
        for number, (height, width) in enumerate(sizes):
            data = io.BytesIO()
            options = {"output_ts_offset": str(number * step_seconds)}
            with av.open(data, "w", format="mpegts", options=options) as output:
                video, track = output.add_stream("libx264", rate=10), output.add_stream("aac", rate=8000)
                video.height, video.width, video.pix_fmt = height, width, "yuv420p"
                track.codec_context.layout = "mono"
                grey = np.full((height, width, 3), 150, np.uint8)
                packets = [
                    packet
                    for frame in [*[av.VideoFrame.from_ndarray(grey, format="rgb24") for _ in range(10)], None]
                    for packet in video.encode(frame)
                ]
                packets += _encode_sound(track, rate=8000)
                for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                    output.mux(packet)
            joined.write(data.getvalue())
    return path


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path: Path) -> None:
    source = _join(tmp_path / "sizes.ts", (64, 96), (64, 64), step_seconds=1.5)
    assert {frame.image.shape[:2] for frame in read_frames(source)} == {(64, 96), (64, 64)}
    path, told = _remux(source, tmp_path)
    frames = list(read_frames(path))
    assert {frame.image.shape[:2] for frame in frames} == {(64, 96)}
    assert frames[2].image[32, 4].mean() == pytest.approx(150, abs=6)
    assert frames[-1].image[32, 4].mean() < 20
    assert frames[-1].image[32, 48].mean() == pytest.approx(150, abs=6)
    assert told == []


def test_sound_whose_times_go_back_does_not_end_the_video(tmp_path: Path) -> None:
    path, told = _remux(_join(tmp_path / "twice.ts", (64, 64), (64, 64), step_seconds=0), tmp_path)
    assert len(told) == 1
    assert told[0].startswith("its sound lacks the packets whose times go back: ")
    assert _hear(path)[2] == pytest.approx(1, abs=0.15)


def test_frames_at_one_time_are_written_one_after_the_other(counter_video: Maker, tmp_path: Path) -> None:
    frames = [Frame(np.full((65, 33, 3), 90, np.uint8), index, 0.0) for index in range(5)]
    path = write_with_sound(tmp_path / "out" / "a.mp4", frames, source=counter_video(3))
    assert probe_video(path).num_frames == 5


def test_what_fails_in_the_middle_leaves_no_file(talkie: Maker, tmp_path: Path) -> None:
    source = talkie("aac", name="a.mp4", rate=16000)

    def fail() -> Iterator[Frame]:
        yield from read_frames(source)
        raise MediaError("cut off")

    with pytest.raises(MediaError, match="cut off"):
        write_with_sound(tmp_path / "out" / "a.mp4", fail(), source=source)
    assert list((tmp_path / "out").iterdir()) == []
