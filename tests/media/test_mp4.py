import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media.conftest import make_box

from unmask.errors import MediaError
from unmask.media.encode import write_with_sound
from unmask.media.mp4 import MAX_BOXES, MAX_SAMPLES, check_claims
from unmask.media.video import index_video, probe_video, read_frames

Maker = Callable[..., Path]


def patch(path: Path, box: bytes, offset: int, *numbers: int) -> Path:
    """Overwrite 32-bit numbers in the first box of a kind, counted from its content."""
    data = bytearray(path.read_bytes())
    struct.pack_into(f">{len(numbers)}I", data, data.index(box) + 4 + offset, *numbers)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("box", "offset", "numbers"),
    [
        (b"stsz", 4, (1, 100_000_000)),  # a constant size: no table needs to stand behind the claim
        (b"stts", 4, (1, 100_000_000, 1)),
        (b"ctts", 8, (100_000_000,)),
    ],
)
def test_frames_that_cannot_be_there_are_refused_before_an_index_is_made(
    counter_video: Maker, box: bytes, offset: int, numbers: tuple[int, ...]
) -> None:
    path = patch(counter_video(24), box, offset, *numbers)
    with pytest.raises(MediaError, match=rf"counter\.mp4' claims 100,\d+,\d+ frames \(box '{box.decode()}'\)"):
        probe_video(path)


def test_a_claim_that_a_padded_file_could_hold_is_refused_all_the_same(counter_video: Maker) -> None:
    path = patch(counter_video(24), b"stsz", 4, 1, MAX_SAMPLES + 1)
    with path.open("r+b") as file:
        file.truncate(2 * MAX_SAMPLES)
    with pytest.raises(MediaError, match=r"claims 4,000,001 frames"):
        check_claims(path, name=str(path))


@pytest.mark.parametrize("seconds", [1, 4_000_000_000])
def test_a_lying_duration_changes_nothing(counter_video: Maker, seconds: int) -> None:
    path = counter_video(24)
    for box, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        patch(path, box, offset, seconds)
    info = probe_video(path)
    assert (info.num_frames, info.duration_seconds) == (24, pytest.approx(0.96))
    assert [frame.index for frame in read_frames(path, num_frames=4)] == [0, 8, 15, 23]


def test_boxes_in_boxes_without_end_are_no_trouble(tmp_path: Path) -> None:
    data = b""
    for _ in range(3000):
        data = struct.pack(">I4s", len(data) + 8, b"moov") + data
    (tmp_path / "deep.mp4").write_bytes(data)
    with pytest.raises(MediaError, match=r"deep\.mp4' cannot be read as a video"):
        probe_video(tmp_path / "deep.mp4")


@pytest.mark.parametrize("kind", [b"moov", b"trak"])
def test_more_boxes_than_any_video_has_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "cut.mp4"
    inner = make_box(b"free", b"") * (MAX_BOXES // 3)  # a track is looked through twice
    path.write_bytes(make_box(b"moov", make_box(kind, inner)))
    check_claims(path, name="cut.mp4")
    path.write_bytes(make_box(b"moov", make_box(kind, inner * 4)))
    with pytest.raises(MediaError, match=r"'cut\.mp4' has more than 1,000,000 boxes"):
        check_claims(path, name="cut.mp4")


def test_the_boxes_of_a_track_are_not_kept(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "cut.mp4"
    path.write_bytes(make_box(b"moov", make_box(b"trak", make_box(b"free", b"") * 30_000)))
    tracemalloc.start()
    check_claims(path, name="cut.mp4")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_track_within_a_track_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nested.mp4"
    path.write_bytes(make_box(b"moov", make_box(b"trak", make_box(b"mdia", make_box(b"trak", b"")))))
    with pytest.raises(MediaError, match=r"'nested\.mp4' has a track inside a track"):
        check_claims(path, name="nested.mp4")


@pytest.mark.parametrize("kind", [b"udta", b"edts", b"dinf", b"mvex", b"tref", b"sinf", b"schi", b"wave", b"ilst"])
def test_a_claim_in_a_box_where_only_ffmpeg_looks_is_found(tmp_path: Path, kind: bytes) -> None:
    table = make_box(b"stsz", struct.pack(">III", 0, 1, 100_000_000))
    path = tmp_path / "hidden.mp4"
    path.write_bytes(make_box(b"moov", make_box(b"trak", make_box(kind, make_box(b"stbl", table)))))
    with pytest.raises(MediaError, match="claims 100,000,000 frames"):
        check_claims(path, name="hidden.mp4")


def test_larger_frames_than_allowed_are_refused_with_their_size(counter_video: Maker) -> None:
    with pytest.raises(MediaError, match=r"frames of '.*counter\.mp4' are 64 x 64 pixels, more than .*4,095"):
        index_video(counter_video(3), max_pixels=4095)
    assert index_video(counter_video(3), max_pixels=4096).info.num_frames == 3


def test_frames_that_grow_behind_the_header_are_not_decoded(tmp_path: Path) -> None:
    streams = []
    for size in (64, 512):  # MPEG-2 carries its size in the stream, where it may change
        path = tmp_path / f"{size}.mpg"
        with av.open(str(path), "w", format="mpeg2video") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
            for level in range(3):
                image = np.full((size, size, 3), 60 * level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        streams.append(path.read_bytes())
    (tmp_path / "grows.mpg").write_bytes(streams[0] * 10 + streams[1] * 10)
    index = index_video(tmp_path / "grows.mpg", max_pixels=10_000)
    assert (index.info.width, index.info.height) == (64, 64)
    from unmask.media.video import read_indexed

    shapes = {frame.image.shape for frame in read_indexed(index, range(index.info.num_frames))}
    assert shapes == {(64, 64, 3)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile {other}\n"),
        ("list.ts", "#EXTM3U\n#EXTINF:9,\n{other}\n"),
    ],
)
def test_a_list_of_other_files_is_no_video(tmp_path: Path, counter_video: Maker, name: str, text: str) -> None:
    other = counter_video(3)
    (tmp_path / name).write_text(text.format(other=other))
    with pytest.raises(MediaError, match=rf"{name}' (cannot be read as a video|is neither an image nor a video)"):
        list(read_frames(tmp_path / name))


def test_a_name_that_reads_like_an_address_is_a_file(counter_video: Maker, in_folder: Path) -> None:
    for name in ("concat:a|b.mp4", "http:x.mp4", "data:,.mp4"):
        counter_video(3).rename(in_folder / name)
        assert probe_video(Path(name)).num_frames == 3


def test_the_sound_of_a_file_is_taken_whatever_its_name_reads_like(counter_video: Maker, in_folder: Path) -> None:
    counter_video(3).rename(in_folder / "concat:a|b.mp4")
    source = Path("concat:a|b.mp4")
    assert probe_video(write_with_sound(Path("http:x.mp4"), read_frames(source), source=source)).num_frames == 3


def test_the_sound_of_a_list_of_other_files_is_not_taken(counter_video: Maker, tmp_path: Path) -> None:
    video, source = counter_video(3), tmp_path / "list.mp4"
    source.write_text(f"ffconcat version 1.0\nfile {video}\n")
    with pytest.raises(MediaError, match=r"list\.mp4' cannot be read as a video"):
        write_with_sound(tmp_path / "a.mp4", read_frames(video), source=source)
