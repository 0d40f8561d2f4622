from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from unmask.errors import MediaError
from unmask.faces.search import ENOUGH, SearchPlan, search_faces
from unmask.media.encode import write_video
from unmask.media.video import VideoIndex, choose_frames, index_video, read_indexed
from unmask.types import Face, Frame, Image


def search_all(has_face: Callable[[int], bool], *, num_frames: int, asked: Sequence[int], max_more: int) -> list[int]:
    """Return all positions searched, round after round."""
    plan = SearchPlan(num_frames, asked, max_more=max_more)
    searched, todo = [], list(asked)
    while todo:
        searched += todo
        for position in filter(has_face, todo):
            plan.note_face(position)
        todo = plan.choose_more()
    assert plan.num_planned == len(searched) == len(set(searched))
    assert all(0 <= position < num_frames for position in searched)
    return searched


def test_enough_faces_in_the_frames_asked_for_end_the_search() -> None:
    asked = choose_frames(1000, num_frames=32)
    assert search_all(lambda position: position < 300, num_frames=1000, asked=asked, max_more=500) == asked


def test_a_face_seen_only_between_the_frames_asked_for_is_found_and_its_stretch_searched() -> None:
    asked = choose_frames(600, num_frames=5)
    searched = search_all(lambda position: 250 <= position < 280, num_frames=600, asked=asked, max_more=500)
    assert searched[:5] == asked
    assert sum(250 <= position < 280 for position in searched) >= 5
    assert len(searched) < 60


def test_a_face_in_too_few_of_the_frames_asked_for_is_searched_for_beside_them() -> None:
    asked = choose_frames(3200, num_frames=32)
    searched = search_all(lambda position: 1000 <= position < 1200, num_frames=3200, asked=asked, max_more=500)
    more = searched[32:]
    assert ENOUGH <= sum(1000 <= position < 1200 for position in searched) <= 3 * ENOUGH
    assert all(850 < position < 1350 for position in more)


def test_a_false_alarm_does_not_end_the_search() -> None:
    asked = choose_frames(600, num_frames=5)
    searched = search_all(
        lambda position: position == asked[1] or 400 <= position < 430, num_frames=600, asked=asked, max_more=500
    )
    assert sum(400 <= position < 430 for position in searched) >= 4


def test_frames_before_the_first_and_after_the_last_asked_for_are_searched_too() -> None:
    searched = search_all(lambda position: position >= 97, num_frames=100, asked=[0, 45, 90], max_more=500)
    assert {97, 98, 99} <= set(searched)


@pytest.mark.parametrize("max_more", [0, 1, 7, 500])
def test_a_long_video_without_faces_costs_no_more_than_the_limit(max_more: int) -> None:
    asked = choose_frames(180_000, num_frames=32)
    searched = search_all(lambda _: False, num_frames=180_000, asked=asked, max_more=max_more)
    assert len(searched) == 32 + max_more
    assert max(np.diff(sorted(searched))) <= 180_000 / 31 + 1
    if max_more == 500:
        assert max(np.diff(sorted(searched))) < 1000


def test_a_short_video_without_faces_is_searched_to_its_last_frame() -> None:
    assert sorted(search_all(lambda _: False, num_frames=40, asked=[0], max_more=500)) == list(range(40))


class BrightFrames:
    name, weights_sha256 = "bright", ""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [[Face((0.0, 0.0, 9.0, 9.0), None, 1.0)] if image.mean() > 128 else [] for image in images]


@pytest.fixture
def index(tmp_path: Path) -> VideoIndex:
    frames = [np.full((32, 32, 3), 220 if 33 <= position < 44 else 20, np.uint8) for position in range(100)]
    write_video(tmp_path / "a.mp4", frames, fps=10)
    return index_video(tmp_path / "a.mp4")


def test_batches_hold_the_frames_of_each_round_and_say_how_many_are_planned(index: VideoIndex) -> None:
    batches = list(
        search_faces(partial(read_indexed, index), [0, 99], num_frames=100, detector=BrightFrames(), at_once=4)
    )
    assert [frame.index for frame in batches[0].frames] == [0, 99]
    assert all(len(batch.frames) <= 4 for batch in batches)
    planned = [batch.num_planned for batch in batches]
    assert planned == sorted(planned)
    assert planned[-1] == sum(len(batch.frames) for batch in batches)
    found = [frame.index for batch in batches for frame, faces in zip(batch.frames, batch.faces, strict=True) if faces]
    assert len(found) >= 2
    assert all(33 <= position < 44 for position in found)


def test_frames_of_a_later_round_that_cannot_be_decoded_are_no_error(index: VideoIndex) -> None:
    calls: list[Sequence[int]] = []

    def fail_later(wanted: Sequence[int]) -> Iterator[Frame]:
        calls.append(wanted)
        if len(calls) > 1:
            raise MediaError("damaged")
        yield from read_indexed(index, wanted)

    batches = list(search_faces(fail_later, [0, 99], num_frames=100, detector=BrightFrames(), at_once=4, max_more=10))
    assert [frame.index for batch in batches for frame in batch.frames] == [0, 99]
    assert sum(map(len, calls)) == 12
