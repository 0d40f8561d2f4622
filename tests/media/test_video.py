import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from tests.media.conftest import draw_brands

from unmask.errors import MediaError
from unmask.media import streams, video
from unmask.media.encode import write_video
from unmask.media.image import write_jpeg
from unmask.media.video import choose_frames, index_video, probe_video, read_frames
from unmask.types import Image

Maker = Callable[..., Path]
Number = Callable[[Image], int]


def test_chosen_frames_span_the_whole_video() -> None:
    assert choose_frames(100, num_frames=4) == [0, 33, 66, 99]
    assert choose_frames(3, num_frames=5) == [0, 1, 2]
    assert choose_frames(3, num_frames=None) == [0, 1, 2]
    assert choose_frames(0, num_frames=4) == []


def test_chosen_frames_are_evenly_spaced_and_as_many_as_asked() -> None:
    chosen = choose_frames(1000, num_frames=32)
    assert len(chosen) == 32
    assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_probe_tells_size_rate_and_length(counter_video: Maker) -> None:
    info = probe_video(counter_video(20, fps=10))
    assert (info.width, info.height, info.fps, info.num_frames, info.codec) == (64, 64, 10.0, 20, "h264")
    assert info.duration_seconds == pytest.approx(2.0)


def test_frames_are_those_of_their_index(counter_video: Maker, number_of: Number) -> None:
    frames = list(read_frames(counter_video(31), num_frames=6))
    assert [frame.index for frame in frames] == [0, 6, 12, 18, 24, 30]
    assert [number_of(frame.image) for frame in frames] == [0, 6, 12, 18, 24, 30]
    assert [frame.time_seconds for frame in frames] == pytest.approx([index / 25 for index in range(0, 31, 6)])


def test_every_frame_comes_once_without_a_number(counter_video: Maker, number_of: Number) -> None:
    frames = list(read_frames(counter_video(12)))
    assert [number_of(frame.image) for frame in frames] == list(range(12))


def test_short_video_gives_all_it_has(counter_video: Maker) -> None:
    assert [frame.index for frame in read_frames(counter_video(3), num_frames=32)] == [0, 1, 2]


