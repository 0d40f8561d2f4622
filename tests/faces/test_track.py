from collections.abc import Callable

from unmask.faces.track import follow_largest, link_tracks
from unmask.types import Face

MakeFace = Callable[..., Face]


def test_two_people_who_cross_keep_their_numbers(make_face: MakeFace) -> None:
    frames = []
    for step in range(10):
        left, right = make_face(step * 8, 0, step * 8 + 40, 40), make_face(100 - step * 8, 25, 140 - step * 8, 65)
        frames.append([left, right] if step % 2 else [right, left])
    numbers = link_tracks(frames)
    assert all(row == ([1, 0] if step % 2 else [0, 1]) for step, row in enumerate(numbers))


def test_a_track_survives_frames_without_its_face_and_ends_after_too_many(make_face: MakeFace) -> None:
    face = make_face(10, 10, 50, 50)
    assert link_tracks([[face], [], [], [face]]) == [[0], [], [], [0]]
    assert link_tracks([[face], [], [], [face]], max_missed=1) == [[0], [], [], [1]]


def test_a_face_that_jumped_between_sparse_frames_joins_the_nearest_track_of_its_size(make_face: MakeFace) -> None:
    before = [make_face(0, 0, 40, 40), make_face(200, 0, 240, 40)]
    after = [make_face(155, 0, 195, 40), make_face(45, 0, 85, 40)]
    assert link_tracks([before, after]) == [[0, 1], [1, 0]]


def test_a_face_far_away_or_of_another_size_begins_a_new_track(make_face: MakeFace) -> None:
    assert link_tracks([[make_face(0, 0, 40, 40)], [make_face(300, 0, 340, 40)]]) == [[0], [1]]
    assert link_tracks([[make_face(0, 0, 40, 40)], [make_face(42, 0, 52, 10)]]) == [[0], [1]]


def test_overlap_wins_over_nearness(make_face: MakeFace) -> None:
    tall, small = make_face(0, 0, 40, 200), make_face(45, 90, 85, 130)
    assert link_tracks([[tall, small], [make_face(5, 0, 44, 200), make_face(46, 92, 86, 132)]]) == [[0, 1], [0, 1]]


def test_the_largest_person_is_followed_and_none_stands_where_it_is_lost(make_face: MakeFace) -> None:
    main = [make_face(10 + i, 10, 60 + i, 60) for i in range(4)]
    other = make_face(150, 10, 180, 40)
    frames = [[main[0], other], [other], [other, main[2]], [main[3]]]
    assert follow_largest(frames) == [main[0], None, main[2], main[3]]


def test_one_huge_false_alarm_does_not_take_over(make_face: MakeFace) -> None:
    main = [make_face(10, 10, 60, 60) for _ in range(10)]
    alarm = make_face(200, 200, 320, 320)
    assert follow_largest([[alarm, main[0]], *[[face] for face in main[1:]]]) == main


def test_frames_without_any_face_give_none_each() -> None:
    assert follow_largest([[], [], []]) == [None, None, None]
    assert follow_largest([]) == []
    assert link_tracks([[], []]) == [[], []]


def test_an_empty_box_is_linked_without_a_crash(make_face: MakeFace) -> None:
    point = make_face(5, 5, 5, 5)
    assert link_tracks([[point], [point]]) == [[0], [0]]


def test_two_faces_of_a_frame_never_share_a_track(make_face: MakeFace) -> None:
    assert link_tracks([[make_face(0, 0, 40, 40)], [make_face(5, 0, 45, 40), make_face(1, 0, 41, 40)]]) == [[0], [1, 0]]
