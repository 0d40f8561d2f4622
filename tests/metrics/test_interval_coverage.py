"""Whether intervals hold the true ROC-AUC as often as they claim, on data whose true ROC-AUC is known."""

import logging
import math

import numpy as np
import pytest
from scipy.stats import norm

from unmask.metrics.comparison import find_delong_interval
from unmask.metrics.figures import classify
from unmask.metrics.intervals import BootstrapOptions, find_intervals

NUM_DATASETS = 200

pytestmark = pytest.mark.slow


def draw(seed: int, *, num_groups: int, per_group: int, spread: float) -> tuple[float, np.ndarray, ...]:
    """Return the true area of a binormal model, and a dataset from it whose groups share a random shift."""
    rng, distance = np.random.default_rng(seed), 1.5
    groups = np.repeat(np.arange(num_groups), per_group)
    labels = np.arange(len(groups)) % 2
    odds = distance * labels + rng.normal(0, spread, num_groups)[groups] + rng.normal(size=len(groups))
    # For two normals of equal variance at that distance, AUC = Phi(distance / (deviation * sqrt(2))).
    area = float(norm.cdf(distance / math.sqrt(2 * (1 + spread**2))))
    return area, labels, 1 / (1 + np.exp(-odds)), groups


@pytest.mark.parametrize(
    ("num_groups", "per_group", "spread"), [(160, 1, 0.0), (150, 4, 1.0)], ids=["single videos", "groups of four"]
)
def test_intervals_hold_the_truth_as_often_as_they_claim(num_groups: int, per_group: int, spread: float) -> None:
    held = {"bootstrap": 0, "delong": 0}
    for seed in range(NUM_DATASETS):
        area, labels, scores, groups = draw(seed, num_groups=num_groups, per_group=per_group, spread=spread)
        figures = classify(labels, scores, threshold=0.5)
        found = find_intervals(figures, labels, scores, groups, threshold=0.5, options=BootstrapOptions(seed=seed))
        by_delong = find_delong_interval(labels, scores, groups=groups)
        assert by_delong is not None
        held["bootstrap"] += found["auroc"]["low"] <= area <= found["auroc"]["high"]
        held["delong"] += by_delong["low"] <= area <= by_delong["high"]
    shares = {name: count / NUM_DATASETS for name, count in held.items()}
    logging.getLogger(__name__).warning("Coverage with %d groups of %d: %s.", num_groups, per_group, shares)
    assert all(0.92 <= share <= 0.98 for share in shares.values()), shares


def test_intervals_that_ignore_the_groups_hold_the_truth_too_seldom() -> None:
    # Ten videos of one class from each group: taken as independent, they make intervals far too narrow.
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(40), 10)
        labels = groups % 2
        odds = 1.5 * labels + rng.normal(0, 1, 40)[groups] + rng.normal(size=400)
        scores = 1 / (1 + np.exp(-odds))
        figures = classify(labels, scores, threshold=0.5)
        alone = find_intervals(
            figures, labels, scores, np.arange(400), threshold=0.5, options=BootstrapOptions(draws=400)
        )
        held += alone["auroc"]["low"] <= norm.cdf(1.5 / 2) <= alone["auroc"]["high"]
    assert held < 75
