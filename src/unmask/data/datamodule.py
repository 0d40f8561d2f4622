"""The LightningDataModule of a face dataset."""

import multiprocessing
import os
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler, get_worker_info

from unmask.data.audit import audit_splits
from unmask.data.augmentation import Augmentation
from unmask.data.dataset import FaceCrops
from unmask.data.integrity import find_usable_crops
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.faces.spec import InputSpec

SAMPLINGS = ("weighted", "natural")


class FaceDataModule(L.LightningDataModule):
    """Serve the train and val crops of a face dataset.

    Args:
        root: The face dataset.
        input_spec: Size of the network's input.
        augmentation: Of training crops.
        batch_size: Crops a step.
        num_workers: Processes that decode; None is one a core, 8 at most.
        sampling: `weighted` draws real and fake equally often, with replacement; `natural` takes every crop once.
        samples_per_epoch: How many are drawn with `weighted`; None as many as there are crops.
        seed: Of the draws.
    """

    def __init__(
        self,
        root: str,
        *,
        input_spec: InputSpec,
        augmentation: Augmentation | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        sampling: str = "weighted",
        samples_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if sampling not in SAMPLINGS:
            raise ConfigError(f"No sampling '{sampling}' (dataset.sampling). Choose one of: {', '.join(SAMPLINGS)}")
        if sampling == "natural" and samples_per_epoch is not None:
            raise ConfigError(
                f"dataset.samples_per_epoch={samples_per_epoch} needs dataset.sampling=weighted; "
                f"'natural' takes every crop."
            )
        self.root = root
        self.batch_size = batch_size
        self.num_workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        self.sampling = sampling
        self.samples_per_epoch = samples_per_epoch
        self.seed = seed
        self._input_spec = input_spec
        self._augmentation = augmentation
        self._crops: dict[str, FaceCrops] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the tables, look for leaks, and leave out crops that cannot be read.

        Raises:
            DatasetError: Absent, a split without crops or with one class, or too many damaged crops.
            LeakageError: A group crosses splits.
        """
        if self._crops:
            return
        dataset = self.dataset
        for split in ("train", "val"):
            dataset.check_classes(split)
        audit_splits(dataset)
        for split in ("train", "val"):
            table = find_usable_crops(dataset, split=split)
            transform = self._augmentation if split == "train" else None
            self._crops[split] = FaceCrops(table, root=dataset.root, input_spec=self._input_spec, transform=transform)

    @property
    def dataset(self) -> FaceDataset:
        """The tables."""
        return FaceDataset.load(self.root)

    def table(self, split: str) -> pd.DataFrame:
        """Return the usable crops of `train` or `val`, after `setup`."""
        return self._crops[split].table

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Draw training crops."""
        crops = self._crops["train"]
        sampler = self._build_sampler(crops.table) if self.sampling == "weighted" else None
        return self._build_loader(crops, sampler=sampler, shuffle=sampler is None, drop_last=self._drops_last(crops))

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Take every validation crop once, in order."""
        return self._build_loader(self._crops["val"])

    def _drops_last(self, crops: FaceCrops) -> bool:
        # Batch normalisation cannot learn from a single crop.
        return (self.samples_per_epoch or len(crops)) % self.batch_size == 1

    def _build_sampler(self, table: pd.DataFrame) -> WeightedRandomSampler:
        labels = table["label"].to_numpy()
        weights = 1.0 / np.bincount(labels, minlength=2)[labels]
        generator = torch.Generator().manual_seed(self.seed)
        return WeightedRandomSampler(
            torch.from_numpy(weights).tolist(), self.samples_per_epoch or len(table), generator=generator
        )

    def _build_loader(self, crops: FaceCrops, **options: Any) -> DataLoader[dict[str, Any]]:
        if self.num_workers == 0 and crops.transform is not None:
            seed_worker(0, crops)
        return DataLoader(
            crops,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            worker_init_fn=seed_worker if self.num_workers else None,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Forked workers start in no time; spawned ones import torch anew, half a minute for four of them.
            multiprocessing_context=_choose_context() if self.num_workers else None,
            generator=torch.Generator().manual_seed(self.seed),
            **options,
        )


def seed_worker(worker: int, crops: FaceCrops | None = None) -> None:
    """Give the augmentation of a worker draws of its own that repeat with the run's seed.

    Args:
        worker: Number of the worker process.
        crops: Whose augmentation; None for that of this worker process.
    """
    if crops is None:
        info = get_worker_info()
        assert info is not None
        crops = info.dataset  # type: ignore[assignment]
    assert crops is not None
    if isinstance(crops.transform, Augmentation):
        crops.transform.set_seed(torch.initial_seed() % 2**32)


def _choose_context() -> str:
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
