from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tests.media.drawn import (
    BLUE,
    GREEN,
    GREY,
    RED,
    draw_quarters,
    fill_frame,
    is_close,
    make_yuv,
    read_quarters,
    write_frames,
)

from unmask.errors import MediaError
from unmask.media.encode import write_video, write_with_sound
from unmask.media.video import index_video, read_frames
from unmask.types import Image

_ONE = 1 << 16


def _first(path: Path) -> Image:
    return next(iter(read_frames(path))).image


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(2), (64, 128)), (Fraction(1, 2), (128, 64)), (Fraction(128, 117), (64, 70)), (Fraction(50), (64, 64))],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_pixels_are_made_square_unless_their_ratio_is_absurd(
    tmp_path: Path, name: str, aspect: Fraction, size: tuple[int, int]
) -> None:
    path = write_frames(tmp_path / name, [draw_quarters()] * 2, aspect=aspect)
    image, index = _first(path), index_video(path)
    assert image.shape[:2] == size == (index.info.height, index.info.width)
    assert is_close(read_quarters(image), [RED, GREEN, BLUE, GREY])
    assert ("50" in " ".join(index.notes)) == (aspect == 50)


def test_square_pixels_count_for_the_limit(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.mp4", [draw_quarters()] * 2, aspect=Fraction(2))
    with pytest.raises(MediaError, match="128 x 64 pixels, more than the maximum of 8,191"):
        index_video(path, max_pixels=8191)


@pytest.mark.parametrize(
    ("turn", "corners"),
    [
        ((1, 0, 0, 1), [RED, GREEN, BLUE, GREY]),
        ((-1, 0, 0, 1), [GREEN, RED, GREY, BLUE]),
        ((-1, 0, 0, -1), [GREY, BLUE, GREEN, RED]),
        ((1, 0, 0, -1), [BLUE, GREY, RED, GREEN]),
        ((0, 1, 1, 0), [RED, BLUE, GREEN, GREY]),
        ((0, 1, -1, 0), [BLUE, RED, GREY, GREEN]),
        ((0, -1, -1, 0), [GREY, GREEN, BLUE, RED]),
        ((0, -1, 1, 0), [GREEN, GREY, RED, BLUE]),
    ],
)
def test_a_video_is_turned_and_mirrored_after_its_pixels_are_square(
    tmp_path: Path, turn: tuple[int, ...], corners: list[Any]
) -> None:
    a, b, c, d = (value * _ONE for value in turn)
    display = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    frames = [draw_quarters(height=32)] * 2
    image = _first(write_frames(tmp_path / "a.mp4", frames, aspect=Fraction(2), display=display))
    assert image.shape[:2] == ((32, 128) if a else (128, 32))
    assert is_close(read_quarters(image), corners)


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "named", "size"), [(5, 5, 64), (1, 1, 64), (9, 9, 64), (5, 2, (576, 720)), (1, 2, (720, 1280))]
)
def test_matrix_and_range_are_those_of_the_file_or_else_guessed_by_size(
    tmp_path: Path, matrix: int, named: int, size: Any, is_full: bool
) -> None:
    height, width = size if isinstance(size, tuple) else (size, size)
    values = make_yuv([value / 255 for value in RED], matrix=matrix, is_full=is_full)
    frame = fill_frame(values, pix_fmt="yuv420p", height=height, width=width)
    colours = {"color_range": 2 if is_full else 1, "colorspace": named}
    assert is_close(_first(write_frames(tmp_path / "a.mp4", [frame], colours=colours))[9, 9], RED, within=3)


