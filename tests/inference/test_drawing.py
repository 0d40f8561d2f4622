from importlib.resources import files

import numpy as np
import pytest

from unmask.inference.annotate import _between, colour_of, draw_faces, draw_heat, hex_of, list_heat_colours
from unmask.inference.results import FaceScore, FrameResult
from unmask.types import Verdict

GREY = np.full((300, 300, 3), 128, np.uint8)
BOX = (100.0, 100.0, 200.0, 200.0)


def face(verdict: Verdict | None, score: float = 0.9) -> FaceScore:
    return FaceScore(0, BOX, 0.9, score, verdict=verdict)


@pytest.mark.parametrize("verdict", [Verdict.REAL, Verdict.FAKE, Verdict.UNCERTAIN, None])
def test_a_box_has_the_colour_of_the_score_in_its_frame(verdict: Verdict | None) -> None:
    marked = draw_faces(GREY, [face(verdict)])
    assert tuple(marked[200, 150]) == colour_of(verdict)


def test_letters_can_be_larger_or_left_out() -> None:
    def count(letters: float) -> int:
        return int((draw_faces(GREY, [face(Verdict.FAKE)], letters=letters) == colour_of(Verdict.FAKE)).all(2).sum())

    assert count(0) < count(0.55) < count(0.95)


def test_verdicts_differ_in_colour() -> None:
    assert len({hex_of(verdict) for verdict in Verdict}) == len(Verdict)


def test_between_examined_frames_the_colour_is_that_of_the_last_one() -> None:
    first, then = FrameResult(0, 0.0, (face(Verdict.FAKE),)), FrameResult(9, 1.0, (face(Verdict.REAL, 0.1),))
    ((before,), (at_end,)) = _between(first, then, 0.9), _between(then, then, 1.0)
    assert (before.verdict, at_end.verdict) == (Verdict.FAKE, Verdict.REAL)


def test_lines_of_a_title_stand_below_each_other_and_inside_a_narrow_image() -> None:
    narrow = np.full((200, 120, 3), 128, np.uint8)
    marked = draw_faces(narrow, [], title=["Uncertain: 2 of 4 seconds look forged", "Model trained on drawn faces"])
    rows = np.flatnonzero((marked != 128).any(axis=(1, 2)))
    assert rows[0] == 0
    assert rows[-1] > 8
    assert (marked[:, -1] == 128).all() or (marked[:, -1] == 40).any()  # not white letters cut by the edge


def test_the_legend_of_heat_maps_has_their_colours_in_the_app_and_on_the_page() -> None:
    first, *_, last = list_heat_colours(7)
    heat = draw_heat(np.zeros((2, 2, 3), np.uint8), np.array([[0.0, 1.0], [0.0, 1.0]]), opacity=1)
    assert [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in heat[0].tolist()] == [first, last]
    style = (files("unmask.web.api") / "static" / "style.css").read_text()
    assert f"linear-gradient(90deg, {', '.join(list_heat_colours(7))})" in style
