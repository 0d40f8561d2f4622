from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unmask.data.sampler import Draw, EpochPlan, EpochSampler, ValidationBatches
from unmask.errors import ConfigError

LABELS = np.array([0] * 5 + [1] * 20)


def _table(labels: np.ndarray[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame({"label": labels})


def _rows(plan: EpochPlan, seed: int = 0, epoch: int = 0) -> list[int]:
    return [draw.row for draw in plan.draw_epoch(seed, epoch)]


def test_weighted_draws_both_classes_equally_often() -> None:
    rows = _rows(EpochPlan(_table(LABELS), sampling="weighted", num_samples=4000))
    assert len(rows) == 4000
    assert LABELS[rows].mean() == pytest.approx(0.5, abs=0.03)


def test_natural_takes_every_row_once_in_an_order_of_each_epoch() -> None:
    plan = EpochPlan(_table(LABELS), sampling="natural")
    assert sorted(_rows(plan)) == list(range(25)) == sorted(_rows(plan, epoch=1))
    assert _rows(plan) != _rows(plan, epoch=1)


def test_subsample_takes_other_rows_of_the_larger_class_every_epoch() -> None:
    plan = EpochPlan(_table(LABELS), sampling="subsample")
    epochs = [_rows(plan, epoch=epoch) for epoch in range(30)]
    for rows in epochs:
        assert len(set(rows)) == 10
        assert LABELS[rows].sum() == 5
    assert {row for rows in epochs for row in rows} == set(range(25))


def test_paired_puts_every_fake_beside_its_original() -> None:
    partners = np.array([-1] * 5 + [number % 5 for number in range(19)] + [-1])
    rows = np.array(_rows(EpochPlan(_table(LABELS), sampling="paired", partners=partners))).reshape(-1, 2)
    assert sorted(rows[:, 0]) == list(range(5, 24))  # the last fake has no original
    assert (partners[rows[:, 0]] == rows[:, 1]).all()


def test_made_fakes_follow_their_real_crop_with_the_same_seed() -> None:
    draws = EpochPlan(_table(np.zeros(6, np.int64)), sampling="natural", makes_fakes=True).draw_epoch(0, 0)
    assert len(draws) == 12
    for real, fake in zip(draws[::2], draws[1::2], strict=True):
        assert fake == real._replace(is_forged=True) != real
    plan = EpochPlan(_table(np.zeros(6, np.int64)), sampling="weighted", num_samples=40, makes_fakes=True)
    assert len(plan.draw_epoch(0, 0)) == 40


def test_epoch_is_decided_by_seed_and_number_alone() -> None:
    for sampling in ("weighted", "natural", "subsample"):
        plan = EpochPlan(_table(LABELS), sampling=sampling)
        assert plan.draw_epoch(3, 2) == plan.draw_epoch(3, 2)
        assert plan.draw_epoch(3, 2) != plan.draw_epoch(4, 2)
        assert plan.draw_epoch(3, 2) != plan.draw_epoch(3, 3)


def test_no_two_samples_of_three_epochs_share_a_seed() -> None:
    plan = EpochPlan(_table(LABELS), sampling="natural")
    seeds = [draw.seed for epoch in range(3) for draw in plan.draw_epoch(0, epoch)]
    assert len(set(seeds)) == 75


def _batches(sampler: EpochSampler, size: int) -> list[list[Draw]]:
    draws = list(sampler)
    return [draws[start : start + size] for start in range(0, len(draws), size)]


@pytest.mark.parametrize("sampling", ["weighted", "natural", "subsample", "paired"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_batches_of_all_processes_are_those_of_one_with_a_larger_batch(sampling: str, world_size: int) -> None:
    partners = np.array([-1] * 5 + [number % 5 for number in range(20)])
    plan = EpochPlan(_table(LABELS), sampling=sampling, partners=partners)
    shares = [_batches(EpochSampler(plan, seed=1, rank=rank, world_size=world_size), 4) for rank in range(world_size)]
    alone = _batches(EpochSampler(plan, seed=1), 4 * world_size)
    assert len({len(share) for share in shares}) == 1
    for together, large in zip(zip(*shares, strict=True), alone, strict=False):
        drawn = [draw for batch in together for draw in batch]
        assert set(drawn) <= set(large)
        assert len(drawn) in {len(large), len(large) // (world_size * plan.unit) * world_size * plan.unit}
    if sampling == "paired":
        for share in shares:
            for batch in share:
                rows = [draw.row for draw in batch]
                assert partners[rows[::2]].tolist() == rows[1::2]


def test_interrupted_epoch_goes_on_where_it_stopped_and_the_next_is_whole() -> None:
    plan = EpochPlan(_table(LABELS), sampling="natural")
    sampler = EpochSampler(plan, seed=0)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.skip(epoch=2, num_samples=8)
    assert list(sampler) == whole[8:]
    assert len(sampler) == 25  # the length of the epoch, by which the trainer counts its batches
    sampler.set_epoch(3)
    assert len(list(sampler)) == 25


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("num_rows", [5, 16, 17, 33, 64])
def test_validation_takes_every_row_once_in_as_many_batches_per_process(num_rows: int, world_size: int) -> None:
    shares = [
        list(ValidationBatches(num_rows, batch_size=8, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(num_rows))
    assert len({len(share) for share in shares}) == 1
    assert all(1 <= len(batch) <= 8 for share in shares for batch in share)


def test_fewer_validation_crops_than_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\b3 crops.*\b4 processes.*trainer\.devices"):
        ValidationBatches(3, batch_size=8, rank=0, world_size=4)


def test_a_sampler_of_ones_own_draws_from_the_table() -> None:
    own = SimpleNamespace(draw=lambda table, rng: rng.permutation(np.flatnonzero(table["label"] == 0)))
    plan = EpochPlan(_table(LABELS), sampling=own)
    assert sorted(_rows(plan)) == [0, 1, 2, 3, 4]
    assert _rows(plan) == _rows(plan)
    assert plan.unit == 1


@pytest.mark.parametrize("drawn", [[], [0.5], [-1], [25], [[0, 1]], "all"])
def test_rows_that_are_no_positions_are_refused(drawn: Any) -> None:
    plan = EpochPlan(_table(LABELS), sampling=SimpleNamespace(draw=lambda table, rng: drawn))
    with pytest.raises(ConfigError, match=r"dataset\.sampling.*SimpleNamespace.*0 to 24"):
        plan.draw_epoch(0, 0)