def test_limited_grey_is_stretched(tmp_path: Path) -> None:
    frame = fill_frame([16 + 219 // 2], pix_fmt="gray", height=64, width=64)
    assert is_close(_first(write_frames(tmp_path / "a.mkv", [frame], codec="libx265"))[9, 9], [127] * 3, within=3)


def _encode_pq(light: float) -> float:
    power = (light / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


@pytest.mark.parametrize(
    ("transfer", "signal", "shown"),
    [
        (16, _encode_pq(203 * 0.2), 0.2 ** (1 / 2.4)),  # below the knee of BT.2390: as bright as it is
        (16, _encode_pq(1000), 1.0),
        (16, _encode_pq(0.001), 0.006),
        (18, 1.0, 1.0),
        (18, 0.0, 0.0),
        (18, 0.5, 0.57),  # 1/12 of the scene's light; 50.6 cd/m² on the display
    ],
)
def test_hdr_is_shown_with_the_brightness_of_sdr(tmp_path: Path, transfer: int, signal: float, shown: float) -> None:
    values = make_yuv([signal] * 3, matrix=9, is_full=False, num_bits=10)
    frame = fill_frame(values, pix_fmt="yuv420p10le", height=64, width=64)
    colours = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": transfer}
    path = write_frames(tmp_path / "a.mp4", [frame], codec="libx265", colours=colours)
    assert is_close(_first(path)[9, 9], [round(shown * 255)] * 3, within=4)
    assert "HDR" in " ".join(index_video(path).notes)


def test_wide_colours_are_converted_to_those_of_bt_709(tmp_path: Path) -> None:
    # Linear light (0.2, 0.4, 0.1) of BT.709 in the primaries of BT.2020, by ITU-R BT.2087.
    light = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]) @ [0.2, 0.4, 0.1]
    for transfer, levels in ((14, light ** (1 / 2.4)), (16, [_encode_pq(203 * value) for value in light])):
        values = make_yuv(levels, matrix=9, is_full=False, num_bits=10)
        frame = fill_frame(values, pix_fmt="yuv420p10le", height=64, width=64)
        colours = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": transfer}
        path = write_frames(tmp_path / f"{transfer}.mp4", [frame], codec="libx265", colours=colours)
        assert is_close(_first(path)[9, 9], np.array([0.2, 0.4, 0.1]) ** (1 / 2.4) * 255, within=4)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.webm", "libvpx", "yuva420p"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mov", "png", "rgba"),
        ("a.mov", "qtrle", "argb"),
        ("a.mkv", "ffv1", "yuva420p"),
    ],
)
def test_what_transparency_hides_in_a_video_is_black(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    pixels = np.dstack([draw_quarters(), np.full((64, 64), 255, np.uint8)])
    pixels[:32, :, 3] = 0
    frames = [av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pix_fmt) for _ in range(3)]
    options = {"auto-alt-ref": "0"} if "vpx" in codec else {}
    path = write_frames(tmp_path / name, frames, codec=codec, options=options)
    for frame in read_frames(path):
        assert is_close(read_quarters(frame.image), [(0, 0, 0), (0, 0, 0), BLUE, GREY], within=12)
    assert "transparent" in " ".join(index_video(path).notes)


def test_the_fourth_byte_of_uncompressed_avi_hides_nothing(tmp_path: Path) -> None:
    pixels = np.dstack([draw_quarters(), np.zeros((64, 64), np.uint8)])
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="bgra")
    path = write_frames(tmp_path / "a.avi", [frame] * 2, codec="rawvideo")
    assert is_close(read_quarters(_first(path)), [RED, GREEN, BLUE, GREY])


def test_an_interlaced_video_shows_no_combs(tmp_path: Path) -> None:
    frames = []
    for index in range(8):
        image = np.zeros((64, 96, 3), np.uint8)
        image[0::2, 10 + 6 * index : 30 + 6 * index] = 255
        image[1::2, 13 + 6 * index : 33 + 6 * index] = 255
        frames.append(image)
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    path = write_frames(tmp_path / "a.mp4", frames, options=options)
    shown = [frame.image[..., 0].astype(int) for frame in read_frames(path)]
    assert len(shown) == 8
    assert max(np.abs(image[2:-2] - image[3:-1]).mean() for image in shown) < 2  # 16 as it is stored
    # Each shows one field of its own frame, of the time when that was taken.
    places = [int((image[32] > 128).argmax()) for image in shown]
    assert places == pytest.approx([11.5 + 6 * index for index in range(8)], abs=2.5)
    assert "interlaced" in " ".join(index_video(path).notes)


def test_an_annotated_video_has_the_shape_and_colours_that_were_judged(tmp_path: Path) -> None:
    values = make_yuv([_encode_pq(203 * value) for value in (0.2, 0.4, 0.1)], matrix=9, is_full=False, num_bits=10)
    colours = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}
    source = write_frames(
        tmp_path / "a.mp4",
        [fill_frame(values, pix_fmt="yuv420p10le", height=64, width=64) for _ in range(2)],
        codec="libx265",
        colours=colours,
        aspect=Fraction(2),
        display=[0, _ONE, 0, -_ONE, 0, 0, 0, 0, 1 << 30],
    )
    written = write_with_sound(tmp_path / "b.mp4", read_frames(source), source=source)
    assert _first(written).shape == _first(source).shape == (128, 64, 3)
    assert is_close(_first(written)[9, 9], _first(source)[9, 9])
    assert not index_video(written).notes


@pytest.mark.parametrize("size", [(64, 64), (720, 1280)])
def test_what_is_written_is_read_again_in_its_colours_and_named_for_others(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    image = cv2.resize(draw_quarters(), size[::-1], interpolation=cv2.INTER_NEAREST)
    write_video(tmp_path / "a.mp4", [image], fps=25, crf=5)
    assert is_close(read_quarters(_first(tmp_path / "a.mp4")), [RED, GREEN, BLUE, GREY], within=3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)


def test_what_an_edit_list_cuts_off_is_not_examined(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.options = "yuv420p", {"bf": "0"}
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 20 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index - 4, Fraction(1, 25)  # players begin at 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = [float(frame.image.mean()) for frame in read_frames(tmp_path / "a.mp4")]
    assert shown == pytest.approx([20 + 20 * index for index in range(4, 10)], abs=4)
