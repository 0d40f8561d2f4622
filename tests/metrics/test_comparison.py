import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, norm

from unmask.errors import DatasetError
from unmask.metrics.comparison import (
    compare_all,
    compare_delong,
    compare_tables,
    correct_holm,
    delong,
    find_delong_interval,
)
from unmask.metrics.intervals import BootstrapOptions

OPTIONS = BootstrapOptions(draws=300)


def draw(num: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, and scores of two models with ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(num) < 0.6).astype(int)
    shared = rng.normal(size=num)
    odds = np.stack([1.5 * labels + shared + rng.normal(size=num), 0.8 * labels + shared + rng.normal(size=num)])
    return labels, (1 / (1 + np.exp(-odds))).round(2)


def compute_directly(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return areas and covariance by the definition of DeLong et al. (1988), comparing every fake with every real."""
    fakes, reals = scores[:, labels == 1], scores[:, labels == 0]
    wins = (fakes[:, :, None] > reals[:, None, :]) + 0.5 * (fakes[:, :, None] == reals[:, None, :])
    by_fake, by_real = wins.mean(axis=2), wins.mean(axis=1)
    return wins.mean(axis=(1, 2)), np.cov(by_fake) / fakes.shape[1] + np.cov(by_real) / reals.shape[1]


def make_table(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    names = [f"v{number}" for number in range(len(labels))]
    return pd.DataFrame({"video_id": names, "label": labels, "score": scores, "group": np.arange(len(labels)) // 2})


def test_delong_agrees_with_its_definition() -> None:
    labels, scores = draw()
    areas, covariance = delong(labels, scores)
    expected = compute_directly(labels, scores)
    assert areas == pytest.approx(expected[0], abs=1e-12)
    assert covariance == pytest.approx(expected[1], abs=1e-12)


def test_area_of_delong_is_that_of_the_rank_test() -> None:
    labels, scores = draw()
    statistic = mannwhitneyu(scores[0][labels == 1], scores[0][labels == 0]).statistic
    assert delong(labels, scores[0])[0][0] == pytest.approx(statistic / (labels.sum() * (1 - labels).sum()))


def test_variance_of_a_small_case_by_hand() -> None:
    # Fakes 1, 3, 4 against reals 0, 2: shares won 1/2, 1, 1 and 1, 2/3; variances 1/12 and 1/18.
    areas, covariance = delong([1, 0, 1, 0, 1], [1, 0, 3, 2, 4])
    assert areas[0] == pytest.approx(5 / 6)
    assert covariance[0, 0] == pytest.approx(1 / 12 / 3 + 1 / 18 / 2)


def test_groups_of_one_video_change_nothing() -> None:
    labels, scores = draw()
    assert delong(labels, scores, groups=np.arange(60))[1] == pytest.approx(delong(labels, scores)[1], abs=1e-15)


def test_videos_counted_twice_do_not_halve_the_variance_of_groups() -> None:
    labels, scores = draw()
    groups = np.arange(60)
    twice = delong(np.tile(labels, 2), np.tile(scores, 2), groups=np.tile(groups, 2))[1]
    assert twice == pytest.approx(delong(labels, scores)[1], abs=1e-15)
    assert delong(np.tile(labels, 2), np.tile(scores, 2))[1][0, 0] < 0.6 * twice[0, 0]


def test_interval_is_symmetric_in_the_log_odds_and_stays_below_one() -> None:
    labels = np.repeat([0, 1], 20)
    scores = np.concatenate([np.linspace(0, 0.5, 20), np.linspace(0.45, 1, 20)])
    found = find_delong_interval(labels, scores)
    assert found is not None
    odds = [math.log(found[key] / (1 - found[key])) for key in ("low", "value", "high")]
    assert odds[1] - odds[0] == pytest.approx(odds[2] - odds[1])
    assert found["high"] < 1
    variance = compute_directly(labels, scores[None])[1].item()
    area = found["value"]
    assert odds[2] - odds[1] == pytest.approx(norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area)))


def test_a_perfect_area_has_no_delong_interval() -> None:
    assert find_delong_interval([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) is None


def test_delong_needs_two_of_each_class_and_finite_scores() -> None:
    with pytest.raises(ValueError, match="1 real, 2 fake"):
        delong([0, 1, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="finite"):
        delong([0, 0, 1, 1], [0.1, float("nan"), 0.3, 0.4])


def test_paired_test_uses_what_both_models_share() -> None:
    labels, (first, second) = draw()
    found = compare_delong(labels, first, second)
    areas, covariance = compute_directly(labels, np.stack([first, second]))
    z = (areas[0] - areas[1]) / math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found["z"] == pytest.approx(z)
    assert found["p"] == pytest.approx(2 * norm.sf(abs(z)))
    unpaired = (areas[0] - areas[1]) / math.sqrt(covariance[0, 0] + covariance[1, 1])
    assert abs(z) > abs(unpaired)


def test_models_that_rank_alike_have_no_test() -> None:
    labels, (first, _) = draw()
    found = compare_delong(labels, first, first**2)
    assert (found["difference"], found["z"], found["p"]) == (0.0, None, None)


def test_holm_corrects_step_by_step() -> None:
    # The example of Holm's procedure on Wikipedia: 0.01, 0.04, 0.03, 0.005 at 0.05 rejects the first and the last.
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert correct_holm([]) == []


def test_tables_are_compared_on_the_videos_that_both_scored() -> None:
    labels, (first, second) = draw()
    tables = make_table(labels, first), make_table(labels, second).sample(frac=1, random_state=0)
    tables[0].loc[3, "score"] = np.nan
    result = compare_tables(*tables, thresholds=(0.5, 0.6), options=OPTIONS)
    assert (result["num"], result["num_left_out"]) == (59, 1)
    kept = np.arange(60) != 3
    area = result["figures"]["auroc"]
    expected = compute_directly(labels[kept], np.stack([first[kept], second[kept]]))[0]
    assert [area["first"], area["second"]] == pytest.approx(expected)
    assert area["low"] <= area["difference"] <= area["high"]
    assert result["figures"]["accuracy"]["second"] == pytest.approx(((second >= 0.6) == labels)[kept].mean())
    assert result["delong"]["difference"] == pytest.approx(area["difference"])


def test_tables_that_share_nothing_or_disagree_are_refused() -> None:
    labels, (first, second) = draw()
    one, other = make_table(labels, first), make_table(labels, second)
    with pytest.raises(DatasetError, match="share no scored video"):
        compare_tables(one, other.assign(video_id="x" + other["video_id"]), thresholds=(0.5, 0.5), options=OPTIONS)
    other.loc[7, "label"] = 1 - other.loc[7, "label"]
    with pytest.raises(DatasetError, match=r"label of 1 videos:\n.*v7"):
        compare_tables(one, other, thresholds=(0.5, 0.5), options=OPTIONS)


def test_all_pairs_are_compared_and_corrected() -> None:
    labels, scores = draw()
    names = ("a", "b", "c")
    tables = {name: make_table(labels, each) for name, each in zip(names, (*scores, scores[0][::-1]), strict=True)}
    pairs = compare_all(tables, thresholds=dict.fromkeys(names, 0.5), options=OPTIONS)
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    p_values = [pair["delong"]["p"] for pair in pairs]
    assert [pair["delong"]["p_holm"] for pair in pairs] == pytest.approx(correct_holm(p_values))
    assert all(pair["figures"]["auroc"]["p_holm"] >= pair["figures"]["auroc"]["p"] for pair in pairs)
