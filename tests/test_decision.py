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
