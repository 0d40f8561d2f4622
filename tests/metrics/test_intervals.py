import numpy as np
import pytest

from unmask.errors import ConfigError
from unmask.metrics.figures import classify
from unmask.metrics.intervals import (
    BootstrapOptions,
    bootstrap_pair,
    count_groups,
    explain_intervals,
    find_intervals,
    number_groups,
)

OPTIONS = BootstrapOptions(draws=400)


def draw(num: int = 300, *, groups: int = 100, spread: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return labels, scores and groups; scores of a group share a shift of the given spread."""
    rng = np.random.default_rng(seed)
    labels, numbers = rng.integers(0, 2, num), np.arange(num) % groups
    odds = rng.normal(1.2 * labels - 0.6) + rng.normal(0, spread, groups)[numbers]
    return labels, 1 / (1 + np.exp(-odds)), numbers


def intervals_of(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, *, options: BootstrapOptions = OPTIONS
) -> dict[str, dict[str, float]]:
    figures = classify(labels, scores, threshold=0.5)
    return find_intervals(figures, labels, scores, groups, threshold=0.5, options=options)


def test_every_metric_has_an_interval_around_its_value() -> None:
    labels, scores, groups = draw()
    figures, found = classify(labels, scores, threshold=0.5), intervals_of(labels, scores, groups)
    numbers = {name for name, value in figures.items() if isinstance(value, float)}
    assert set(found) == numbers
    assert all(found[name]["value"] == figures[name] for name in found)
    # ECE is biased upwards in a resample, so its value may lie below its interval.
    assert not [
        name for name, each in found.items() if not each["low"] <= each["value"] <= each["high"] and name != "ece"
    ]


@pytest.mark.parametrize("decimals", [1, 12])
def test_a_draw_measures_what_the_metrics_of_the_drawn_rows_are(decimals: int) -> None:
    # The bootstrap works on sums and counts; here the rows of each draw are put together and measured one by one.
    _, scores, groups = draw(60, groups=20, seed=2)
    labels = (np.arange(60) >= 20).astype(int)
    scores = (0.7 * scores + 0.2 * labels).round(decimals)
    rng, drawn = np.random.default_rng(OPTIONS.seed), []
    for _ in range(OPTIONS.draws):
        chosen = rng.integers(20, size=20)  # every group has a real and two fakes, so there is one stratum
        rows = np.concatenate([np.flatnonzero(groups == group) for group in sorted(chosen)])
        drawn.append(classify(labels[rows], scores[rows], threshold=0.5))
    found = intervals_of(labels, scores, groups, options=BootstrapOptions(draws=OPTIONS.draws, level=0.5))
    for name, interval in found.items():
        values = np.array([figures[name] for figures in drawn], np.float64)
        assert values.min() <= interval["low"] < interval["high"] <= values.max()
        # At a level of 0.5 with 20 groups the tails are 0.2402 (t distribution with 19 degrees of freedom, widened).
        expected = np.quantile(values, [0.24029, 1 - 0.24029])
        assert [interval["low"], interval["high"]] == pytest.approx(expected.tolist(), abs=2e-3), name


def test_interval_of_a_share_is_that_of_the_binomial() -> None:
    # 400 independent videos, 0.8 of them right: the standard error is sqrt(0.8 * 0.2 / 400) = 0.02.
    labels = np.repeat([0, 1], 200)
    scores = np.where(np.tile(np.arange(200) < 160, 2) == (labels == 1), 0.9, 0.1)
    accuracy = intervals_of(labels, scores, np.arange(400), options=BootstrapOptions())["accuracy"]
    assert accuracy["value"] == 0.8
    assert (accuracy["high"] - accuracy["low"]) / 2 == pytest.approx(1.96 * 0.02, rel=0.06)


def test_groups_that_vary_together_widen_the_interval() -> None:
    labels, scores, groups = draw(400, groups=40, spread=2.0)
    width = {}
    for name, units in (("videos", np.arange(400)), ("groups", groups)):
        area = intervals_of(labels, scores, units)["auroc"]
        width[name] = area["high"] - area["low"]
    assert width["groups"] > 1.1 * width["videos"]


def test_frames_of_a_video_repeated_ten_times_do_not_narrow_the_interval() -> None:
    labels, scores, groups = draw(80, groups=80)
    once = intervals_of(labels, scores, groups)
    often = intervals_of(*(np.repeat(values, 10) for values in (labels, scores, groups)))
    assert often["auroc"]["low"] == pytest.approx(once["auroc"]["low"], abs=1e-9)
    assert often["accuracy"]["high"] == pytest.approx(once["accuracy"]["high"], abs=1e-9)


def test_intervals_are_the_same_for_the_same_seed() -> None:
    scored = draw()
    assert intervals_of(*scored) == intervals_of(*scored)
    assert intervals_of(*scored) != intervals_of(*scored, options=BootstrapOptions(draws=400, seed=1))


def test_level_sets_the_width() -> None:
    wide, narrow = (
        intervals_of(*draw(), options=BootstrapOptions(draws=400, level=level))["auroc"] for level in (0.99, 0.5)
    )
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]


def test_no_draw_lacks_a_class() -> None:
    # One real group among fifty fake ones: without strata, a third of the draws would have no real at all.
    labels = np.array([0, 0] + [1] * 50)
    groups = np.array([0, 1, *range(2, 52)])
    found = intervals_of(labels, np.linspace(0.1, 0.9, 52), groups)
    assert np.isfinite(list(found["auroc"].values())).all()


def test_one_class_has_intervals_of_what_can_be_computed() -> None:
    _, scores, groups = draw()
    found = intervals_of(np.ones(300, int), scores, groups)
    assert {"accuracy", "recall", "brier", "log_loss", "ece"} <= set(found)
    assert not {"auroc", "specificity", "balanced_accuracy", "eer"} & set(found)


def test_one_group_or_no_draws_have_no_intervals_and_a_reason() -> None:
    labels, scores, _ = draw()
    assert intervals_of(labels, scores, np.zeros(300)) == {}
    assert intervals_of(*draw(), options=BootstrapOptions(draws=0)) == {}
    figures = classify(labels, scores, threshold=0.5)
    assert any("2 groups" in note for note in explain_intervals(figures, labels, np.zeros(300)))
    assert explain_intervals(figures, labels, np.arange(300)) == []
    assert any("only 5 groups" in note for note in explain_intervals(figures, labels, np.arange(300) % 5))


def test_a_perfect_order_is_no_proof_of_a_perfect_model() -> None:
    labels = np.repeat([0, 1], 30)
    figures = classify(labels, labels.astype(float), threshold=0.5)
    assert any(
        "rule of three" in note and "10.0%" in note for note in explain_intervals(figures, labels, np.arange(60))
    )


def test_rows_without_a_group_are_groups_of_their_own() -> None:
    codes = number_groups(np.array(["a", None, "a", None, "b"], object))
    assert codes[0] == codes[2]
    assert len(set(codes.tolist())) == 4
    assert count_groups([0, 0, 0, 1, 1], codes) == 2


def test_options_that_make_no_interval_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.draws=10.*100"):
        BootstrapOptions(draws=10)
    with pytest.raises(ConfigError, match=r"bootstrap\.level=95"):
        BootstrapOptions(level=95)


def test_models_on_the_same_draws_differ_by_less_than_their_intervals() -> None:
    labels, scores, groups = draw()
    better = np.clip(scores + 0.02 * (2 * labels - 1), 0, 1)
    found = bootstrap_pair(labels, (better, scores), groups, thresholds=(0.5, 0.5), options=OPTIONS)["auroc"]
    alone = intervals_of(labels, scores, groups)["auroc"]
    assert 0 < found["low"] < found["high"]
    assert found["high"] - found["low"] < (alone["high"] - alone["low"]) / 3
    assert found["p"] == pytest.approx(2 / 401)


def test_a_model_does_not_differ_from_itself() -> None:
    labels, scores, groups = draw()
    found = bootstrap_pair(labels, (scores, scores), groups, thresholds=(0.5, 0.5), options=OPTIONS)["auroc"]
    assert (found["low"], found["high"], found["p"]) == (0.0, 0.0, 1.0)


def test_many_distinct_scores_are_ranked_into_levels_without_changing_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored = draw(3000, groups=300)
    exact = intervals_of(*scored)
    monkeypatch.setattr("unmask.metrics.intervals.MAX_LEVELS", 1024)
    coarse = intervals_of(*scored)
    for name in exact:
        assert coarse[name]["low"] == pytest.approx(exact[name]["low"], abs=5e-3)
    assert coarse["auroc"]["high"] == pytest.approx(exact["auroc"]["high"], abs=1e-4)
