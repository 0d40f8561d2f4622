from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from unmask.synthetic.draw import Sitter, draw_head, film
from unmask.synthetic.features import find_landmarks
from unmask.synthetic.identity import Identity, Pose, animate, draw_identity
from unmask.synthetic.texture import Placement
from unmask.types import Image


@pytest.fixture(scope="module")
def identity() -> Identity:
    return replace(draw_identity(np.random.default_rng(3)), glasses=0.0, beard="none")


def _difference_around(first: Image, second: Image, point: Sequence[float], reach: int) -> float:
    x, y = (int(axis) for axis in point)
    window = slice(y - reach, y + reach), slice(x - reach, x + reach)
    return float(np.abs(first[window].astype(int) - second[window]).mean())


def test_same_seed_draws_same_person_and_frame() -> None:
    frames = [draw_head(draw_identity(np.random.default_rng(5)), Pose(), size=96) for _ in range(2)]
    np.testing.assert_array_equal(frames[0].image, frames[1].image)
    assert frames[0].landmarks == frames[1].landmarks


def test_identities_look_different() -> None:
    images = [draw_head(draw_identity(np.random.default_rng(seed)), Pose(), size=96).image for seed in range(6)]
    differences = [np.abs(one.astype(int) - other).mean() for i, one in enumerate(images) for other in images[i + 1 :]]
    assert min(differences) > 10


def test_head_fills_about_half_of_the_frame(identity: Identity) -> None:
    left_eye, right_eye, nose, left_mouth, right_mouth = np.array(draw_head(identity, Pose(), size=256).landmarks)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert 30 < right_eye[0] - left_eye[0] < 60


def test_pupils_are_dark_where_the_landmarks_say(identity: Identity) -> None:
    for pose in (Pose(), Pose(yaw=0.25, roll=0.15, shift_x=0.2), Pose(yaw=-0.25, pitch=0.12, zoom=0.95)):
        head = draw_head(identity, pose, size=256)
        for x, y in head.landmarks[:2]:
            pupil = head.image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
            assert pupil.mean() < 0.6 * np.mean(identity.skin) * np.mean(identity.tint)


def test_blink_changes_the_eyes_and_nothing_else(identity: Identity) -> None:
    open_eyes, closed = (draw_head(identity, Pose(blink=blink)) for blink in (0.0, 1.0))
    left_eye, _, nose, left_mouth, _ = open_eyes.landmarks
    assert _difference_around(open_eyes.image, closed.image, left_eye, 6) > 10
    assert _difference_around(open_eyes.image, closed.image, left_mouth, 6) == 0
    assert _difference_around(open_eyes.image, closed.image, nose, 6) == 0


def test_speech_changes_the_mouth_and_not_the_eyes(identity: Identity) -> None:
    shut, speaking = (draw_head(identity, Pose(mouth_open=gap)) for gap in (0.0, 1.0))
    mouth = np.mean(shut.landmarks[3:], axis=0)
    assert _difference_around(shut.image, speaking.image, mouth, 8) > 10
    assert _difference_around(shut.image, speaking.image, shut.landmarks[0], 6) == 0


def test_smile_and_wide_mouth_move_its_corners(identity: Identity) -> None:
    rest, smiling = (find_landmarks(identity, Pose(smile=smile, mouth_wide=smile)) for smile in (0.0, 1.0))
    assert smiling[4, 0] > rest[4, 0]
    assert smiling[4, 1] < rest[4, 1]


def test_projection_and_way_back_agree(identity: Identity) -> None:
    place = Placement(identity, Pose(yaw=0.3, pitch=-0.15, roll=0.2, shift_x=0.3, zoom=1.05), 256)
    points = find_landmarks(identity, place.pose)
    x, y = place.trace_back(0, 0, 256, 256)
    for (column, row), point in zip(place.project(points), points, strict=True):
        np.testing.assert_allclose((x[int(row), int(column)], y[int(row), int(column)]), point, atol=0.03)


def test_yaw_moves_the_nose_more_than_the_eyes(identity: Identity) -> None:
    ahead, turned = (
        Placement(identity, Pose(yaw=yaw), 256).project(find_landmarks(identity, Pose())) for yaw in (0, 0.2)
    )
    moved = turned[:, 0] - ahead[:, 0]
    assert moved[2] > moved[0] > 0


def test_sensor_noise_differs_from_frame_to_frame(identity: Identity) -> None:
    still = [Pose(), Pose()]
    first, second = film(Sitter(identity, size=128), still, np.random.default_rng(0))
    difference = first.image.astype(float) - second.image
    assert 0.5 * identity.noise < difference.std() / np.sqrt(2) < 1.2 * identity.noise


def test_animation_moves_smoothly_blinks_and_speaks() -> None:
    poses = animate(np.random.default_rng(1), num_frames=250, fps=25)
    yaws = np.array([pose.yaw for pose in poses])
    assert np.abs(np.diff(yaws)).max() < 0.05
    assert yaws.max() - yaws.min() > 0.05
    assert max(pose.blink for pose in poses) == 1.0
    assert np.mean([pose.blink == 0 for pose in poses]) > 0.7
    assert max(pose.mouth_open for pose in poses) > 0.2


@pytest.mark.parametrize("style", ["bald", "short", "side", "fringe", "long", "curly"])
@pytest.mark.parametrize("beard", ["none", "stubble", "moustache", "goatee", "full"])
def test_every_hair_style_and_beard_can_be_drawn(identity: Identity, style: str, beard: str) -> None:
    plain = draw_head(replace(identity, hair_style="bald", beard="none"), Pose(), size=96).image
    image = draw_head(replace(identity, hair_style=style, beard=beard), Pose(), size=96).image
    assert np.array_equal(image, plain) == (style == "bald" and beard == "none")


@pytest.mark.parametrize("is_round", [True, False])
def test_glasses_are_drawn_around_the_eyes(identity: Identity, is_round: bool) -> None:
    without = draw_head(identity, Pose())
    with_glasses = draw_head(
        replace(identity, glasses=0.2, glasses_round=is_round, glasses_colour=(0.0, 0.0, 0.0)), Pose()
    )
    assert _difference_around(without.image, with_glasses.image, without.landmarks[0], 18) > 3


def test_retinaface_finds_drawn_heads_where_they_are() -> None:
    from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet, cache_folder

    if not any(cache_folder().glob("*.onnx")):
        pytest.skip("the weights of the small RetinaFace are not in the cache; make setup fetches them")
    heads = []
    for seed in range(12):
        rng = np.random.default_rng([7, seed])
        sitter = Sitter(draw_identity(rng))
        heads += list(film(sitter, animate(rng, num_frames=31, fps=25)[::10], rng))
    found = RetinaFaceMobileNet().detect([head.image for head in heads])
    assert sum(bool(faces) for faces in found) >= 0.98 * len(heads)
    errors = [
        np.linalg.norm(np.subtract(faces[0].landmarks, head.landmarks), axis=1).mean()
        for faces, head in zip(found, heads, strict=True)
        if faces
    ]
    assert np.mean(errors) < 7
