import math

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error

from unmask.decision import Decision
from unmask.metrics.figures import (
    FALSE_POSITIVE_RATES,
    classify,
    describe_verdicts,
    find_equal_error_rate,
    measure_calibration_error,
)

Scored = tuple[np.ndarray, np.ndarray]


@pytest.fixture(params=["distinct", "tied"])
def scored(request: pytest.FixtureRequest) -> Scored:
    rng = np.random.default_rng(3)
    labels = (rng.random(700) < 0.7).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(labels - 0.5, 1.0)))
    return labels, scores if request.param == "distinct" else np.round(scores, 1)


def test_metrics_agree_with_sklearn(scored: Scored) -> None:
    labels, scores = scored
    threshold = 0.45
    called = (scores >= threshold).astype(int)
    figures = classify(labels, scores, threshold=threshold)
    false_rate, true_rate, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    expected = {
        "accuracy": sk.accuracy_score(labels, called),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "precision": sk.precision_score(labels, called),
        "recall": sk.recall_score(labels, called),
        "specificity": sk.recall_score(labels, called, pos_label=0),
        "f1": sk.f1_score(labels, called),
        "mcc": sk.matthews_corrcoef(labels, called),
        "hter": 1 - sk.balanced_accuracy_score(labels, called),
        "auroc": sk.roc_auc_score(labels, scores),
        "auprc": sk.average_precision_score(labels, scores),
        "pauc_0.1": sk.roc_auc_score(labels, scores, max_fpr=0.1),
        "log_loss": sk.log_loss(labels, np.clip(scores, 1e-15, 1 - 1e-15)),
        "brier": sk.brier_score_loss(labels, scores),
        "eer": brentq(lambda x: 1 - x - interp1d(false_rate, true_rate)(x), 0, 1),
        **{f"tpr_at_fpr_{rate}": true_rate[false_rate <= rate].max() for rate in FALSE_POSITIVE_RATES},
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert figures["confusion"] == sk.confusion_matrix(labels, called).tolist()
    names = {"target_names": ["real", "fake"]}
    assert figures["report"]["fake"] == pytest.approx(
        sk.classification_report(labels, called, output_dict=True, **names)["fake"]
    )
    assert figures["report_text"] == sk.classification_report(labels, called, digits=4, **names)


def test_calibration_error_agrees_with_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500), rng.random(500)
    expected = binary_calibration_error(torch.tensor(scores), torch.tensor(labels), n_bins=15, norm="l1")
    assert measure_calibration_error(labels, scores) == pytest.approx(float(expected), abs=1e-6)
    assert classify(labels, scores, threshold=0.5)["ece"] == measure_calibration_error(labels, scores)


def test_calibration_error_of_weighted_scores_is_that_of_repeated_ones() -> None:
    labels, scores, weights = [0, 1, 1, 0], [0.2, 0.3, 0.9, 0.95], [3, 1, 2, 1]
    repeated = measure_calibration_error(np.repeat(labels, weights), np.repeat(scores, weights))
    assert measure_calibration_error(labels, scores, weights=weights) == pytest.approx(repeated)


def test_equal_error_rate_lies_between_two_points_of_the_curve() -> None:
    # From (0, 0) to (0.5, 1): 1 - tpr = fpr where fpr = 1 / 3.
    assert find_equal_error_rate(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0])) == pytest.approx(1 / 3)
    assert find_equal_error_rate(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0])) == 0.0
    assert find_equal_error_rate(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0])) == 1.0


def test_equal_error_rate_and_areas_of_a_binormal_model() -> None:
    # Two unit normals at distance d: AUC = Phi(d / sqrt(2)), EER = Phi(-d / 2) (Green and Swets, 1966).
    rng, distance = np.random.default_rng(0), 1.5
    labels = np.repeat([0, 1], 200_000)
    values = rng.normal(distance * labels)
    figures = classify(labels, 1 / (1 + np.exp(-values)), threshold=0.5)
    normal = lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2)))  # noqa: E731
    assert figures["auroc"] == pytest.approx(normal(distance / math.sqrt(2)), abs=0.002)
    assert figures["eer"] == pytest.approx(normal(-distance / 2), abs=0.002)
    assert figures["tpr_at_fpr_0.05"] == pytest.approx(normal(distance - 1.6448536), abs=0.005)


