import numpy as np
import pytest

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.metrics.figures import describe_verdicts
from unmask.metrics.threshold import CRITERIA, choose_aggregation, choose_threshold, find_margin


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


def test_youden_chooses_the_threshold_of_balanced_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 300), rng.random(300)
    chosen = [choose_threshold(labels, scores, criterion=name).threshold for name in ("youden", "balanced_accuracy")]
    assert chosen[0] == chosen[1]


def test_target_false_positive_rate_is_kept_and_finds_most_fakes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 1000)
    scores = rng.beta(2 + labels, 3 - labels)
    threshold = choose_threshold(labels, scores, criterion="fpr_0.1").threshold
    false_rate = (scores[labels == 0] >= threshold).mean()
    assert 0.095 < false_rate <= 0.1
    lower = np.max(scores[(labels == 0) & (scores < threshold)])  # one more real would be called fake
    assert (scores[labels == 0] >= lower).mean() > 0.1 - 1e-9


def test_a_target_rate_that_the_reals_cannot_support_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    choose_threshold([0] * 20 + [1] * 20, np.linspace(0, 1, 40), criterion="fpr_0.01")
    assert all(part in caplog.text for part in ("fpr_0.01", "20 real", "1000"))


@pytest.mark.parametrize("criterion", ["fpr_0", "fpr_1.5", "fpr_", "fpr_5"])
def test_a_target_that_is_no_rate_is_refused(criterion: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{criterion}'.*fpr_0\.05"):
        choose_threshold([0, 1], [0.1, 0.9], criterion=criterion)


def test_uncertain_band_is_the_narrowest_that_reaches_the_error() -> None:
    # Around the threshold of 0.5 lie a fake at 0.45 and a real at 0.6; beyond 0.6 everything is right.
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9])
    margin = find_margin(labels, scores, threshold=0.5, error=0.01)
    assert margin == pytest.approx((0.2 + 0.4) / 2)  # 0.6 is a fifth of the way to 1, 0.3 and 0.7 are two fifths
    # With 0.6 decided, one of four reals and none of three fakes would be wrong: 0.25 / (1 + 0.75).
    assert find_margin(labels, scores, threshold=0.5, error=0.15) == pytest.approx((0.1 + 0.2) / 2)
    assert find_margin(labels, scores, threshold=0.5, error=0.3) == 0.0


def test_uncertain_band_reaches_its_error_as_evaluation_measures_it() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(800) < 0.8).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(1.5 * labels - 0.75)))
    decision = choose_threshold(labels, scores, uncertain_error=0.1)
    found = describe_verdicts(labels, scores, decision=decision)
    assert 0.08 < found["decided_error"] <= 0.1
    assert 0 < found["uncertain"] < 0.9
    wider = choose_threshold(labels, scores, uncertain_error=0.05)
    assert wider.margin > decision.margin
    assert wider.threshold == decision.threshold


def test_an_error_that_no_band_reaches_keeps_the_default_margin(caplog: pytest.LogCaptureFixture) -> None:
    labels, scores = [0, 1] * 40, np.repeat(np.linspace(0, 1, 40), 2)
    assert choose_threshold(labels, scores, uncertain_error=0.01).margin == Decision().margin
    assert "uncertain_error=0.01" in caplog.text


@pytest.mark.parametrize("error", [0, 0.5, -1, "0.1"])
def test_an_uncertain_error_that_is_no_rate_is_refused(error: float) -> None:
    with pytest.raises(ConfigError, match=f"uncertain_error={error}"):
        choose_threshold([0, 1], [0.1, 0.9], uncertain_error=error)


def test_aggregation_with_the_best_ranking_of_videos_is_chosen() -> None:
    # Fakes are forged in one frame of four: the mean cannot tell, the maximum can.
    rng = np.random.default_rng(0)
    videos, labels = np.repeat(np.arange(60), 4), np.repeat(np.arange(60) % 2, 4)
    scores = rng.random(240) * 0.8
    scores[(np.arange(240) % 4 == 0) & (labels == 1)] = 0.9
    assert choose_aggregation(labels, scores, videos) == "max"


def test_faces_of_one_frame_are_told_apart_where_only_one_is_forged() -> None:
    # Two faces a frame, and the forged one beside a real one; the highest of each frame, and then the mean, is best.
    labels = np.repeat(np.arange(40) % 2, 16)
    videos, frames = np.repeat(np.arange(40), 16), np.tile(np.repeat(np.arange(8), 2), 40)
    rng = np.random.default_rng(1)
    scores = rng.random(640)
    scores[(np.arange(640) % 2 == 0) & (labels == 1)] += 0.1
    scores = scores.clip(0, 1)
    alone = [choose_aggregation(labels, scores, videos, frames=known) for known in (frames, None)]
    assert alone[0] == "frame_max"
    assert alone[1] != "frame_max"


def test_equally_good_aggregations_give_the_mean_and_so_does_one_class() -> None:
    assert choose_aggregation([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == "mean"
    assert choose_aggregation([1, 1], [0.1, 0.9], [0, 1]) == "mean"