def test_far_frames_are_found_by_seeking(tmp_path: Path, number_of: Number, monkeypatch: pytest.MonkeyPatch) -> None:
    # 800 frames with a step of brightness every 25, so each of the four wanted ones has a level of its own.
    images = (np.full((32, 32, 3), 20 + 6 * (index // 25), np.uint8) for index in range(800))
    write_video(tmp_path / "long.mp4", images, fps=25, crf=10)
    sought, opened = [], video._open

    @contextmanager
    def watched(path: Path, **limits: Any) -> Iterator[tuple[Any, Any]]:
        with opened(path, **limits) as (container, stream):

            def seek(time: int, **options: Any) -> None:
                sought.append(time)
                container.seek(time, **options)

            yield (
                SimpleNamespace(seek=seek, decode=container.decode, demux=container.demux, format=container.format),
                stream,
            )

    monkeypatch.setattr(video, "_open", watched)
    frames = list(read_frames(tmp_path / "long.mp4", num_frames=3))
    assert len(sought) == 2  # the first frame needs none
    assert [frame.index for frame in frames] == [0, 400, 799]
    assert [number_of(frame.image) for frame in frames] == [0, 16, 31]


def write_moving(path: Path, *, codec: str = "libx264", options: dict[str, str]) -> None:
    """Write 120 frames of a texture that moves, so that x264 predicts frames from each other in both directions."""
    import av

    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 96, 96, "yuv420p", options
        for index in range(120):
            image = np.ascontiguousarray(wall[index // 3 : index // 3 + 96, index : index + 96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "bframes=3:b-pyramid=normal:keyint=50"}),
        ("libx264", {"x264-params": "bframes=3:b-pyramid=normal:open-gop=1:keyint=30"}),
        ("libx264", {"x264-params": "bframes=8:b-pyramid=none:weightp=2"}),
        ("libx264", {"x264-params": "bframes=0"}),
        ("libx264", {"x264-params": "bframes=3:interlaced=1"}),
        ("mpeg4", {"bf": "2"}),
    ],
)
def test_frames_that_nobody_needs_change_nothing_when_left_out(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    write_moving(tmp_path / "a.mp4", codec=codec, options=options)
    every = {frame.index: frame for frame in read_frames(tmp_path / "a.mp4")}
    some = list(read_frames(tmp_path / "a.mp4", num_frames=13))
    assert [frame.index for frame in some] == choose_frames(120, num_frames=13)
    for frame in some:
        assert np.array_equal(frame.image, every[frame.index].image)


def test_frames_that_nobody_needs_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_moving(tmp_path / "a.mp4", options={"x264-params": "bframes=3:b-adapt=0:b-pyramid=none"})
    decoded: list[int] = []

    def count(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            decoded.append(frame.frame.pts)
            yield frame

    decode = streams._decode_needed
    monkeypatch.setattr(streams, "_decode_needed", lambda *arguments: count(decode(*arguments)))
    assert len(list(read_frames(tmp_path / "a.mp4", num_frames=4))) == 4
    # x264 predicts from one frame in four: 30 of 120, and those that are needed.
    assert 30 <= len(decoded) <= 40


def test_an_interlaced_frame_of_a_stream_called_progressive_has_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_moving(tmp_path / "a.mp4", options={"x264-params": "bframes=3:interlaced=1"})
    every = {frame.index: frame for frame in read_frames(tmp_path / "a.mp4")}
    monkeypatch.setattr(streams, "can_skip", lambda stream: True)
    some = list(read_frames(tmp_path / "a.mp4", num_frames=7))
    assert [frame.index for frame in some] == choose_frames(120, num_frames=7)
    assert all(np.array_equal(frame.image, every[frame.index].image) for frame in some)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "libx264", {}),
        ("a.avi", "libx264", {}),  # holds no presentation times, and its frames are stored out of order
        ("b.avi", "mpeg4", {"bf": "2"}),
        ("a.wmv", "libx264", {}),
        ("a.mpg", "mpeg2video", {}),
        ("a.webm", "libvpx", {"crf": "4"}),
    ],
)
def test_frames_of_other_containers_are_found(
    tmp_path: Path, number_of: Number, name: str, codec: str, options: dict[str, str]
) -> None:
    import av

    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options, stream.bit_rate = options, 1_000_000
        for index in range(31):
            image = np.full((64, 64, 3), 20 + 6 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    frames = list(read_frames(tmp_path / name, num_frames=4))
    assert [frame.index for frame in frames] == [0, 10, 20, 30]
    assert [number_of(frame.image) for frame in frames] == pytest.approx([0, 10, 20, 30], abs=1)


def test_sideways_video_of_a_phone_is_turned_upright(tmp_path: Path) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :16] = 255  # top left as stored; turned clockwise it is top right
    path = tmp_path / "phone.mp4"
    write_video(path, [image] * 4, fps=25)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # of ISO 14496-12: a quarter turn clockwise, in 16.16 fixed point
    turn = (0, 1, 0, -1, 0, 0, 0, 0, 1 << 14)
    data[matrix : matrix + 36] = b"".join(
        (value << (0 if place == 8 else 16)).to_bytes(4, "big", signed=True) for place, value in enumerate(turn)
    )
    path.write_bytes(bytes(data))
    (first, *_) = read_frames(path, num_frames=1)
    assert first.image.shape == (64, 32, 3)
    assert first.image[4:12, 20:28].mean() > 200
    assert first.image[4:12, 4:12].mean() < 50


def test_video_cut_off_in_the_middle_gives_the_frames_before_the_cut(counter_video: Maker, number_of: Number) -> None:
    path = counter_video(40, name="cut.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = list(read_frames(path, num_frames=4))
    assert len(frames) >= 3
    # The last frame before the cut may refer to one behind it, and so count as an earlier one.
    assert [number_of(frame.image) for frame in frames[:-1]] == [frame.index for frame in frames[:-1]]


def test_sound_alone_is_no_video(audio_only: Path) -> None:
    with pytest.raises(MediaError, match=r"song\.mp4' has no video stream, only audio"):
        probe_video(audio_only)
    with pytest.raises(MediaError, match="no video stream"):
        next(read_frames(audio_only))


def test_empty_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(MediaError, match=r"empty\.mp4' is empty \(0 bytes\)"):
        next(read_frames(tmp_path / "empty.mp4"))


def test_absent_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"No such file: '.*gone\.mp4'"):
        probe_video(tmp_path / "gone.mp4")


def test_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "note.mp4").write_text("hello " * 100)
    with pytest.raises(MediaError, match=r"note\.mp4' cannot be read as a video: .*again"):
        probe_video(tmp_path / "note.mp4")


def test_video_of_damaged_data_is_named(counter_video: Maker) -> None:
    path = counter_video(10)
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    with pytest.raises(MediaError, match=r"counter\.mp4' cannot be decoded: .*again"):
        list(read_frames(path, num_frames=4))


def test_video_with_an_unknown_codec_is_named(counter_video: Maker) -> None:
    path = counter_video(4)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(MediaError, match=r"counter\.mp4'"):
        list(read_frames(path))
    with pytest.raises(MediaError, match=r"counter\.mp4'"):
        probe_video(path)


def test_interrupted_encoding_leaves_no_file(tmp_path: Path) -> None:
    def frames() -> Iterator[Image]:
        for _ in range(100):  # more than the encoder holds back, so that some are in the file
            assert not (tmp_path / "a.mp4").exists()
            yield np.zeros((32, 32, 3), np.uint8)
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", frames(), fps=25)
    assert list(tmp_path.iterdir()) == []


def test_no_frames_make_no_video(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "a.mp4", [], fps=25)
    assert list(tmp_path.iterdir()) == []


def test_stronger_compression_makes_a_smaller_video(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(5)]
    write_video(tmp_path / "c23.mp4", noise, fps=25, crf=23)
    write_video(tmp_path / "c40.mp4", noise, fps=25, crf=40)
    assert (tmp_path / "c40.mp4").stat().st_size < (tmp_path / "c23.mp4").stat().st_size / 2


def test_media_are_read_without_torch() -> None:
    code = (
        "import sys, unmask.media.encode, unmask.media.kinds, unmask.media.image, unmask.media.video;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300, check=False).returncode == 0


def test_text_that_looks_like_a_terminal_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\x1b[31mhello\n" * 100)
    with pytest.raises(
        MediaError, match=r"a\.txt' is neither an image nor a video, but text: .*Images: JPEG.*videos: MP4"
    ):
        probe_video(tmp_path / "a.txt")


def test_a_format_that_is_not_read_is_told_those_that_are(tmp_path: Path) -> None:
    for name, data in (("notes.txt", b"hello " * 100), ("a.zip", b"PK\x03\x04" + bytes(range(256)) * 4)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=r"Images: JPEG, .*videos: MP4, "):
            probe_video(tmp_path / name)


def test_an_image_is_called_one_where_a_video_is_wanted(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "photo.jpg", np.zeros((8, 8, 3), np.uint8), quality=90)
    with pytest.raises(MediaError, match=r"photo\.jpg' is an image, not a video"):
        index_video(tmp_path / "photo.jpg")


def test_a_heic_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mov").write_bytes(draw_brands(b"heic", b"mif1") + bytes(500))
    with pytest.raises(MediaError, match=r"'upload' is an image"):
        index_video(tmp_path / "a.mov", name="upload")


def test_a_title_in_another_alphabet_does_not_matter(counter_video: Maker, tmp_path: Path) -> None:
    import av

    path = tmp_path / "title.mkv"
    with av.open(str(counter_video(4))) as source, av.open(str(path), "w") as output:
        output.metadata["title"] = "a cafe in Paris"
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"a cafe in", "a caf\xe9 in".encode("latin-1")))
    assert len(list(read_frames(path))) == 4


def test_a_stream_that_begins_in_the_middle_does_no_harm(tmp_path: Path, number_of: Number) -> None:
    images = (np.full((64, 64, 3), 20 + 6 * (index // 25), np.uint8) for index in range(400))
    write_video(tmp_path / "whole.flv", images, fps=25, crf=10)
    sound = bytes([0x2F]) + bytes(400)  # of which the head of the file says nothing
    size = len(sound).to_bytes(3, "big")
    tag = bytes([8]) + size + bytes(7) + sound + (11 + len(sound)).to_bytes(4, "big")
    (tmp_path / "grown.flv").write_bytes((tmp_path / "whole.flv").read_bytes() + 3 * tag)
    frames = list(read_frames(tmp_path / "grown.flv", num_frames=3))
    assert [number_of(frame.image) for frame in frames] == [0, 8, 15]


def test_packets_before_a_fault_of_pyav_are_kept(counter_video: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = video._open

    def fail_at_the_end(parts: Iterator[Any]) -> Iterator[Any]:
        yield from parts
        raise IndexError("list index out of range")  # of a stream that PyAV had not counted

    @contextmanager
    def faulty(path: Path, **limits: Any) -> Iterator[tuple[Any, Any]]:
        with opened(path, **limits) as (container, stream):
            yield (
                SimpleNamespace(
                    decode=lambda stream: fail_at_the_end(container.decode(stream)),
                    demux=lambda stream: fail_at_the_end(container.demux(stream)),
                    format=container.format,
                ),
                stream,
            )

    monkeypatch.setattr(video, "_open", faulty)
    assert [frame.index for frame in read_frames(counter_video(9))] == list(range(9))


@pytest.mark.parametrize("name", ["a.ts", "a.flv", "a.mkv", "a.avi", "a.mpg"])
def test_garbled_videos_are_read_in_part_or_refused(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(20)]
    write_video(tmp_path / name, noise, fps=25)
    whole = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
    counts = []
    for _ in range(40):
        garbled = whole.copy()
        garbled[rng.integers(0, len(whole), 60)] = rng.integers(0, 256, 60)
        (tmp_path / name).write_bytes(garbled.tobytes())
        with suppress(MediaError):
            counts.append(len(list(read_frames(tmp_path / name, num_frames=4))))
    assert counts  # some are read
    assert all(1 <= count <= 4 for count in counts)


@pytest.mark.parametrize(("name", "codec"), [("raw.h264", "libx264"), ("raw.hevc", "libx265")])
def test_a_raw_stream_is_counted_by_its_packets(tmp_path: Path, number_of: Number, name: str, codec: str) -> None:
    import av

    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {"crf": "10"}
        for index in range(31):
            image = np.full((64, 64, 3), 20 + 6 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    info = probe_video(tmp_path / name)
    assert (info.num_frames, info.fps, info.duration_seconds) == (31, 10, pytest.approx(3.1))
    frames = list(read_frames(tmp_path / name, num_frames=4))
    assert [frame.time_seconds for frame in frames] == pytest.approx([0, 1, 2, 3])
    assert [number_of(frame.image) for frame in frames] == pytest.approx([0, 10, 20, 30], abs=1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_that_is_cut_off_says_so(tmp_path: Path, suffix: str) -> None:
    # An MP4 whose index comes first, as on web pages, and a Matroska file can be read up to where they end.
    whole = tmp_path / f"whole{suffix}"
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    with av.open(str(whole), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 64, 64, "yuv420p", {"crf": "0"}
        for pixels in np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert index_video(whole).notes == ()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    index = index_video(cut)
    assert 0 < index.info.num_frames < 45
    (note,) = index.notes
    assert "cut off" in note
    assert (f"{index.info.num_frames} of its 50 frames" if suffix == ".mp4" else "of its 2.0 s") in note
