"""Find the learning rate and the largest batch size with Lightning's Tuner."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.tuner.tuning import Tuner
from omegaconf import DictConfig

from unmask.data.datamodule import FaceDataModule
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.metrics.plots import draw_search
from unmask.models.classifier import DeepfakeClassifier
from unmask.paths import write_bytes
from unmask.training.build import build_model, build_trainer, resolve_objective
from unmask.training.checks import check_settings
from unmask.training.devices import runs_on_gpu
from unmask.training.run import explaining, quieten

_NUM_STEPS = 100
_NUM_WARM_UP = 10
_LEAST_LR = 1e-6
_SPAN = 8
"""Steps over which the slope of the loss is taken, since it differs between batches."""
_STEPS_PER_TRIAL = 5
_LEAST_BATCH = 2
_NO_END = 10_000
"""Epochs; the Tuner stops by steps, and small data give few of them in an epoch."""


@dataclass(frozen=True)
class Tuned:
    """What the Tuner found.

    Args:
        key: Configuration key to set, such as `optimizer.lr`.
        value: Found.
        plot: File that shows what was tried.
    """

    key: str
    value: float | int
    plot: Path


def find_lr(cfg: DictConfig, *, folder: Path) -> Tuned:
    """Raise the learning rate over 100 steps, and find where the loss falls fastest (Smith, arXiv 1506.01186).

    Args:
        cfg: Configuration of `train.yaml`.
        folder: Gets `find_lr.svg` and `result.json`.

    Raises:
        ConfigError: The loss fell nowhere, or the trainer cannot be tuned.
    """
    trainer, model, data = _build(cfg, folder)
    with explaining(cfg):
        finder = Tuner(trainer).lr_find(
            model, datamodule=data, min_lr=_LEAST_LR, num_training=_NUM_STEPS, update_attr=False
        )
    if finder is None:
        raise ConfigError("trainer.fast_dev_run leaves nothing to tune. Drop it.")
    # The mean that the Tuner takes of the loss is not settled before.
    tried = {name: finder.results[name][_NUM_WARM_UP:] for name in ("lr", "loss")}
    found = find_steepest(tried["lr"], tried["loss"])
    if found is None:
        raise ConfigError(
            f"The loss fell at no learning rate from {_LEAST_LR:g} to 1, with dataset.batch_size="
            f"{cfg.dataset.batch_size}. Try a larger batch, precision=fp32 or another loss."
        )
    drawn = draw_search(tried["lr"], tried["loss"], found=found, xlabel="Learning rate", ylabel="Loss")
    return _write(Tuned("optimizer.lr", found, folder / "find_lr.svg"), tried, drawn)


def find_steepest(lrs: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the learning rate at which the loss falls fastest on its way to its minimum; None where it does not fall.

    The slope is that over the logarithm of the rate, as the plot shows it; Lightning's own suggestion takes it over the
    rate itself, which makes the smallest rates look steepest.

    Args:
        lrs: Rising, shape `(N,)`.
        losses: Smoothed, shape `(N,)`; those that are not finite do not count.
    """
    kept = np.isfinite(losses)
    rates, values = np.asarray(lrs)[kept], np.asarray(losses)[kept]
    if len(values) < 2 * _SPAN:
        return None
    slopes = (values[_SPAN:] - values[:-_SPAN]) / (np.log(rates[_SPAN:]) - np.log(rates[:-_SPAN]))
    middles = np.sqrt(rates[_SPAN:] * rates[:-_SPAN])
    slopes[middles > rates[int(values.argmin())]] = np.inf
    steepest = int(slopes.argmin())
    return float(middles[steepest]) if slopes[steepest] < 0 else None


def find_batch_size(cfg: DictConfig, *, folder: Path) -> Tuned:
    """Double the batch until the memory of the GPU, or the training split, ends.

    Args:
        cfg: Configuration of `train.yaml`.
        folder: Gets `find_batch_size.svg` and `result.json`.

    Raises:
        ConfigError: The training runs on no GPU, or on several.
    """
    if not runs_on_gpu(cfg.trainer):
        raise ConfigError(
            "task=find_batch_size looks for the batch that fills the memory of a GPU, and trainer.accelerator="
            f"{cfg.trainer.accelerator} has none here. On a CPU keep dataset.batch_size as it is."
        )
    trainer, model, data = _build(cfg, folder)
    data.batch_size = _LEAST_BATCH  # the Tuner does not build the loader anew for its first trial
    starts: list[tuple[int, float]] = []
    step = model.training_step

    def timed(batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        is_whole = len(batch["label"]) == data.batch_size  # the last one of an epoch may be smaller
        starts.append((data.batch_size if is_whole else 0, time.perf_counter()))
        return step(batch, batch_idx)

    model.training_step = timed  # type: ignore[assignment,method-assign]
    with explaining(cfg):
        found = Tuner(trainer).scale_batch_size(
            model, datamodule=data, steps_per_trial=_STEPS_PER_TRIAL, init_val=_LEAST_BATCH, max_val=1 << 20
        )
    if found is None:
        raise ConfigError("trainer.fast_dev_run leaves nothing to tune. Drop it.")
    tried = _measure(starts, largest=found)
    drawn = draw_search(*tried.values(), found=found, xlabel="Batch size", ylabel="Crops per second")
    return _write(Tuned("dataset.batch_size", found, folder / "find_batch_size.svg"), tried, drawn)


def _build(cfg: DictConfig, folder: Path) -> tuple[L.Trainer, DeepfakeClassifier, FaceDataModule]:
    quieten()
    dataset = FaceDataset.from_config(cfg.dataset)
    resolve_objective(cfg, dataset)
    check_settings(cfg, dataset)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model, data = build_model(cfg, dataset, provenance={})
    data.setup()
    trainer = build_trainer(
        cfg,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        max_epochs=_NO_END,
        check_val_every_n_epoch=_NO_END,
        default_root_dir=str(folder),
    )
    return trainer, model, data


def _measure(starts: list[tuple[int, float]], *, largest: int) -> dict[str, list[float]]:
    """Return the sizes that fitted, and the crops per second of each: by its fastest step, since the first warms up."""
    seconds: dict[int, list[float]] = {}
    for (size, start), (following, end) in itertools.pairwise(starts):
        if 0 < size <= largest and size == following:
            seconds.setdefault(size, []).append(end - start)
    sizes = sorted(seconds)
    return {
        "batch_size": [float(size) for size in sizes],
        "crops_per_second": [size / min(seconds[size]) for size in sizes],
    }


def _write(tuned: Tuned, tried: dict[str, list[float]], drawn: str) -> Tuned:
    record: dict[str, Any] = {"key": tuned.key, "value": tuned.value, "tried": tried}
    write_bytes(tuned.plot, drawn.encode())
    write_bytes(tuned.plot.with_name("result.json"), (json.dumps(record, indent=2) + "\n").encode())
    return tuned
