from unmask.decision import Decision
from unmask.inference.results import FaceScore, FrameResult, TimeRange
from unmask.inference.summary import find_key_frames, find_ranges, sum_up

BOX = (0.0, 0.0, 9.0, 9.0)


def make_frames(*scores: float) -> list[FrameResult]:
    return [
        FrameResult(10 * number, float(number), (FaceScore(0, BOX, 0.9, score),)) for number, score in enumerate(scores)
    ]


def test_ranges_join_neighbours_and_keep_the_highest_score() -> None:
    frames = make_frames(0.1, 0.7, 0.9, 0.2, 0.8)
    faces = sum_up(frames, decision=Decision(), margin=0.0)
    assert find_ranges(frames, faces, threshold=0.5) == (TimeRange(1.0, 2.0, 0.9), TimeRange(4.0, 4.0, 0.8))


def test_a_face_that_does_not_decide_makes_no_range() -> None:
    frames = make_frames(*[0.1] * 20)
    passer_by = FrameResult(55, 5.5, (FaceScore(1, BOX, 0.9, 0.99),))
    faces = sum_up([*frames, passer_by], decision=Decision(), margin=0.0)
    assert find_ranges([*frames, passer_by], faces, threshold=0.5) == ()


def test_key_frames_lie_on_the_side_of_the_verdict() -> None:
    fake, real = make_frames(0.9, 0.2, 0.7, 0.8), make_frames(0.4, 0.1, 0.6, 0.2)
    for frames, expected in ((fake, (0, 30)), (real, (10, 30))):
        faces = sum_up(frames, decision=Decision(), margin=0.0)
        assert find_key_frames(frames, faces, threshold=0.5, limit=2) == expected


def test_no_faces_have_no_key_frames() -> None:
    assert find_key_frames([FrameResult(0, 0.0, ())], [], threshold=0.5) == ()
