import math
from collections.abc import Callable

import numpy as np
import pytest

from unmask.faces.boxes import RawFaces, box_area, decode_faces, largest_first, make_anchors, overlaps, suppress
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


def test_anchors_stand_at_the_centres_of_every_cell_of_three_grids() -> None:
    anchors = make_anchors(height=40, width=70)
    assert len(anchors) == 2 * (5 * 9 + 3 * 5 + 2 * 3)
    np.testing.assert_array_equal(anchors[:3], [[4, 4, 16], [4, 4, 32], [12, 4, 16]])
    np.testing.assert_array_equal(anchors[2 * 9], [4, 12, 16])
    np.testing.assert_array_equal(anchors[-1], [80, 48, 512])


def test_offsets_are_decoded_to_boxes_and_landmarks_of_the_original() -> None:
    anchors = make_anchors(height=32, width=32)
    offsets, points = np.zeros((len(anchors), 4)), np.zeros((len(anchors), 10))
    scores = np.zeros(len(anchors))
    chosen = 9  # two anchors a cell, four cells a row: the second anchor of the second row
    assert anchors[chosen].tolist() == [4, 12, 32]
    offsets[chosen] = [1, -1, 5 * math.log(2), 0]
    points[chosen] = np.arange(10)
    scores[chosen] = 0.9
    [face] = decode_faces(RawFaces(offsets, scores, points), anchors, confidence=0.5, nms_iou=0.4, scale=(2.0, 3.0))
    x, y = 4 + 3.2, 12 - 3.2
    assert face.box == pytest.approx(((x - 32) * 2, (y - 16) * 3, (x + 32) * 2, (y + 16) * 3))
    assert face.landmarks is not None
    assert face.landmarks[2] == pytest.approx(((4 + 4 * 3.2) * 2, (12 + 5 * 3.2) * 3))
    assert face.confidence == pytest.approx(0.9)


def test_faces_below_the_confidence_are_dropped() -> None:
    anchors = make_anchors(height=64, width=64)
    raw = RawFaces(np.zeros((len(anchors), 4)), np.full(len(anchors), 0.5), np.zeros((len(anchors), 10)))
    assert decode_faces(raw, anchors, confidence=0.5, nms_iou=0.4, scale=(1, 1)) == []
    assert decode_faces(raw, anchors, confidence=0.4, nms_iou=0.4, scale=(1, 1))
