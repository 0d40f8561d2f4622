from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.errors import DetectorError, MediaError
from unmask.faces.crop import (
    Sieve,
    as_stored,
    crop_as_stored,
    cut_crop,
    cut_shown,
    encode_crop,
    locate_landmarks,
    measure_sharpness,
    prepare_input,
    stack_planes,
)
from unmask.faces.spec import CropSpec, InputSpec
from unmask.media.image import decode_crop_file
from unmask.types import Face, Image

MakeFace = Callable[..., Face]


def ramp(height: int, width: int) -> Image:
    """Red grows to the right and green downwards, so that a pixel tells where it came from."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def spec(**values: float) -> CropSpec:
    return CropSpec(detector="test", **values)  # type: ignore[arg-type]


def test_crop_is_a_square_around_the_face_with_its_margin(make_face: MakeFace) -> None:
    crop = cut_crop(ramp(200, 200), make_face(80, 90, 120, 110), spec(margin=1.5, crop_size=60))
    np.testing.assert_array_equal(crop, ramp(200, 200)[70:130, 70:130])
    assert crop.flags.c_contiguous


def test_a_whole_image_is_padded_by_reflection_or_stretched(make_face: MakeFace) -> None:
    image, face = ramp(40, 80), make_face(0, 0, 80, 40)
    padded = cut_crop(image, face, CropSpec("whole", "", {"fit": "letterbox"}, margin=1.0, crop_size=80))
    np.testing.assert_array_equal(padded, np.pad(image, ((20, 20), (0, 0), (0, 0)), mode="reflect"))
    stretched = cut_crop(image, face, CropSpec("whole", "", {"fit": "squash"}, margin=1.0, crop_size=80))
    np.testing.assert_array_equal(stretched, cv2.resize(image, (80, 80), interpolation=cv2.INTER_LINEAR))
    shrunk = cut_crop(image, face, CropSpec("whole", "", {"fit": "squash"}, margin=1.0, crop_size=20))
    np.testing.assert_array_equal(shrunk, cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA))


def test_what_lies_beyond_the_frame_is_reflected(make_face: MakeFace) -> None:
    crop = cut_crop(ramp(100, 100), make_face(-10, 80, 10, 100), spec(margin=2, crop_size=40))
    expected = np.pad(ramp(100, 100), ((0, 40), (40, 0), (0, 0)), mode="reflect")[70:110, 20:60]
    np.testing.assert_array_equal(crop, expected)


def test_a_crop_larger_than_its_frame_is_reflected_again_and_again(make_face: MakeFace) -> None:
    image = ramp(10, 14)
    crop = cut_crop(image, make_face(-43, -45, 57, 55), spec(margin=1, crop_size=100))
    expected = np.pad(image, ((45, 45), (43, 43), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("box", [(-90, -90, -50, -50), (30, 30, 30, 30), (0, 0, 1, 1), (500, 10, 540, 60)])
@pytest.mark.parametrize("shape", [(64, 48), (1, 1), (1, 30)])
def test_any_box_gives_a_crop_of_the_right_size(
    make_face: MakeFace, box: tuple[float, ...], shape: tuple[int, int]
) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    assert (cut_crop(image, make_face(*box), spec(crop_size=32)) == np.full((32, 32, 3), 77)).all()


def test_faces_are_not_squashed(make_face: MakeFace) -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    cv2.circle(image, (150, 150), 40, (255, 255, 255), -1)
    crop = cut_crop(image, make_face(130, 100, 170, 200), spec(crop_size=128))
    rows, columns = np.nonzero(crop[:, :, 0] > 128)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)


def test_shrinking_averages_what_it_merges(make_face: MakeFace) -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[::4, ::4] = 160
    assert (cut_crop(image, make_face(0, 0, 100, 100), spec(margin=1, crop_size=25)) == 10).all()


def test_aligned_crops_have_level_eyes_about_the_centre_of_the_face(make_face: MakeFace) -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    left, right = (120.0, 130.0), (170.0, 160.0)
    for x, y in (left, right):
        cv2.circle(image, (round(x), round(y)), 5, (255, 255, 255), -1, cv2.LINE_AA)
    face = make_face(100, 105, 190, 195, eyes=(*left, *right))
    crop = cut_crop(image, face, spec(crop_size=117, aligned=True))
    _, _, _, centres = cv2.connectedComponentsWithStats((crop[:, :, 0] > 128).astype(np.uint8))
    first, second = sorted(centres[1:], key=lambda point: point[0])
    assert first[1] == pytest.approx(second[1], abs=0.6)
    assert np.hypot(*(second - first)) == pytest.approx(np.hypot(50, 30), abs=1)
    # The middle of the eyes lies 5 px above the centre of the face, which becomes the centre of the crop, (58, 58).
    angle = np.arctan2(30, 50)
    assert (first + second) / 2 == pytest.approx([58 - 5 * np.sin(angle), 58 - 5 * np.cos(angle)], abs=1)


def test_aligning_an_upright_face_changes_nothing(make_face: MakeFace) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    face = make_face(60, 20, 120, 80, eyes=(70, 40, 110, 40))
    plain, aligned = (cut_crop(image, face, spec(margin=1.4, crop_size=84, aligned=flag)) for flag in (False, True))
    np.testing.assert_array_equal(plain, aligned)


def test_aligned_crops_without_landmarks_are_refused(make_face: MakeFace) -> None:
    with pytest.raises(DetectorError, match=r"'haar'.*aligned=false"):
        cut_crop(ramp(50, 50), make_face(10, 10, 30, 30), CropSpec(detector="haar", aligned=True))


@pytest.mark.parametrize(
    ("options", "is_lossless"),
    [
        ({"jpeg_quality": 80}, False),
        ({"jpeg_quality": 80, "chroma": "4:2:0"}, False),
        ({"format": "png"}, True),
        ({"format": "webp"}, True),
    ],
    ids=["jpeg", "4:2:0", "png", "webp"],
)
def test_prediction_sees_the_very_pixels_that_were_stored(
    make_face: MakeFace, tmp_path: Path, options: dict[str, float], is_lossless: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    face, crops = make_face(20, 20, 90, 100), spec(crop_size=64, **options)
    cut, path = cut_crop(image, face, crops), tmp_path / f"crop{crops.suffix}"
    path.write_bytes(encode_crop(cut, crops))
    np.testing.assert_array_equal(decode_crop_file(path), crop_as_stored(image, face, crops))
    assert np.array_equal(decode_crop_file(path), cut) is is_lossless


def test_jpegs_keep_the_colour_of_every_pixel_unless_the_spec_is_older() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (255, 0, 0), (0, 0, 255)
    losses = [
        np.abs(as_stored(stripes, spec(chroma=chroma)).astype(int) - stripes).mean() for chroma in ("4:4:4", "4:2:0")
    ]
    assert losses[0] < 5
    assert losses[1] > 50
    # The sampling factors in the frame header (ITU-T T.81, B.2.2): one byte a component, after its number.
    factors = []
    for chroma in ("4:4:4", "4:2:0"):
        data = encode_crop(stripes, spec(chroma=chroma))
        start = data.index(b"\xff\xc0")
        factors.append([data[start + 11 + 3 * component] for component in range(3)])
    assert factors == [[0x11] * 3, [0x22, 0x11, 0x11]]


def test_faces_that_fail_a_limit_are_left_out_and_counted_by_it(make_face: MakeFace) -> None:
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    image[200:] = cv2.GaussianBlur(image[200:], (0, 0), 8)
    good, small = make_face(40, 40, 120, 130), make_face(200, 20, 270, 59)
    unsure, blurred = Face((220.0, 80.0, 300.0, 160.0), None, 0.6), make_face(100, 280, 180, 360)
    strict = spec(min_face=40, min_confidence=0.7, min_sharpness=50)
    sieve = Sieve(strict)
    assert sieve.keep(image, [good, small, unsure, blurred]) == [good]
    assert sieve.keep(image, [small]) == []
    assert (sieve.num_kept, sieve.num_failed) == (1, 4)
    for part in (
        "4 of 5",
        "2 below crop.min_face=40",
        "1 below crop.min_confidence=0.7",
        "1 below crop.min_sharpness=50",
    ):
        assert part in sieve.describe_failed()
    free = Sieve(spec())
    assert free.keep(image, [good, small, unsure, blurred]) == [good, small, unsure, blurred]
    assert free.num_failed == 0


def test_sharpness_falls_with_blur_whatever_the_size_of_the_crop() -> None:
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8), (256, 256))
    sharpness = [measure_sharpness(cv2.GaussianBlur(noise, (0, 0), sigma)) for sigma in (0.1, 4, 12)]
    assert sharpness[0] > 2 * sharpness[1] > 4 * sharpness[2]
    assert measure_sharpness(cv2.resize(noise, (512, 512))) == pytest.approx(sharpness[0], rel=0.1)
    assert measure_sharpness(np.full((64, 64, 3), 90, np.uint8)) == 0


def test_stored_crops_keep_their_colours_and_obey_the_quality() -> None:
    image = np.full((64, 64, 3), (200, 60, 20), np.uint8)
    assert as_stored(image, spec()).mean(axis=(0, 1)) == pytest.approx([200, 60, 20], abs=3)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_crop(noise, spec(jpeg_quality=95))) > 1.5 * len(encode_crop(noise, spec(jpeg_quality=60)))


@pytest.mark.parametrize(("side", "size"), [(256, 112), (100, 224), (64, 64)])
def test_input_has_the_size_of_the_spec_and_stays_uint8(side: int, size: int) -> None:
    ready = prepare_input(ramp(side, side), InputSpec(size=size))
    assert ready.shape == (size, size, 3)
    assert ready.dtype == np.uint8
    assert ready[size // 2, -3, 0] > ready[size // 2, 2, 0] + side * 0.8


def test_an_image_that_is_not_square_is_padded_not_squashed() -> None:
    ready = prepare_input(ramp(50, 100), InputSpec(size=100))
    np.testing.assert_array_equal(ready, np.pad(ramp(50, 100), ((25, 25), (0, 0), (0, 0)), mode="reflect"))


def test_long_thin_image_is_refused_instead_of_filling_the_memory() -> None:
    thread = np.zeros((1, 200_000, 3), np.uint8)
    with pytest.raises(MediaError, match=r"200,000 x 1 pixels.*20,000"):
        prepare_input(thread, InputSpec(size=32))


def test_images_become_a_batch_of_planes() -> None:
    images = [ramp(8, 8), ramp(8, 8)[::-1].copy()]
    np.testing.assert_array_equal(stack_planes(images), np.stack(images).transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "odd", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((9, 8, 3), np.uint8)]
)
def test_images_of_different_size_or_type_cannot_be_stacked(odd: Image) -> None:
    with pytest.raises(ValueError, match=r"\(8, 8, 3\).*uint8 RGB crops"):
        stack_planes([ramp(8, 8), odd])


def test_where_images_were_crops_already_the_whole_of_them_is_shown(make_face: MakeFace) -> None:
    face = Face((0.0, 0.0, 64.0, 64.0), None, 1.0)
    whole = CropSpec("none", crop_size=64)
    np.testing.assert_array_equal(cut_shown(ramp(64, 64), face, whole), ramp(64, 64))
    assert not np.array_equal(cut_shown(ramp(64, 64), face, spec(crop_size=64)), ramp(64, 64))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("box", [(60.0, 50.0, 140.0, 150.0), (-10.0, 20.0, 55.0, 90.0)])
def test_landmarks_are_located_where_the_crop_shows_them(box: tuple[float, ...], aligned: bool) -> None:
    x1, y1, x2, y2 = box
    shares = ((0.3, 0.35), (0.7, 0.45), (0.5, 0.6), (0.35, 0.75), (0.7, 0.8))
    points = tuple((x1 + x * (x2 - x1), y1 + y * (y2 - y1)) for x, y in shares)
    face = Face((x1, y1, x2, y2), points, 1.0)
    spec = CropSpec("retinaface_mobilenet", crop_size=256, aligned=aligned)
    located = locate_landmarks(face, spec)
    assert located is not None
    for (x, y), expected in zip(points, located, strict=True):
        if x > 30:  # nearer to the edge of the frame a point is seen twice, mirrored
            image = np.zeros((200, 200, 3), np.uint8)
            cv2.circle(image, (round(x), round(y)), 4, (255, 255, 255), -1)
            rows, columns = np.nonzero(cut_crop(image, face, spec)[..., 0] > 127)
            assert np.abs(np.array([columns.mean(), rows.mean()]) - expected).max() < 4
    assert locate_landmarks(Face(face.box, None, 1.0), spec) is None
