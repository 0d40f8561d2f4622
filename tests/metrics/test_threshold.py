import numpy as np
import pytest

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.metrics.threshold import CRITERIA, choose_threshold


@pytest.mark.parametrize("criterion", CRITERIA)
def test_threshold_of_separable_scores_stands_in_the_middle_of_the_gap(criterion: str) -> None:
    decision = choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], criterion=criterion, aggregation="max")
    assert decision == Decision(threshold=0.5, aggregation="max", criterion=criterion)


def test_threshold_follows_scores_that_lie_far_from_one_half() -> None:
    assert choose_threshold([0, 0, 1, 1], [0.96, 0.97, 0.98, 0.99]).threshold == pytest.approx(0.975)


def test_balanced_accuracy_weighs_both_classes_alike() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.45, 0.46]
    labels = [0, 0, 1, 1, 1, 1, 1, 0, 0]
    # Seven of nine are right from 0.25 on and from 0.48 on; the second is right on more of the reals, who are fewer.
    assert choose_threshold(labels, scores).threshold == pytest.approx(0.48)


def test_f1_prefers_to_find_the_fakes() -> None:
    labels = [0, 0, 1, 1, 1, 1, 1, 0, 0]
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.45, 0.46]
    assert choose_threshold(labels, scores, criterion="f1").threshold == pytest.approx(0.25)


def test_equal_error_rate_balances_misses_and_false_alarms() -> None:
    labels = np.array([0] * 4 + [1] * 8)
    scores = np.array([0.1, 0.2, 0.3, 0.75, 0.25, 0.35, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])
    threshold = choose_threshold(labels, scores, criterion="eer").threshold
    assert (scores[labels == 0] >= threshold).mean() == (scores[labels == 1] < threshold).mean() == 0.25


def test_equally_good_gaps_yield_to_the_widest() -> None:
    # Between 0.1 and 0.2, and between 0.3 and 0.9, the balanced accuracy is the same.
    assert choose_threshold([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.9]).threshold == pytest.approx(0.6)


def test_no_threshold_divides_equal_scores() -> None:
    decision = choose_threshold([0, 1, 0, 1], [0.2, 0.2, 0.2, 0.2])
    assert 0.2 < decision.threshold < 1.0


def test_threshold_separates_scores_of_exactly_zero_and_one() -> None:
    assert choose_threshold([0, 0, 1], [0.0, 0.0, 1.0]).threshold == pytest.approx(0.5)


def test_one_class_keeps_the_default_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_threshold([1, 1], [0.1, 0.9]) == Decision(threshold=0.5, criterion="default")
    assert "2 validation scores are of one class only" in caplog.text


def test_unknown_criterion_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'accuracy'.*balanced_accuracy, f1, eer"):
        choose_threshold([0, 1], [0.1, 0.9], criterion="accuracy")
