import numpy as np
import pytest

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.metrics.threshold import MIN_PER_CLASS, calibrate, choose_threshold, fit_calibration, fit_isotonic


def draw(*, num_real: int, num_fake: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    """Return scores that slope and intercept turn into calibrated ones."""
    generator = np.random.default_rng(0)
    # For two unit normals at -1 and 1, the log odds of the second are 2 x.
    places = np.concatenate([generator.normal(-1, 1, num_real), generator.normal(1, 1, num_fake)])
    labels = np.repeat([0, 1], [num_real, num_fake])
    return labels, 1 / (1 + np.exp(-(2 * places - intercept) / slope))


def test_calibration_recovers_the_distortion_of_scores() -> None:
    labels, scores = draw(num_real=20_000, num_fake=20_000, slope=0.3, intercept=0.7)
    assert fit_calibration(labels, scores) == pytest.approx((0.3, 0.7), abs=0.03)


def test_class_imbalance_does_not_change_the_calibration() -> None:
    labels, scores = draw(num_real=10_000, num_fake=40_000, slope=0.5, intercept=0.0)
    assert fit_calibration(labels, scores) == pytest.approx((0.5, 0.0), abs=0.05)


def test_probability_is_the_share_of_fakes_among_equal_scores() -> None:
    labels, scores = draw(num_real=20_000, num_fake=20_000, slope=0.25, intercept=-1.0)
    decision = choose_threshold(labels, scores)
    chances = np.array([decision.probability(score) for score in scores.tolist()])
    for low in (0.1, 0.4, 0.7):
        inside = (chances >= low) & (chances < low + 0.2)
        assert labels[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.03)


def test_calibration_of_separable_classes_is_finite() -> None:
    calibration = fit_calibration([0] * 20 + [1] * 20, [0.0] * 20 + [1.0] * 20)
    decision = Decision(calibration=calibration)
    # Platt's target for 20 correct scores is 21 / 22.
    assert decision.probability(1.0) == pytest.approx(21 / 22, abs=1e-3)
    assert decision.probability(0.0) == pytest.approx(1 / 22, abs=1e-3)


def test_too_few_scores_of_a_class_are_not_calibrated() -> None:
    few = MIN_PER_CLASS - 1
    assert fit_calibration([0] * few + [1] * 50, [0.1] * few + [0.9] * 50) is None


def test_inverted_scores_are_not_calibrated() -> None:
    assert fit_calibration([0] * 20 + [1] * 20, [0.9] * 20 + [0.1] * 20) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("num_real", "num_fake", "score"), [(40, 11, 0.1), (73, 10, 0.1), (11, 40, 0.7)])
def test_equal_scores_are_not_calibrated(num_real: int, num_fake: int, score: float) -> None:
    assert fit_calibration([0] * num_real + [1] * num_fake, [score] * (num_real + num_fake)) is None


def test_temperature_recovers_the_slope_and_keeps_one_half() -> None:
    labels, scores = draw(num_real=20_000, num_fake=40_000, slope=0.4, intercept=0.0)
    calibration = calibrate(labels, scores, calibration="temperature")["calibration"]
    assert calibration == (pytest.approx(0.4, abs=0.02), 0.0)
    assert Decision(calibration=calibration).probability(0.5) == pytest.approx(0.5)


def test_isotonic_probabilities_are_the_share_of_fakes_among_equal_scores() -> None:
    labels, scores = draw(num_real=20_000, num_fake=20_000, slope=0.25, intercept=-1.0)
    decision = choose_threshold(labels, scores, calibration="isotonic")
    assert decision.calibration is None
    assert decision.is_calibrated
    chances = np.array([decision.probability(score) for score in scores.tolist()])
    for low in (0.1, 0.4, 0.7):
        inside = (chances >= low) & (chances < low + 0.2)
        assert labels[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.03)


def test_isotonic_probabilities_never_reach_certainty() -> None:
    curve = fit_isotonic([0] * 20 + [1] * 20, [0.0] * 20 + [1.0] * 20)
    assert curve is not None
    assert [curve[0], curve[-1]] == [(0.0, pytest.approx(1 / 22)), (1.0, pytest.approx(21 / 22))]


def test_scores_that_cannot_be_calibrated_have_no_curve() -> None:
    assert fit_isotonic([0] * 20 + [1] * 20, [0.9] * 20 + [0.1] * 20) is None  # inverted
    assert fit_isotonic([0] * 9 + [1] * 50, [0.1] * 9 + [0.9] * 50) is None  # too few


def test_calibration_may_be_left_out_and_others_are_refused() -> None:
    labels, scores = draw(num_real=50, num_fake=50, slope=1.0, intercept=0.0)
    assert not choose_threshold(labels, scores, calibration="none").is_calibrated
    with pytest.raises(ConfigError, match=r"'beta'.*platt, temperature, isotonic, none"):
        choose_threshold(labels, scores, calibration="beta")
