import re

import numpy as np
import pytest

from unmask.metrics.plots import draw_confusion, draw_levels, draw_reliability

LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.9, 0.2, 0.7, 0.8, 0.9, 1.0])


def test_confusion_counts_each_class_at_the_threshold() -> None:
    svg = draw_confusion((LABELS, SCORES), threshold=0.5, unit="videos")
    assert svg is not None
    comments = re.findall(r"<!-- (.+?) -->", svg)
    assert [text for text in comments if re.fullmatch(r"\d+", text)] == ["2", "1", "1", "4"] or "66.7%" in svg


@pytest.mark.parametrize(("scores", "error"), [(LABELS.astype(float), "0.000"), (1.0 - LABELS, "1.000")])
def test_reliability_shows_the_calibration_error(scores: np.ndarray, error: str) -> None:
    svg = draw_reliability((LABELS, scores), unit="videos")
    assert svg is not None
    assert f"calibration error {error}" in svg


def test_no_scores_give_no_plot() -> None:
    empty = (np.array([], int), np.array([]))
    assert draw_confusion(empty, threshold=0.5, unit="videos") is None
    assert draw_reliability(empty, unit="videos") is None


def test_levels_have_a_panel_each_and_gaps_where_nothing_is_known() -> None:
    panels = {
        "blur": ([0, 1, 5], {"ROC-AUC per video": [0.9, 0.8, None], "coverage": [1.0, 1.0, 0.5]}),
        "H.264": ([0, 3], {"ROC-AUC per video": [0.9, 0.6], "coverage": [1.0, 1.0]}),
    }
    svg = draw_levels(panels)
    texts = re.findall(r"<!-- (.+?) -->", svg)
    assert texts.count("blur") == texts.count("H.264") == 1
    assert texts.count("clean") == 2
    assert texts.count("coverage") == 1  # one legend for all
    assert svg.count("<use") > draw_levels({"blur": ([0], {"coverage": [1.0]})}).count("<use")
