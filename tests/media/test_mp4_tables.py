import struct
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media.conftest import make_box

from unmask.errors import MediaError
from unmask.media.mp4 import check_claims
from unmask.media.video import probe_video


def make_track(
    *,
    samples: int = 1,
    chunks: int = 1,
    runs: bytes | None = None,
    inner: bytes = b"",
    outer: bytes = b"",
    version: bytes = b"\0\0",
) -> bytes:
    """A track of 8-bit sound of which every sample lasts one tick, as `pcm.mov` has it.

    Args:
        samples: Of every chunk.
        chunks: How many.
        runs: The table that tells the samples of the chunks; None for one run.
        inner: Boxes in its description.
        outer: Boxes beside its media.
        version: Of its description.
    """
    entry = b"sowt" + bytes(6) + b"\0\1" + version + bytes(6) + struct.pack(">HHHHI", 1, 8, 0, 0, 8000 << 16) + inner
    tables = [
        make_box(b"stsd", struct.pack(">III", 0, 1, len(entry) + 4) + entry),
        make_box(b"stts", struct.pack(">IIII", 0, 1, 10, 1)),
        make_box(b"stsc", runs or struct.pack(">IIIII", 0, 1, 1, samples, 1)),
        make_box(b"stsz", struct.pack(">III", 0, 1, 10)),
        make_box(b"stco", struct.pack(">II", 0, chunks) + struct.pack(">I", 100) * chunks),
    ]
    clock = make_box(b"mdhd", bytes(12) + struct.pack(">II", 1000, 1000) + bytes(4))
    handler = make_box(b"hdlr", bytes(8) + b"soun" + bytes(13))
    media = make_box(b"mdia", clock + handler + make_box(b"minf", make_box(b"stbl", b"".join(tables))))
    return make_box(b"trak", make_box(b"tkhd", bytes(84)) + media + outer)


def write_tracks(path: Path, *tracks: bytes) -> Path:
    header = make_box(b"mvhd", bytes(12) + struct.pack(">II", 1000, 1000) + bytes(80))
    path.write_bytes(make_box(b"ftyp", b"qt  " + bytes(4)) + make_box(b"moov", header + b"".join(tracks)))
    return path


@pytest.mark.parametrize(("samples", "chunks"), [(2_000_000_000, 30), (2_000_000_000, 1), (100_000, 20)])
def test_sound_that_claims_more_chunks_and_samples_than_there_are_bytes_is_refused(
    tmp_path: Path, samples: int, chunks: int
) -> None:
    path = write_tracks(tmp_path / "pcm.mov", make_track(samples=samples, chunks=chunks))
    with pytest.raises(MediaError, match=r"pcm\.mov' claims [\d,]+ frames \(box 'stsc'\)"):
        probe_video(path)


