import numpy as np
import pytest

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.metrics.threshold import CRITERIA, choose_threshold


@pytest.mark.parametrize("criterion", CRITERIA)
def test_threshold_of_separable_scores_is_the_middle_of_the_gap(criterion: str) -> None:
    decision = choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], criterion=criterion, aggregation="max")
    assert decision == Decision(threshold=0.5, aggregation="max", criterion=criterion)


def test_threshold_may_lie_far_from_one_half() -> None:
    assert choose_threshold([0, 0, 1, 1], [0.96, 0.97, 0.98, 0.99]).threshold == pytest.approx(0.975)


def test_balanced_accuracy_weights_both_classes_equally() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.45, 0.46]
    labels = [0, 0, 1, 1, 1, 1, 1, 0, 0]
    # Seven of nine are correct at 0.25 and at 0.48; the latter is correct on more reals, the smaller class.
    assert choose_threshold(labels, scores).threshold == pytest.approx(0.48)


def test_f1_favours_finding_the_fakes() -> None:
    labels = [0, 0, 1, 1, 1, 1, 1, 0, 0]
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.45, 0.46]
    assert choose_threshold(labels, scores, criterion="f1").threshold == pytest.approx(0.25)


def test_equal_error_rate_balances_misses_and_false_alarms() -> None:
    labels = np.array([0] * 4 + [1] * 8)
    scores = np.array([0.1, 0.2, 0.3, 0.75, 0.25, 0.35, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95])
    threshold = choose_threshold(labels, scores, criterion="eer").threshold
    assert (scores[labels == 0] >= threshold).mean() == (scores[labels == 1] < threshold).mean() == 0.25


def test_widest_of_equally_good_gaps_wins() -> None:
    # Between 0.1 and 0.2, and between 0.3 and 0.9, the balanced accuracy is the same.
    assert choose_threshold([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.9]).threshold == pytest.approx(0.6)


def test_threshold_of_equal_scores_lies_above_them() -> None:
    decision = choose_threshold([0, 1, 0, 1], [0.2, 0.2, 0.2, 0.2])
    assert 0.2 < decision.threshold < 1.0


def test_threshold_separates_scores_of_exactly_zero_and_one() -> None:
    assert choose_threshold([0, 0, 1], [0.0, 0.0, 1.0]).threshold == pytest.approx(0.5)


def test_a_single_class_keeps_the_default_threshold_and_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_threshold([1, 1], [0.1, 0.9]) == Decision(threshold=0.5, criterion="default")
    assert all(part in caplog.text for part in ("2 validation scores", "0.5"))


def test_unknown_criterion_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"threshold_criterion 'accuracy'.*balanced_accuracy, f1, eer"):
        choose_threshold([0, 1], [0.1, 0.9], criterion="accuracy")
