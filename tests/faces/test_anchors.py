import math

import numpy as np
import pytest

from unmask.faces.boxes import RawFaces, decode_faces, make_anchors


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
