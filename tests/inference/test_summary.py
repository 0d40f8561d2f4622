import pytest

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.inference.deciding import Deciding, conclude, find_key_frames, find_ranges, sum_up
from unmask.inference.results import FaceScore, FrameResult, TimeRange
from unmask.types import MediaKind, Verdict

BOX = (0.0, 0.0, 9.0, 9.0)


def make_frames(*scores: float) -> list[FrameResult]:
    return [
        FrameResult(10 * number, float(number), (FaceScore(0, BOX, 0.9, score),)) for number, score in enumerate(scores)
    ]


def test_ranges_join_neighbours_and_keep_the_highest_score() -> None:
    frames = make_frames(0.1, 0.7, 0.9, 0.2, 0.8)
    faces = sum_up(frames, decision=Decision(), deciding=Deciding(), margin=0.0)
    assert find_ranges(frames, faces, threshold=0.5) == (TimeRange(1.0, 2.0, 0.9), TimeRange(4.0, 4.0, 0.8))


def test_a_face_that_does_not_decide_makes_no_range() -> None:
    frames = make_frames(*[0.1] * 20)
    passer_by = FrameResult(55, 5.5, (FaceScore(1, BOX, 0.9, 0.99),))
    faces = sum_up([*frames, passer_by], decision=Decision(), deciding=Deciding(), margin=0.0)
    assert find_ranges([*frames, passer_by], faces, threshold=0.5) == ()


def test_key_frames_lie_on_the_side_of_the_verdict() -> None:
    fake, real = make_frames(0.9, 0.2, 0.7, 0.8), make_frames(0.4, 0.1, 0.6, 0.2)
    for frames, expected in ((fake, (0, 30)), (real, (10, 30))):
        faces = sum_up(frames, decision=Decision(), deciding=Deciding(), margin=0.0)
        assert find_key_frames(frames, faces, threshold=0.5, limit=2) == expected


def test_no_faces_have_no_key_frames() -> None:
    assert find_key_frames([FrameResult(0, 0.0, ())], [], threshold=0.5) == ()


def test_main_face_decides_alone_if_asked() -> None:
    large = (0.0, 0.0, 50.0, 50.0)
    frames = [
        FrameResult(number, float(number), (FaceScore(0, BOX, 0.9, 0.9), FaceScore(1, large, 0.9, 0.2)))
        for number in range(3)
    ]
    often = [*frames, FrameResult(3, 3.0, (FaceScore(0, BOX, 0.9, 0.9),))]
    for seen, face, expected in ((frames, "most_fake", {0, 1}), (frames, "main", {1}), (often, "main", {0})):
        rows = sum_up(seen, decision=Decision(), deciding=Deciding(face), margin=0.0)
        assert {row.track for row in rows if row.decides} == expected


def test_share_of_frames_that_a_face_needs_is_set() -> None:
    frames = [FrameResult(n, float(n), (FaceScore(min(n, 1), BOX, 0.9, 0.9),)) for n in range(4)]  # 1 and 3
    for min_share, expected in ((0.2, {0, 1}), (0.5, {1}), (1.0, {1})):
        rows = sum_up(frames, decision=Decision(), deciding=Deciding(min_share=min_share), margin=0.0)
        assert {row.track for row in rows if row.decides} == expected


def test_face_or_share_that_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match=r"deciding\.face=largest must be one of: most_fake, main"):
        Deciding("largest")
    with pytest.raises(ConfigError, match=r"deciding\.min_share=7 must be a number from 0 to 1"):
        Deciding(min_share=7)


def test_highest_face_of_each_frame_is_the_score_of_a_file_for_frame_max() -> None:
    # Neither face is forged in every frame, but one of them always is, as when a forged face moves between people.
    pairs = ((0.9, 0.1), (0.1, 0.8), (0.7, 0.2), (0.2, 0.8))
    frames = [
        FrameResult(n, float(n), tuple(FaceScore(track, BOX, 0.9, score) for track, score in enumerate(pair)))
        for n, pair in enumerate(pairs)
    ]
    options = {"deciding": Deciding(suspicious_share=None), "margin": 0.0, "notes": ()}
    found = {
        name: conclude("clip.mp4", MediaKind.VIDEO, frames, decision=Decision(aggregation=name), **options)  # type: ignore[arg-type]
        for name in ("mean", "frame_max")
    }
    assert found["mean"].score == pytest.approx(0.475)
    assert found["frame_max"].score == pytest.approx((0.9 + 0.8 + 0.7 + 0.8) / 4)
    assert found["frame_max"].verdict is Verdict.FAKE
    assert "0 of 2" not in found["frame_max"].headline
