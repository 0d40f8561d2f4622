import json

import pytest

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.types import Verdict


def test_unknown_aggregation_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'mode'.*mean, median, max"):
        Decision(aggregation="mode")


def test_threshold_beyond_scores_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"1\.5.*from 0 to 1"):
        Decision(threshold=1.5)


def test_verdict_depends_on_threshold() -> None:
    decision = Decision(threshold=0.6)
    assert decision.verdict(0.6, margin=0.0) is Verdict.FAKE
    assert decision.verdict(0.59, margin=0.0) is Verdict.REAL


def test_scores_within_the_margin_are_uncertain() -> None:
    decision = Decision(threshold=0.6)
    assert decision.verdict(0.55, margin=0.1) is Verdict.UNCERTAIN
    assert decision.verdict(0.63, margin=0.1) is Verdict.UNCERTAIN
    assert decision.verdict(0.53, margin=0.1) is Verdict.REAL
    assert decision.verdict(0.65, margin=0.1) is Verdict.FAKE


def test_margin_about_a_threshold_near_one_leaves_room_for_fakes() -> None:
    decision = Decision(threshold=0.98)
    assert decision.verdict(0.999, margin=0.05) is Verdict.FAKE
    assert decision.verdict(0.97, margin=0.05) is Verdict.UNCERTAIN
    assert decision.verdict(0.9, margin=0.05) is Verdict.REAL


def test_no_score_means_no_face_and_not_one_half() -> None:
    assert Decision().verdict(None, margin=0.1) is Verdict.NO_FACE


def test_aggregations_differ_on_an_outlier() -> None:
    scores = [0.1, 0.2, 0.9]
    assert Decision(aggregation="mean").aggregate(scores) == pytest.approx(0.4)
    assert Decision(aggregation="median").aggregate(scores) == pytest.approx(0.2)
    assert Decision(aggregation="max").aggregate(scores) == pytest.approx(0.9)


def test_nothing_cannot_be_aggregated() -> None:
    with pytest.raises(ValueError, match="face"):
        Decision().aggregate([])


def test_decision_survives_the_checkpoint_and_keys_of_later_versions() -> None:
    decision = Decision(threshold=0.3, aggregation="median", criterion="f1")
    assert Decision.from_dict({**decision.to_dict(), "temperature": 1.0}) == decision


def test_calibration_survives_json() -> None:
    decision = Decision(calibration=(0.5, -1.0))
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision


def test_probability_is_the_score_where_calibration_changes_nothing() -> None:
    decision = Decision(calibration=(1.0, 0.0))
    assert decision.probability(0.3) == pytest.approx(0.3)
    assert 0 < (decision.probability(0.0) or 0) < 1e-5


def test_without_calibration_or_score_there_is_no_probability() -> None:
    assert Decision().probability(0.3) is None
    assert Decision(calibration=(1.0, 0.0)).probability(None) is None


@pytest.mark.parametrize("calibration", [(0.0, 0.0), (-1.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_calibration_with_a_slope_that_is_not_positive_is_refused(calibration: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"slope.*0"):
        Decision(calibration=calibration)


def test_decision_of_an_earlier_version_has_the_default_margin_and_no_curve() -> None:
    old = {"threshold": 0.4, "aggregation": "mean", "criterion": "f1", "calibration": [1.5, 0.1]}
    decision = Decision.from_dict(old)
    assert (decision.margin, decision.curve, decision.calibration) == (0.05, None, (1.5, 0.1))
    assert decision.verdict(0.42) is Verdict.UNCERTAIN


def test_top_scores_are_averaged_and_fewer_are_all() -> None:
    assert Decision(aggregation="top_2").aggregate([0.1, 0.9, 0.5, 0.7]) == pytest.approx(0.8)
    assert Decision(aggregation="top_5").aggregate([0.1, 0.3]) == pytest.approx(0.2)
    with pytest.raises(ConfigError, match="'top_0'"):
        Decision(aggregation="top_0")


def test_highest_face_of_each_frame_counts_for_frame_max() -> None:
    decision = Decision(aggregation="frame_max")
    assert decision.aggregate([0.1, 0.9, 0.2, 0.4], [7, 7, 8, 8]) == pytest.approx((0.9 + 0.4) / 2)
    assert decision.aggregate([0.1, 0.9]) == pytest.approx(0.5)  # each score is of a frame of its own


def test_confident_scores_decide_as_for_the_winner_of_the_dfdc() -> None:
    # Fakes decide if more than 11 scores, and more than 40 %, are above 0.8; reals if 90 % are below 0.2.
    decision = Decision(aggregation="confident")
    assert decision.aggregate([0.9] * 12 + [0.1] * 10) == pytest.approx(0.9)
    assert decision.aggregate([0.9] * 11 + [0.1] * 10) == pytest.approx((11 * 0.9 + 10 * 0.1) / 21)
    assert decision.aggregate([0.9] * 12 + [0.1] * 20) == pytest.approx((12 * 0.9 + 20 * 0.1) / 32)
    assert decision.aggregate([0.1] * 19 + [0.9]) == pytest.approx(0.1)
    assert decision.aggregate([0.1] * 18 + [0.9] * 2) == pytest.approx((1.8 + 1.8) / 20)


def test_curve_gives_probabilities_between_its_points() -> None:
    decision = Decision(curve=((0.2, 0.1), (0.4, 0.5), (0.8, 0.5)))
    assert [decision.probability(score) for score in (0.0, 0.2, 0.3, 0.6, 1.0)] == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.5]
    )
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision


@pytest.mark.parametrize("curve", [(), ((0.5, 0.2), (0.4, 0.3)), ((0.1, 0.5), (0.2, 0.4)), ((0.1, 1.5),)])
def test_curve_that_does_not_ascend_is_refused(curve: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ConfigError, match="curve"):
        Decision(curve=curve)


def test_own_margin_decides_unless_another_is_given() -> None:
    decision = Decision(threshold=0.5, margin=0.4)
    assert decision.verdict(0.65) is Verdict.UNCERTAIN
    assert decision.verdict(0.65, margin=0.0) is Verdict.FAKE
    with pytest.raises(ConfigError, match=r"margin=1\.5"):
        Decision(margin=1.5)
