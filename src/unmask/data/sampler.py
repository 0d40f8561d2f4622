"""Samplers: the crops of an epoch, their order, and the seeds of their augmentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch.utils.data import Sampler

from unmask.errors import ConfigError
from unmask.types import Label

SAMPLINGS = ("weighted", "natural", "subsample", "paired")

Rows = npt.NDArray[np.int64]

_ORDER, _SEEDS = 0, 1
"""Random streams of an epoch."""


class Draw(NamedTuple):
    """One sample of an epoch.

    Args:
        row: Row in the table of crops.
        seed: Seed of the augmentation.
        is_forged: Whether to make a fake from this real crop.
    """

    row: int
    seed: int
    is_forged: bool = False


@runtime_checkable
class RowSampler(Protocol):
    """A custom sampling strategy, set as `dataset.sampling._target_`."""

    def draw(self, table: pd.DataFrame, rng: np.random.Generator) -> Rows:
        """Return the rows of an epoch, in order; every process calls this, so it must depend only on its arguments.

        Args:
            table: Training crops, one row each, with columns such as `label`, `method` and `video_id`; only real crops
                if the augmentation makes fakes.
            rng: Random generator of the epoch.

        Returns:
            Row positions in the table, shape `(N,)`; rows may repeat.
        """
        ...


@dataclass(frozen=True)
class EpochPlan:
    """Sampling strategy of an epoch.

    Args:
        table: Training crops, one row each.
        sampling: `weighted` draws real and fake equally often, with replacement; `natural` takes every crop once;
            `subsample` takes all of the smaller class and equally many of the larger, redrawn every epoch; `paired`
            takes every fake once, each followed by its original. Or a custom `RowSampler`.
        num_samples: Number of crops drawn by `weighted`; None for the number of rows.
        partners: Row of each row's original, for `paired`, shape `(N,)`; -1 if it has none.
        makes_fakes: Whether all rows are real, each followed by a fake made from it.
    """

    table: pd.DataFrame
    sampling: str | RowSampler = "weighted"
    num_samples: int | None = None
    partners: Rows | None = None
    makes_fakes: bool = False

    @property
    def labels(self) -> Rows:
        """Labels of the rows, shape `(N,)`."""
        return self.table["label"].to_numpy(np.int64)

    @property
    def unit(self) -> int:
        """Number of draws that must stay in one batch."""
        return 2 if self.makes_fakes or self.sampling == "paired" else 1

    def draw(self, rng: np.random.Generator) -> Rows:
        """Draw the rows of an epoch, in order; with `makes_fakes`, one entry per pair of real crop and fake.

        Args:
            rng: Random generator.
        """
        if not isinstance(self.sampling, str):
            return self._check(self.sampling.draw(self.table, rng))
        if self.sampling == "weighted":
            share = self.unit if self.makes_fakes else 1
            count = len(self.labels) if self.num_samples is None else max(1, self.num_samples // share)
            weights = 1.0 / np.bincount(self.labels, minlength=2)[self.labels]
            return np.asarray(rng.choice(len(self.labels), size=count, p=weights / weights.sum()), np.int64)
        if self.sampling == "subsample" and not self.makes_fakes:
            classes = [np.flatnonzero(self.labels == label) for label in Label]
            count = min(len(rows) for rows in classes)
            return rng.permutation(np.concatenate([rng.choice(rows, count, replace=False) for rows in classes]))
        if self.sampling == "paired":
            assert self.partners is not None
            fakes = rng.permutation(np.flatnonzero(self.partners >= 0))
            return np.stack([fakes, self.partners[fakes]], axis=1).ravel()
        return rng.permutation(len(self.labels))

    def _check(self, drawn: Rows) -> Rows:
        rows = np.asarray(drawn)
        is_whole = rows.ndim == 1 and rows.size > 0 and np.issubdtype(rows.dtype, np.integer)
        if not is_whole or rows.min() < 0 or rows.max() >= len(self.table):
            found = f"{rows.dtype}, shape {rows.shape}" + (f", {rows.min()} to {rows.max()}" if is_whole else "")
            raise ConfigError(
                f"dataset.sampling={type(self.sampling).__module__}.{type(self.sampling).__qualname__} "
                f"returned {found}. Its draw must return row positions: integers from 0 to {len(self.table) - 1}, "
                f"shape (N,)."
            )
        return rows.astype(np.int64)

    def draw_epoch(self, seed: int, epoch: int) -> list[Draw]:
        """Draw the samples of an epoch; deterministic, so that all processes agree.

        Args:
            seed: Seed of the run.
            epoch: Epoch, counted from 0.
        """
        rows = self.draw(np.random.default_rng([seed, epoch, _ORDER]))
        seeds = np.random.default_rng([seed, epoch, _SEEDS]).integers(2**63, size=len(rows)).tolist()
        draws = [Draw(row, drawn) for row, drawn in zip(rows.tolist(), seeds, strict=True)]
        if not self.makes_fakes:
            return draws
        return [sample for draw in draws for sample in (draw, draw._replace(is_forged=True))]


class EpochSampler(Sampler[Draw]):
    """Yield one process's share of an epoch's samples.

    Samples are dealt to the processes in turn, so that their batches together equal the batches of a single process
    with a `world_size` times larger batch. Drops the remainder that cannot be dealt evenly.

    Args:
        plan: Sampling strategy.
        seed: Seed of the run.
        rank: Rank of this process.
        world_size: Number of processes.
        repeats: Whether every epoch repeats the samples and augmentations of the first.
    """

    def __init__(
        self, plan: EpochPlan, *, seed: int, rank: int = 0, world_size: int = 1, repeats: bool = False
    ) -> None:
        self._plan, self._seed, self._rank, self._world_size = plan, seed, rank, world_size
        self._repeats = repeats
        self._epoch = 0
        self._start = (0, 0)
        self._length = len(self._share(0))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch to draw next; called by Lightning."""
        self._epoch = epoch

    def skip(self, *, epoch: int, num_samples: int) -> None:
        """Skip the samples of an interrupted epoch that this process has already trained on.

        Args:
            epoch: Interrupted epoch.
            num_samples: Number of samples of this process to skip.
        """
        self._start = (epoch, num_samples)

    def __len__(self) -> int:
        """Return the number of samples of a full epoch, including skipped ones."""
        return self._length

    def __iter__(self) -> Iterator[Draw]:
        epoch, num_skipped = self._start
        return iter(self._share(self._epoch)[num_skipped if epoch == self._epoch else 0 :])

    def _share(self, epoch: int) -> list[Draw]:
        epoch = 0 if self._repeats else epoch
        draws, unit, size = self._plan.draw_epoch(self._seed, epoch), self._plan.unit, self._world_size
        turns = len(draws) // (unit * size)
        starts = ((turn * size + self._rank) * unit for turn in range(turns))
        return [draw for start in starts for draw in draws[start : start + unit]]


class ValidationBatches(Sampler[list[int]]):
    """Yield every row exactly once across all processes, with the same number of batches in each.

    The numbers must match because the processes synchronize after every batch.

    Args:
        num_rows: Number of rows in the table.
        batch_size: Maximum number of rows per batch.
        rank: Rank of this process.
        world_size: Number of processes.

    Raises:
        ConfigError: There are fewer rows than processes.
    """

    def __init__(self, num_rows: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if num_rows < world_size:
            raise ConfigError(
                f"The validation split has {num_rows} crops, fewer than the {world_size} processes. "
                f"Lower trainer.devices or trainer.num_nodes, or raise dataset.limit.val."
            )
        rows = np.arange(rank, num_rows, world_size)
        longest = -(-num_rows // world_size)
        num_batches = -(-longest // batch_size)
        if len(rows) > (num_batches - 1) * batch_size:
            self._batches = [rows[start : start + batch_size].tolist() for start in range(0, len(rows), batch_size)]
        else:
            self._batches = [part.tolist() for part in np.array_split(rows, num_batches)]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)