def test_the_claims_of_all_tracks_count_together(tmp_path: Path) -> None:
    track = make_track(samples=300 * 1024, chunks=1)
    check_claims(write_tracks(tmp_path / "one.mov", track), name="one.mov")
    many = write_tracks(tmp_path / "many.mov", *[track] * 20)
    assert many.stat().st_size > 6000
    check_claims(many, name="many.mov")
    many = write_tracks(tmp_path / "many.mov", *[make_track(samples=3_500_000 * 1024 // 8, chunks=8)] * 3)
    with many.open("r+b") as file:
        file.truncate(20_000_000)
    with pytest.raises(MediaError, match=r"claims 10,500,000 frames"):
        check_claims(many, name="many.mov")


def test_frames_of_sound_that_are_long_are_counted_by_the_frame(tmp_path: Path) -> None:
    inner = struct.pack(">IIII", 160, 33, 33, 2)
    path = write_tracks(tmp_path / "gsm.mov", make_track(samples=160_000, chunks=1, inner=inner, version=b"\0\1"))
    with pytest.raises(MediaError, match=r"claims 1,000 frames \(box 'stsc'\)"):
        check_claims(path, name="gsm.mov")


def test_sound_in_many_small_chunks_and_a_large_last_one_is_counted_chunk_by_chunk(tmp_path: Path) -> None:
    def write(*runs: tuple[int, int], num_runs: int = 2) -> Path:
        table = struct.pack(">II", 0, num_runs) + b"".join(struct.pack(">III", *run, 1) for run in runs)
        return write_tracks(tmp_path / "pcm.mov", make_track(runs=table, chunks=6000))

    check_claims(write((1, 1024), (6000, 1_000_000)), name="pcm.mov")
    check_claims(write(num_runs=0), name="pcm.mov")
    # Out of order, so that FFmpeg may take the large one for all; and a second one that is not counted.
    for runs, num_runs in ([(1, 1024), (1, 1_000_000)], 2), ([(1, 1_000_000), (2, 1)], 1):
        with pytest.raises(MediaError, match="claims 5,862,000 frames"):
            check_claims(write(*runs, num_runs=num_runs), name="pcm.mov")


HIDDEN = make_box(b"stts", struct.pack(">IIII", 0, 1, 10_000_000, 2))
TITLED = make_box(b"hdlr", bytes(8) + b"mdir" + bytes(13))


@pytest.mark.parametrize(
    ("track", "said"),
    [
        (make_track(inner=HIDDEN), "hides a box 'stts' in its description"),
        (make_track(inner=make_box(b"wave", HIDDEN)), "hides a box 'stts' in its description"),
        (make_track(outer=HIDDEN), "has two boxes 'stts'"),
        (make_track(outer=make_box(b"meta", bytes(12) + TITLED + HIDDEN)), "has two boxes 'stts'"),
        (make_box(b"cmov", bytes(100)), "is compressed .box 'cmov'.*Convert it"),
    ],
)
def test_tables_that_are_hidden_from_a_quick_look_are_refused(tmp_path: Path, track: bytes, said: str) -> None:
    with pytest.raises(MediaError, match=rf"hidden\.mov' {said}"):
        check_claims(write_tracks(tmp_path / "hidden.mov", track), name="hidden.mov")


def test_edits_that_show_a_track_a_thousand_times_are_refused(tmp_path: Path) -> None:
    def edit(number: int) -> bytes:
        edits = struct.pack(">IIHH", 1000, 0, 1, 0) * number
        return make_box(b"edts", make_box(b"elst", struct.pack(">II", 0, number) + edits))

    path = tmp_path / "cut.mov"
    check_claims(write_tracks(path, make_track(samples=102_400, chunks=1, outer=edit(4))), name="cut.mov")
    with pytest.raises(MediaError, match=r"claims 100,000 frames \(box 'elst'\)"):
        check_claims(write_tracks(path, make_track(samples=102_400, chunks=1, outer=edit(1000))), name="cut.mov")


def write_talkie(path: Path, codec: str, *, rate: int, num_samples: int) -> Path:
    """Three frames with silence in a codec of 16 bits."""
    with av.open(str(path), "w") as container:
        sound, video = container.add_stream(codec, rate=rate, layout="mono"), container.add_stream("libx264")
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            image = np.zeros((64, 64, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        for start in range(0, num_samples, rate):
            silence = np.zeros((1, min(rate, num_samples - start)), np.int16)
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24be", "pcm_f32le", "pcm_alaw", "adpcm_ima_qt", "alac"])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_sound_of_every_kind_passes(tmp_path: Path, codec: str, rate: int) -> None:
    path = tmp_path / "talkie.mov"
    try:
        write_talkie(path, codec, rate=rate, num_samples=10 * rate)
    except ValueError:
        pytest.skip(f"{codec} takes no samples of 16 bits here")
    assert probe_video(path).num_frames == 3


def test_ten_minutes_of_uncompressed_sound_pass(tmp_path: Path) -> None:
    path = write_talkie(tmp_path / "pcm.mov", "pcm_s16le", rate=48000, num_samples=600 * 48000)
    assert probe_video(path).num_frames == 3


def test_uncompressed_sound_may_have_a_sample_of_every_instant(tmp_path: Path) -> None:
    path = write_talkie(tmp_path / "pcm.mov", "pcm_s16le", rate=48000, num_samples=4800)
    data = path.read_bytes()
    place = data.index(struct.pack(">III", 1, 4800, 1))  # a run of 4,800 samples of one tick each
    path.write_bytes(data[:place] + struct.pack(">III", 1, 400_000_000, 1) + data[place + 12 :])
    assert probe_video(path).num_frames == 3