def test_scores_without_information_have_a_partial_area_of_one_half() -> None:
    assert classify([0, 1] * 50, [0.5] * 100, threshold=0.5)["pauc_0.1"] == pytest.approx(0.5)


def test_half_total_error_of_a_transferred_threshold_is_worse_than_the_equal_error_rate() -> None:
    # Scores that shifted up on another dataset: the order is perfect, the threshold is not.
    figures = classify([0, 0, 1, 1], [0.6, 0.7, 0.8, 0.9], threshold=0.5)
    assert (figures["eer"], figures["hter"]) == (0.0, 0.5)


def test_undefined_metrics_have_a_reason() -> None:
    one_class = classify([1, 1], [0.1, 0.9], threshold=0.5)
    assert one_class["mcc"] is one_class["eer"] is one_class["specificity"] is None
    assert "real" in one_class["undefined"]["auroc"]
    assert one_class["brier"] == pytest.approx((0.81 + 0.01) / 2)
    assert "fake" in classify([0, 1], [0.1, 0.2], threshold=0.5)["undefined"]["precision"]
    empty = classify([], [], threshold=0.5)
    assert set(empty["undefined"]) == {name for name, value in empty.items() if value is None}
    assert classify([0, 1], [0.1, 0.9], threshold=0.5)["undefined"] == {}


def test_rates_that_rest_on_too_few_reals_are_noted() -> None:
    labels = [0] * 300 + [1] * 10
    notes = classify(labels, np.linspace(0, 1, 310), threshold=0.5)["notes"]
    assert set(notes) == {"tpr_at_fpr_0.001", "tpr_at_fpr_0.01"}  # 1 % takes 1,000 reals, 5 % takes 200
    assert "300" in notes["tpr_at_fpr_0.01"]
    assert "1,000" in notes["tpr_at_fpr_0.01"]


@pytest.mark.parametrize("scores", [[0.1, 1.2], [0.1, -0.1], [0.1, float("inf")], [0.1, float("nan")], [0.1]])
def test_scores_that_are_not_probabilities_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        classify([0, 1], scores, threshold=0.5)


def test_labels_other_than_real_and_fake_are_refused() -> None:
    with pytest.raises(ValueError, match="labels 0 and 1"):
        classify([0, 2], [0.1, 0.2], threshold=0.5)


def test_verdicts_are_counted_and_both_classes_weigh_alike() -> None:
    decision = Decision(threshold=0.5, margin=0.2)  # uncertain between 0.4 and 0.6
    described = describe_verdicts([0, 0, 0, 1, 1], [0.1, 0.45, 0.9, 0.9, 0.1], decision=decision)
    assert described["uncertain"] == pytest.approx(1 / 5)
    # Of the reals, a third is decided wrongly and a third rightly; of the fakes, half and half.
    assert described["decided_error"] == pytest.approx((1 / 3 + 1 / 2) / (2 / 3 + 1))
    assert described["calibrated"] is None


def test_probabilities_of_a_decision_are_measured_with_balanced_classes() -> None:
    labels, scores = np.array([0, 0, 0, 1]), np.array([0.2, 0.4, 0.6, 0.9])
    figures = describe_verdicts(labels, scores, decision=Decision(calibration=(2.0, 0.5)))["calibrated"]
    chances = [Decision(calibration=(2.0, 0.5)).probability(score) for score in scores]
    weights = [1 / 6, 1 / 6, 1 / 6, 1 / 2]
    assert figures["brier"] == pytest.approx(sk.brier_score_loss(labels, chances, sample_weight=weights))
    assert figures["log_loss"] == pytest.approx(sk.log_loss(labels, chances, sample_weight=weights))
