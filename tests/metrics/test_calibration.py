import numpy as np
import pytest

from unmask.decision import Decision
from unmask.metrics.threshold import MIN_PER_CLASS, choose_threshold, fit_calibration


def draw(*, num_real: int, num_fake: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log odds lie at slope * x + intercept of those that would be calibrated."""
    generator = np.random.default_rng(0)
    # Of two unit normals at -1 and 1, the log odds of the second are 2 x.
    places = np.concatenate([generator.normal(-1, 1, num_real), generator.normal(1, 1, num_fake)])
    labels = np.repeat([0, 1], [num_real, num_fake])
    return labels, 1 / (1 + np.exp(-(2 * places - intercept) / slope))


def test_calibration_finds_back_what_scores_were_distorted_by() -> None:
    labels, scores = draw(num_real=20_000, num_fake=20_000, slope=0.3, intercept=0.7)
    assert fit_calibration(labels, scores) == pytest.approx((0.3, 0.7), abs=0.03)


def test_shares_of_the_classes_do_not_move_it() -> None:
    labels, scores = draw(num_real=10_000, num_fake=40_000, slope=0.5, intercept=0.0)
    assert fit_calibration(labels, scores) == pytest.approx((0.5, 0.0), abs=0.05)


def test_probability_says_how_often_such_scores_are_fakes() -> None:
    labels, scores = draw(num_real=20_000, num_fake=20_000, slope=0.25, intercept=-1.0)
    decision = choose_threshold(labels, scores)
    chances = np.array([decision.probability(score) for score in scores.tolist()])
    for low in (0.1, 0.4, 0.7):
        inside = (chances >= low) & (chances < low + 0.2)
        assert labels[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.03)


def test_classes_that_do_not_overlap_still_have_a_finite_calibration() -> None:
    calibration = fit_calibration([0] * 20 + [1] * 20, [0.0] * 20 + [1.0] * 20)
    decision = Decision(calibration=calibration)
    # Platt: of 20 right ones, 21 of 22.
    assert decision.probability(1.0) == pytest.approx(21 / 22, abs=1e-3)
    assert decision.probability(0.0) == pytest.approx(1 / 22, abs=1e-3)


def test_too_few_scores_of_a_class_are_not_calibrated() -> None:
    few = MIN_PER_CLASS - 1
    assert fit_calibration([0] * few + [1] * 50, [0.1] * few + [0.9] * 50) is None


def test_scores_that_say_the_opposite_are_not_calibrated() -> None:
    assert fit_calibration([0] * 20 + [1] * 20, [0.9] * 20 + [0.1] * 20) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("num_real", "num_fake", "score"), [(40, 11, 0.1), (73, 10, 0.1), (11, 40, 0.7)])
def test_scores_that_are_all_alike_are_not_calibrated(num_real: int, num_fake: int, score: float) -> None:
    assert fit_calibration([0] * num_real + [1] * num_fake, [score] * (num_real + num_fake)) is None
