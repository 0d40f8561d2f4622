from collections.abc import Callable

import cv2
import numpy as np
import pytest

from unmask.faces.track import (
    Appearance,
    describe_faces,
    face_distances,
    follow_largest,
    link_tracks,
    surroundings_distances,
)
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.types import Face, Image

Shot = list[tuple[Image, Face]]

SIDE = 160


def film_person(seed: int) -> Shot:
    """Film a drawn person for 16 frames, a quarter of a second apart."""
    rng = np.random.default_rng(seed)
    sitter = Sitter(draw_identity(rng), size=SIDE)
    shot = []
    for head in film(sitter, animate(rng, num_frames=16, fps=4), rng):
        points = np.asarray(head.landmarks)
        eye, far_eye, _, mouth, far_mouth = points[:5]
        width = 2.2 * float(np.linalg.norm(far_eye - eye))
        centre = (eye + far_eye + mouth + far_mouth) / 4
        x, y = centre
        box = (x - width / 2, y - 0.62 * width, x + width / 2, y + 0.62 * width)
        shot.append((head.image, Face(tuple(map(float, box)), tuple((float(a), float(b)) for a, b in points[:5]), 0.9)))
    return shot


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return [film_person(seed) for seed in (1, 2, 3)]


def describe(shot: Shot) -> list[list[Appearance | None]]:
    return [describe_faces(image, [face]) for image, face in shot]


def link(shot: Shot) -> list[int]:
    return [row[0] for row in link_tracks([[face] for _, face in shot], looks=describe(shot))]


def change_light(shot: Shot) -> Shot:
    """Darken and tint frames, each in another way, and blur them."""
    rng = np.random.default_rng(0)
    changed = []
    for image, face in shot:
        tint = rng.uniform(0.93, 1.07, 3) * rng.uniform(0.7, 1.1)
        other = np.clip(255 * (image / 255) ** rng.uniform(0.8, 1.3) * tint, 0, 255).astype(np.uint8)
        changed.append((cv2.GaussianBlur(other, (0, 0), rng.uniform(0.3, 0.8)).astype(np.uint8), face))
    return changed


def test_faces_of_one_person_are_alike_and_of_two_are_not(shots: list[Shot]) -> None:
    first, second = ([look for row in describe(shot) for look in row if look is not None] for shot in shots[:2])
    assert face_distances(first, first).max() < face_distances(first, second).min()
    assert np.allclose(np.diag(face_distances(first, first)), 0, atol=0.05)
    assert surroundings_distances(first, first).max() < surroundings_distances(first, second).min()
    assert np.asarray(first[0]).nbytes < 1500


def test_one_person_keeps_one_track_in_changing_light(shots: list[Shot]) -> None:
    for shot in shots:
        assert link(shot) == [0] * 16
        assert link(change_light(shot)) == [0] * 16
        assert link(shot[::5]) == [0] * 4


def test_people_who_alternate_in_one_place_are_told_apart_and_known_again(shots: list[Shot]) -> None:
    who = [0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 2, 2, 2, 0, 1]
    assert link([shots[person][position] for position, person in enumerate(who)]) == who
    positions_alone = link_tracks([[shots[person][place][1]] for place, person in enumerate(who)])
    assert positions_alone == [[0]] * 16


def test_somebody_who_takes_a_place_before_the_same_wall_gets_a_track_of_their_own(shots: list[Shot]) -> None:
    # Only the faces change: the second person's face stands in the first one's frames.
    mixed = []
    for place in range(16):
        image, face = shots[0][place]
        if place >= 8:
            other, theirs = shots[1][place]
            image, face = _put(other, theirs, image), theirs
        mixed.append((image, face))
    assert link(mixed) == [0] * 8 + [1] * 8


def _put(source: Image, face: Face, target: Image) -> Image:
    image = target.copy()
    x1, y1, x2, y2 = (round(value) for value in face.box)
    image[max(y1, 0) : y2, max(x1, 0) : x2] = source[max(y1, 0) : y2, max(x1, 0) : x2]
    return image


def test_somebody_who_comes_back_elsewhere_after_a_long_time_is_known_again(shots: list[Shot]) -> None:
    image, face = shots[0][0]
    later, there = shots[0][9]
    moved = np.roll(later, 60, axis=1)
    x1, y1, x2, y2 = there.box
    far = Face((x1 + 60, y1, x2 + 60, y2), tuple((x + 60, y) for x, y in there.landmarks or ()), 0.9)
    empty: list[Face] = []
    frames = [[face], *[empty] * 20, [far]]
    looks = [describe_faces(image, [face]), *[[]] * 20, describe_faces(moved, [far])]
    assert link_tracks(frames)[-1] == [1]
    assert link_tracks(frames, looks=looks)[-1] == [0]


def test_the_followed_face_is_one_person(shots: list[Shot]) -> None:
    who = [0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0]
    frames = [shots[person][position] for position, person in enumerate(who)]
    followed = follow_largest([[face] for _, face in frames], looks=describe(frames))
    assert [face is not None for face in followed] == [person == 0 for person in who]


def test_faces_are_told_apart_by_colour_where_they_have_no_texture() -> None:
    frames = []
    for number in range(12):
        image = np.full((80, 80, 3), 128, np.uint8)
        image[20:60, 20:60] = (200, 60, 40) if number // 3 % 2 else (40, 80, 200)
        frames.append((image, Face((20.0, 20.0, 60.0, 60.0), None, 0.9)))
    assert link(frames) == [0, 0, 0, 1, 1, 1] * 2


def test_a_face_that_lies_outside_the_frame_or_has_no_size_has_no_appearance() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    faces = [Face((30.0, 30.0, 40.0, 40.0), None, 0.9), Face((5.0, 5.0, 5.0, 5.0), None, 0.9)]
    assert describe_faces(image, faces) == [None, None]
    edge = Face((-5.0, -5.0, 8.0, 8.0), ((1.0, 1.0),) * 5, 0.9)
    (look,) = describe_faces(image, [edge])
    assert look is not None
    assert np.isfinite(look).all()
    assert link_tracks([faces, [edge]], looks=[[None, None], [look]]) == [[0, 1], [2]]


@pytest.mark.parametrize("scale", [0.5, 6.0])
def test_size_hardly_changes_an_appearance(shots: list[Shot], scale: float) -> None:
    image, face = shots[0][0]
    (look,) = describe_faces(image, [face])
    resized = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    points = tuple((x * scale, y * scale) for x, y in face.landmarks or ())
    x1, y1, x2, y2 = (value * scale for value in face.box)
    (other,) = describe_faces(resized, [Face((x1, y1, x2, y2), points, 0.9)])
    assert look is not None
    assert other is not None
    assert face_distances([look], [other]) < 0.35


def test_describing_a_face_of_a_large_frame_costs_little(make_face: Callable[..., Face]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (2160, 3840, 3), dtype=np.uint8)
    start = cv2.getTickCount()
    describe_faces(image, [make_face(1000, 200, 2500, 1900)])
    assert (cv2.getTickCount() - start) / cv2.getTickFrequency() < 0.5
