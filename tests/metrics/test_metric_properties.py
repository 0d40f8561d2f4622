import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.decision import AGGREGATIONS, Decision
from unmask.metrics.comparison import delong
from unmask.metrics.figures import classify
from unmask.metrics.intervals import BootstrapOptions, find_intervals
from unmask.metrics.scores import aggregate_scores, figures_of
from unmask.metrics.threshold import CALIBRATIONS, CRITERIA, choose_threshold

Rows = list[tuple[int, float]]

SCORES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=1, max_size=40)
BOTH = ROWS.filter(lambda rows: {label for label, _ in rows} == {0, 1})
THRESHOLDS = st.floats(0.01, 0.99)
RANKED = ("auroc", "eer", "mcc", "balanced_accuracy", "hter", "accuracy", "log_loss", "brier")

quickly = settings(max_examples=60, deadline=None)


def split(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = zip(*rows, strict=True)
    return np.array(labels), np.array(scores)


def plain(figures: dict) -> dict:
    return {name: value for name, value in figures.items() if isinstance(value, float | int)}


@quickly
@given(ROWS, THRESHOLDS, st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_the_order(rows: Rows, threshold: float, random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    figures = [classify(*split(each), threshold=threshold) for each in (rows, shuffled)]
    assert plain(figures[0]) == pytest.approx(plain(figures[1]), abs=1e-9)
    assert figures[0]["confusion"] == figures[1]["confusion"]


@quickly
@given(BOTH)
def test_swapping_the_classes_and_the_scores_keeps_what_treats_both_alike(rows: Rows) -> None:
    labels, scores = split(rows)
    scores = scores.round(6)  # so that 1 - score keeps ties and order
    threshold = 0.5000005  # no score, and none of the swapped ones
    figures = classify(labels, scores, threshold=threshold)
    swapped = classify(1 - labels, 1 - scores, threshold=1 - threshold)
    assert {name: swapped[name] for name in RANKED} == pytest.approx({name: figures[name] for name in RANKED}, abs=1e-6)
    assert swapped["recall"] == figures["specificity"]


@quickly
@given(BOTH, THRESHOLDS)
def test_every_rate_lies_between_0_and_1(rows: Rows, threshold: float) -> None:
    figures = classify(*split(rows), threshold=threshold)
    values = {name: figures[name] for name in figures if isinstance(figures[name], float) and name != "log_loss"}
    assert all(0 <= value <= 1 + 1e-12 for name, value in values.items() if name != "mcc"), values
    assert -1 <= figures["mcc"] <= 1
    assert figures["hter"] + figures["balanced_accuracy"] == pytest.approx(1)
    assert (figures["eer"] < 1e-12) == (figures["auroc"] > 1 - 1e-12)


@quickly
@given(BOTH)
def test_a_monotone_change_of_the_scores_keeps_the_ranking_metrics(rows: Rows) -> None:
    labels, scores = split(rows)
    scores = scores.round(4)
    before, after = (classify(labels, each, threshold=0.5) for each in (scores, (scores + 1) / 4))
    names = [name for name in before if name in ("auroc", "auprc", "eer", "pauc_0.1") or name.startswith("tpr_at")]
    assert {name: before[name] for name in names} == pytest.approx({name: after[name] for name in names}, abs=1e-9)


@quickly
@given(st.integers(1, 30), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 1))
def test_one_class_or_one_video_says_why_a_metric_is_missing(num: int, score: float, label: int) -> None:
    figures = classify([label] * num, [score] * num, threshold=0.5)
    assert figures["auroc"] is None
    assert set(figures["undefined"]) == {name for name, value in figures.items() if value is None}
    groups = np.arange(num)
    found = find_intervals(
        figures, [label] * num, [score] * num, groups, threshold=0.5, options=BootstrapOptions(draws=100)
    )
    assert bool(found) == (num > 1)
    assert "auroc" not in found


@settings(max_examples=25, deadline=None)
@given(BOTH, st.integers(1, 10))
def test_intervals_hold_finite_ordered_bounds(rows: Rows, num_groups: int) -> None:
    labels, scores = split(rows)
    figures = classify(labels, scores, threshold=0.5)
    options = BootstrapOptions(draws=100)
    found = find_intervals(figures, labels, scores, np.arange(len(rows)) % num_groups, threshold=0.5, options=options)
    for name, interval in found.items():
        assert np.isfinite(list(interval.values())).all(), name
        assert interval["low"] <= interval["high"]
        assert interval["value"] == figures[name]


@quickly
@given(BOTH.filter(lambda rows: min(np.bincount([label for label, _ in rows])) > 1))
def test_variance_of_the_area_is_never_negative(rows: Rows) -> None:
    labels, scores = split(rows)
    areas, covariance = delong(labels, scores)
    assert areas[0] == pytest.approx(classify(labels, scores, threshold=0.5)["auroc"])
    assert covariance[0, 0] >= 0


@quickly
@given(st.sampled_from([*AGGREGATIONS, "top_1", "top_3"]), st.lists(SCORES, min_size=1, max_size=60), st.data())
def test_many_videos_are_aggregated_as_each_of_them(aggregation: str, scores: list[float], data: st.DataObject) -> None:
    frames = data.draw(st.lists(st.integers(0, 5), min_size=len(scores), max_size=len(scores)))
    together = aggregate_scores(
        [*scores, 0.5, *scores[::-1]],
        [1] * len(scores) + [0] + [2] * len(scores),
        aggregation=aggregation,
        frames=[*frames, 0, *frames[::-1]],
    )
    alone = Decision(aggregation=aggregation).aggregate(scores, frames)
    assert together.tolist() == pytest.approx([0.5, alone, alone], abs=1e-12)
    assert min(scores) - 1e-12 <= alone <= max(scores) + 1e-12


@quickly
@given(BOTH, st.sampled_from([*CRITERIA, "fpr_0.2"]), st.sampled_from(CALIBRATIONS), st.sampled_from([None, 0.05]))
def test_chosen_decision_is_valid_and_survives_the_checkpoint(
    rows: Rows, criterion: str, calibration: str, error: float | None
) -> None:
    labels, scores = split(rows)
    decision = choose_threshold(labels, scores, criterion=criterion, calibration=calibration, uncertain_error=error)
    assert Decision.from_dict(decision.to_dict()) == decision
    chances = [decision.probability(score) for score in sorted(scores.tolist())]
    assert chances == sorted(chance for chance in chances if chance is not None) or chances == [None] * len(rows)
    if criterion == "fpr_0.2":
        assert (scores[labels == 0] >= decision.threshold).mean() <= 0.2 + 1e-9 or decision.threshold in scores


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_table_with_a_score_that_is_no_probability_is_refused(bad: float) -> None:
    frames = pd.DataFrame(
        {"video_id": ["a", "b"], "label": [0, 1], "method": ["original", "FaceSwap"], "score": [0.2, bad]}
    )
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        figures_of(frames, decision=Decision())
