"""LightningDataModule that serves the training and validation crops of a face dataset."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from unmask.data.audit import find_usable_crops
from unmask.data.augmentation import Augmentation, FakeMaker
from unmask.data.dataset import FaceCrops, Rows, add_fakes, cap_methods, find_landmarks, find_originals, limit_rows
from unmask.data.sampler import SAMPLINGS, EpochPlan, EpochSampler, RowSampler, ValidationBatches
from unmask.data.splits import audit_splits
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, suggest
from unmask.faces.spec import InputSpec
from unmask.processes import describe_loader
from unmask.types import Label

logger = logging.getLogger(__name__)


class FaceDataModule(L.LightningDataModule):
    """Serve the train and val crops of a face dataset.

    With several processes, each serves its own share: training drops the uneven remainder, validation covers every
    crop exactly once. The trainer must not replace the samplers (`use_distributed_sampler=False`).

    Args:
        root: Folder of the face dataset.
        input_spec: Size of the network's input.
        folds: Number of folds that replace the stored splits; None to keep these.
        fold: Fold that becomes test; the next one becomes val.
        augmentation: Augmentation of training crops; a `FakeMaker` receives only real crops, and also those of a
            validation split without fakes.
        batch_size: Number of crops per step and process.
        num_workers: Number of worker processes that decode crops; None for one per core, at most 8.
        sampling: Name of a sampling strategy, see `EpochPlan`, or a `RowSampler`.
        samples_per_epoch: Number of crops drawn by `weighted`; None for the number of training crops.
        cap_per_method: Maximum number of training crops per forgery method; None for all.
        limit: Maximum number of crops of `train` and `val`, half of them real; None for all.
        seed: Seed of sampling and selection.
    """

    def __init__(
        self,
        root: str,
        *,
        input_spec: InputSpec,
        folds: int | None = None,
        fold: int = 0,
        augmentation: Augmentation | FakeMaker | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        sampling: str | RowSampler = "weighted",
        samples_per_epoch: int | None = None,
        cap_per_method: int | None = None,
        limit: Mapping[str, int | None] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = root
        self.folds, self.fold = folds, fold
        self.batch_size = batch_size
        self.num_workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        self.sampling = sampling
        self.samples_per_epoch = samples_per_epoch
        self.cap_per_method = cap_per_method
        if limit is not None and not isinstance(limit, Mapping):
            raise ConfigError(f"dataset.limit={limit} must be set per split, such as dataset.limit.train={limit}.")
        self.limit: dict[str, int | None] = {"train": None, "val": None, **(limit or {})}
        self.seed = seed
        self.makes_fakes = getattr(augmentation, "makes_fakes", False)
        if self.makes_fakes and not isinstance(augmentation, FakeMaker):
            missing = [name for name in ("needs_landmarks", "set_seed", "forge") if not hasattr(augmentation, name)]
            raise ConfigError(
                f"augmentation._target_={type(augmentation).__module__}.{type(augmentation).__qualname__} makes fakes "
                f"but lacks {', '.join(missing)}; see FakeMaker in unmask.data.augmentation."
            )
        self._input_spec = input_spec
        self._augmentation = augmentation
        self._crops: dict[str, FaceCrops] = {}
        self._partners: Rows | None = None
        self._resumed = (0, 0)
        self._check_options()

    def _check_numbers(self) -> None:
        numbers = {"samples_per_epoch": (self.samples_per_epoch, 1), "cap_per_method": (self.cap_per_method, 1)}
        numbers |= {f"limit.{split}": (value, 2) for split, value in self.limit.items()}
        numbers |= {"batch_size": (self.batch_size, 1), "num_workers": (self.num_workers, 0)}
        or_all, all_of = ", or null for all crops", {"batch_size": "", "num_workers": ", or null for one per core"}
        for key, (value, least) in numbers.items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ConfigError(
                    f"dataset.{key}={value} must be a whole number of at least {least}{all_of.get(key, or_all)}."
                )

    def _check_options(self) -> None:
        self._check_numbers()
        if not isinstance(self.sampling, str):
            if not isinstance(self.sampling, RowSampler):
                raise ConfigError(
                    f"dataset.sampling={self.sampling} has no draw(table, rng). Choose one of: {', '.join(SAMPLINGS)}; "
                    f"or set dataset.sampling._target_ to a RowSampler (see unmask.data.sampler)."
                )
        elif self.sampling not in SAMPLINGS:
            raise ConfigError(
                f"Unknown sampling '{self.sampling}' (dataset.sampling).{suggest(self.sampling, SAMPLINGS)} "
                f"Choose one of: {', '.join(SAMPLINGS)}"
            )
        if self.sampling != "weighted" and self.samples_per_epoch is not None:
            raise ConfigError(
                f"dataset.samples_per_epoch={self.samples_per_epoch} needs dataset.sampling=weighted; with "
                f"'{self.sampling}' the dataset determines the number. Drop it, or limit the crops with "
                f"dataset.limit.train."
            )
        if self.makes_fakes and self.sampling == "paired":
            raise ConfigError(
                "dataset.sampling=paired pairs fakes of the dataset with their originals, but this augmentation makes "
                "its own fakes and pairs them itself. Drop dataset.sampling, or choose another augmentation."
            )
        if self.unit == 2 and self.batch_size % 2:
            reason = "this augmentation" if self.makes_fakes else "dataset.sampling=paired"
            raise ConfigError(
                f"dataset.batch_size={self.batch_size} is odd, but {reason} keeps each real crop and its fake in one "
                f"batch. Choose an even number, such as {self.batch_size + 1}."
            )

    @property
    def unit(self) -> int:
        """Number of samples that must stay in one batch."""
        return 2 if self.makes_fakes or self.sampling == "paired" else 1

    def setup(self, stage: str | None = None) -> None:
        """Read the tables, audit the splits, skip unreadable crops, and select the rows.

        Raises:
            DatasetError: The dataset is missing, a split is empty or has only one class, too many crops are damaged,
                or the augmentation needs landmarks that the dataset lacks.
            LeakageError: A group spans several splits.
            ConfigError: Sampling is `paired`, but no fake has an original.
        """
        if self._crops:
            return
        dataset = self.dataset
        for split in ("train", "val"):
            dataset.check_classes(split, only=Label.REAL if self._lacks_fakes(dataset, split) else None)
        audit_splits(dataset)
        if self._lacks_fakes(dataset, "val"):
            logger.warning(
                "Split 'val' of '%s' has no fakes, so validation uses fakes that the augmentation makes from its real "
                "crops. The best checkpoint and the threshold are chosen on them; how well they suit other fakes, only "
                "an evaluation on such data shows.", dataset.root,
            )  # fmt: skip
        for split in ("train", "val"):
            self._crops[split] = self._open(self._choose_rows(dataset, split), dataset, is_train=split == "train")

    def _lacks_fakes(self, dataset: FaceDataset, split: str) -> bool:
        """Return whether a split does without fakes, because the augmentation makes them."""
        has_fakes = split == "val" and bool((dataset.faces_of(split)["label"] == Label.FAKE).any())
        return self.makes_fakes and not has_fakes

    def _choose_rows(self, dataset: FaceDataset, split: str) -> pd.DataFrame:
        table, is_train = find_usable_crops(dataset, split=split), split == "train"
        if is_train and self.makes_fakes:
            table = table[table["label"] == Label.REAL].reset_index(drop=True)
        if is_train and self.cap_per_method is not None:
            table = cap_methods(table, cap=self.cap_per_method, seed=self.seed)
        is_paired, limit = is_train and self.sampling == "paired", self.limit[split]
        if limit is not None and not is_train and self._lacks_fakes(dataset, split):
            limit = max(limit // 2, 1)  # a fake will follow each
        if limit is not None and limit < len(table):
            partners = find_originals(table, dataset) if is_paired else None
            table = limit_rows(table, limit=limit, seed=self.seed, partners=partners)
        if is_paired:
            self._partners = find_originals(table, dataset)
        return table

    def _open(self, table: pd.DataFrame, dataset: FaceDataset, *, is_train: bool) -> FaceCrops:
        forges = not is_train and self._lacks_fakes(dataset, "val")
        transform = self._augmentation if is_train or forges else None
        table, draws = add_fakes(table, seed=self.seed) if forges else (table, None)
        landmarks = None
        if getattr(transform, "needs_landmarks", False):
            landmarks = find_landmarks(table, spec=dataset.spec, root=dataset.root)
        return FaceCrops(
            table,
            root=dataset.root,
            input_spec=self._input_spec,
            transform=transform,
            landmarks=landmarks,
            draws=draws,
        )

    @property
    def dataset(self) -> FaceDataset:
        """The face dataset, read from disk."""
        return FaceDataset.load(self.root, folds=self.folds, fold=self.fold)

    def table(self, split: str) -> pd.DataFrame:
        """Return the selected rows of `train` or `val`; call `setup` first."""
        return self._crops[split].table

    def crops(self, split: str) -> FaceCrops:
        """Return the samples of `train` or `val`; call `setup` first."""
        return self._crops[split]

    def build_plan(self) -> EpochPlan:
        """Return the sampling strategy of training; call `setup` first."""
        return EpochPlan(
            self._crops["train"].table,
            sampling=self.sampling,
            num_samples=self.samples_per_epoch,
            partners=self._partners,
            makes_fakes=self.makes_fakes,
        )

    def count_smallest_batch(self, num_processes: int) -> int:
        """Return the size of the smallest training batch; call `setup` first.

        Args:
            num_processes: Number of processes that share the crops.
        """
        plan = self.build_plan()
        rows = len(plan.draw(np.random.default_rng(0))) * (2 if self.makes_fakes else 1)
        share = rows // (plan.unit * num_processes) * plan.unit
        last = share % self.batch_size
        return last if last > 1 or 0 < share < self.batch_size else min(self.batch_size, max(share, 1))

    def rehearse_augmentation(self) -> None:
        """Apply every augmentation step once; call `setup` first.

        Raises:
            ConfigError: A step cannot be applied to crops of this size.
        """
        if isinstance(self._augmentation, Augmentation):
            self._augmentation.rehearse(crop_size=self.dataset.spec.crop_size)

    def resume_at(self, *, epoch: int, batch: int) -> None:
        """Skip the batches of an interrupted epoch that were already trained on.

        Args:
            epoch: Interrupted epoch, counted from 0.
            batch: First batch to serve.
        """
        self._resumed = (epoch, batch)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Build the loader of training crops, seeded per epoch."""
        rank, world_size = self._find_place()
        # With overfit_batches, Lightning cannot stop a custom sampler from redrawing every epoch; repeats=True does.
        repeats = self.trainer is not None and getattr(self.trainer, "overfit_batches", 0) > 0
        sampler = EpochSampler(self.build_plan(), seed=self.seed, rank=rank, world_size=world_size, repeats=repeats)
        if not len(sampler):
            raise ConfigError(
                f"The {len(self._crops['train'])} training crops are too few for {world_size} processes. "
                f"Lower trainer.devices or trainer.num_nodes, or raise dataset.limit.train."
            )
        epoch, batch = self._resumed
        sampler.skip(epoch=epoch, num_samples=batch * self.batch_size)
        sampler.set_epoch(epoch)  # workers start loading before Lightning calls set_epoch
        # Batch normalisation cannot train on a single crop.
        drop_last = len(sampler) % self.batch_size == 1 and len(sampler) > 1
        return self._build_loader("train", sampler=sampler, batch_size=self.batch_size, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Build the loader of validation crops, each once and in order."""
        rank, world_size = self._find_place()
        batches = ValidationBatches(
            len(self._crops["val"]), batch_size=self.batch_size, rank=rank, world_size=world_size
        )
        return self._build_loader("val", batch_sampler=batches)

    def _find_place(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _build_loader(self, split: str, **options: Any) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            self._crops[split],
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
            **describe_loader(self.num_workers),
            **options,
        )
