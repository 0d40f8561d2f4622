"""Which crops an epoch takes, in which order and with which seeds."""

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
"""Streams of draws of an epoch."""


class Draw(NamedTuple):
    """One sample of an epoch.

    Args:
        row: Of the table.
        seed: Of its augmentation.
        is_forged: Whether a fake is made from this real crop.
    """

    row: int
    seed: int
    is_forged: bool = False


@runtime_checkable
class RowSampler(Protocol):
    """A sampling of one's own, given as `dataset.sampling._target_`."""

    def draw(self, table: pd.DataFrame, rng: np.random.Generator) -> Rows:
        """Return the rows of an epoch, in order; a pure function of its arguments, since every process calls it.

        Args:
            table: Training crops, one row each, with columns such as `label`, `method` and `video_id`; real crops
                alone where the augmentation makes fakes.
            rng: Random generator of the epoch.

        Returns:
            Row positions in the table, shape `(N,)`; rows may repeat.
        """
        ...


@dataclass(frozen=True)
class EpochPlan:
    """How the crops of an epoch are chosen.

    Args:
        table: Training crops, one row each.
        sampling: `weighted` draws real and fake equally often, with replacement; `natural` takes every crop once;
            `subsample` takes the smaller class whole and as many of the larger, others every epoch; `paired` takes
            every fake once, each followed by its original. Or a sampler of one's own.
        num_samples: How many crops, with `weighted`; None as many as there are.
        partners: Row of the original of every row, for `paired`; -1 where there is none.
        makes_fakes: Every row is real, and is followed by the fake that is made from it.
    """

    table: pd.DataFrame
    sampling: str | RowSampler = "weighted"
    num_samples: int | None = None
    partners: Rows | None = None
    makes_fakes: bool = False

    @property
    def labels(self) -> Rows:
        """Label of every row."""
        return self.table["label"].to_numpy(np.int64)

    @property
    def unit(self) -> int:
        """Number of draws that stay together."""
        return 2 if self.makes_fakes or self.sampling == "paired" else 1

    def draw(self, rng: np.random.Generator) -> Rows:
        """Return rows in the order of an epoch; where fakes are made, real ones only, each once for both.

        Args:
            rng: Decides.
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
                f"dataset.sampling._target_={type(self.sampling).__module__}.{type(self.sampling).__qualname__} drew "
                f"{found}. Return row positions: whole numbers from 0 to {len(self.table) - 1}, shape (N,)."
            )
        return rows.astype(np.int64)

    def draw_epoch(self, seed: int, epoch: int) -> list[Draw]:
        """Return the samples of an epoch: a pure function, so that every process finds the same.

        Args:
            seed: Of the run.
            epoch: From 0.
        """
        rows = self.draw(np.random.default_rng([seed, epoch, _ORDER]))
        seeds = np.random.default_rng([seed, epoch, _SEEDS]).integers(2**63, size=len(rows)).tolist()
        draws = [Draw(row, drawn) for row, drawn in zip(rows.tolist(), seeds, strict=True)]
        if not self.makes_fakes:
            return draws
        return [sample for draw in draws for sample in (draw, draw._replace(is_forged=True))]


class EpochSampler(Sampler[Draw]):
    """Yield the samples of an epoch that belong to one process.

    The processes take turns, so that the batches of all of them together are those that one process with a batch as
    many times as large would take. What does not fill a turn of all of them is left out.

    Args:
        plan: Of each epoch.
        seed: Of the run.
        rank: Number of this process.
        world_size: Number of processes.
        repeats: Whether every epoch takes the samples of the first, with the same augmentation.
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
        """Choose the epoch that comes next; Lightning calls it."""
        self._epoch = epoch

    def skip(self, *, epoch: int, num_samples: int) -> None:
        """Leave out the samples of an epoch that this process has trained on before it was interrupted.

        Args:
            epoch: That was interrupted.
            num_samples: Of this process.
        """
        self._start = (epoch, num_samples)

    def __len__(self) -> int:
        """Return the number of samples of a whole epoch, also where some are skipped."""
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
    """Yield every row once over all processes, none twice, in batches of which each process has as many.

    As many, because processes that run a network together wait for each other at every batch.

    Args:
        num_rows: Of the table.
        batch_size: At most so many rows a batch.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        ConfigError: Fewer rows than processes.
    """

    def __init__(self, num_rows: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if num_rows < world_size:
            raise ConfigError(
                f"The validation split holds {num_rows} crops, fewer than the {world_size} processes. "
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
