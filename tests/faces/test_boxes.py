from collections.abc import Callable

import numpy as np
import pytest

from unmask.faces.boxes import box_area, largest_first, overlaps, suppress
from unmask.types import Face

MakeFace = Callable[..., Face]


def test_overlap_is_intersection_over_union() -> None:
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]], dtype=float)
    np.testing.assert_allclose(overlaps(np.array([0.0, 0, 10, 10]), others), [1, 50 / 150, 0, 4 / 100])


def test_boxes_without_area_overlap_nothing() -> None:
    empty = np.array([5.0, 5, 5, 5])
    np.testing.assert_array_equal(overlaps(empty, np.stack([empty, [9.0, 9, 1, 1]])), [0, 0])
    assert box_area((9, 9, 1, 1)) == 0


def test_suppression_keeps_the_most_confident_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [6, 0, 16, 10]], dtype=float)
    scores = np.array([0.7, 0.9, 0.5, 0.6])
    assert suppress(boxes, scores, iou=0.4).tolist() == [1, 3, 2]
    assert suppress(boxes, scores, iou=0.9).tolist() == [1, 0, 3, 2]


def test_suppression_of_nothing_is_nothing() -> None:
    assert suppress(np.empty((0, 4)), np.empty(0), iou=0.4).size == 0


@pytest.mark.parametrize("turned", [False, True])
def test_faces_are_sorted_by_area_whatever_their_order(make_face: MakeFace, turned: bool) -> None:
    faces = [make_face(0, 0, 5, 5), make_face(0, 0, 50, 50), make_face(60, 0, 65, 5)]
    ordered = largest_first(reversed(faces) if turned else faces)
    assert [face.box for face in ordered] == [(0, 0, 50, 50), (0, 0, 5, 5), (60, 0, 65, 5)]
