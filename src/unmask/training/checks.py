"""Settings that cannot work together, found before anything is started."""

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.metrics.collection import FIGURES
from unmask.models.classifier import check_head_lr_ratio
from unmask.training.check_values import check_values
from unmask.training.devices import check_devices, runs_on_gpu
from unmask.training.ema import build_ema
from unmask.training.finetune import count_frozen_epochs
from unmask.training.nodes import check_network
from unmask.training.precision import choose_precision


def check_settings(cfg: DictConfig, dataset: FaceDataset) -> None:
    """Raise where settings contradict each other, the machine or the data.

    Args:
        cfg: Of `train.yaml`.
        dataset: To train on.

    Raises:
        ConfigError: Names the keys, and what to give instead.
    """
    check_devices(cfg.trainer)
    check_values(cfg, dataset)
    choose_precision(cfg.precision.name, has_gpu=runs_on_gpu(cfg.trainer))
    check_network(cfg.model)
    check_head_lr_ratio(cfg.optimizer.get("head_lr_ratio", 1.0))
    _check_numbers(cfg.trainer)
    _check_validation(cfg)
    _check_monitor(cfg, dataset)
    _check_freezing(cfg)
    _check_average(cfg)
    if cfg.compile:
        check_compiler(runs_on_gpu(cfg.trainer))


def _check_numbers(trainer: DictConfig) -> None:
    for key, least in (("max_epochs", -1), ("accumulate_grad_batches", 1), ("log_every_n_steps", 0)):
        value = trainer.get(key)
        if value is not None and (not isinstance(value, int) or value < least):
            raise ConfigError(f"trainer.{key}={value} must be a whole number from {least} on.")
    clip = trainer.get("gradient_clip_val")
    if clip is not None and (not isinstance(clip, int | float) or clip < 0):
        raise ConfigError(f"trainer.gradient_clip_val={clip} must be a number from 0 on, or null to clip nothing.")


def _check_validation(cfg: DictConfig) -> None:
    trainer = cfg.trainer
    needs = f"scheduler.monitor={cfg.scheduler.monitor} and the best checkpoint" if "monitor" in cfg.scheduler else (
        "the best checkpoint and the threshold"
    )  # fmt: skip
    if trainer.limit_val_batches == 0 or trainer.get("fast_dev_run"):
        key = "fast_dev_run" if trainer.get("fast_dev_run") else "limit_val_batches"
        raise ConfigError(
            f"trainer.{key}={trainer[key]} leaves no validation, and {needs} need it. Drop it; for a short trial there "
            f"is debug=fast."
        )
    every, part = trainer.get("check_val_every_n_epoch", 1), trainer.get("val_check_interval")
    if every != 1 or part not in (None, 1.0):
        key = "check_val_every_n_epoch" if every != 1 else "val_check_interval"
        raise ConfigError(
            f"trainer.{key}={trainer[key]} is not possible: {needs} need one validation at the end of every epoch. "
            f"Drop it; longer epochs come of dataset.samples_per_epoch."
        )


def _check_monitor(cfg: DictConfig, dataset: FaceDataset) -> None:
    if "monitor" not in cfg.scheduler:
        return
    prefixes = ("val/", "val/video_") if dataset.has_videos else ("val/",)
    known = ["train/loss", "val/loss", *(prefix + figure for prefix in prefixes for figure in FIGURES)]
    monitor = cfg.scheduler.monitor
    if monitor not in known:
        raise ConfigError(f"No figure '{monitor}' to look at (scheduler.monitor). Choose one of: {', '.join(known)}")
    mode = "min" if monitor.endswith("loss") else "max"
    given = cfg.scheduler.get("mode", "min")
    if given != mode:
        better = "smaller" if mode == "min" else "larger"
        raise ConfigError(
            f"scheduler.mode={given} does not fit scheduler.monitor={monitor}, of which {better} is "
            f"better. Give scheduler.mode={mode}."
        )


def _check_freezing(cfg: DictConfig) -> None:
    num_epochs, max_epochs = count_frozen_epochs(cfg.callbacks), cfg.trainer.max_epochs
    if max_epochs is not None and 0 <= max_epochs <= num_epochs and num_epochs > 0:
        raise ConfigError(
            f"callbacks.freeze.num_epochs={num_epochs} freezes the backbone to the end of "
            f"trainer.max_epochs={max_epochs}. Lower the former, or raise the latter."
        )


def _check_average(cfg: DictConfig) -> None:
    node = cfg.callbacks.get("ema")
    if node is not None:
        build_ema(decay=node.decay)  # raises


def check_compiler(has_gpu: bool, *, compiles: Callable[..., Any] | None = None) -> None:
    """Compile something small, since what a compiler needs differs between machines.

    Args:
        has_gpu: Whether the training runs on a GPU.
        compiles: `torch.compile`.

    Raises:
        ConfigError: It fails; says with what.
    """
    import torch

    device = "cuda" if has_gpu else "cpu"
    try:
        (compiles or torch.compile)(lambda values: values.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler, header or library each fail in a way of their own
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        needs = "a C++ compiler and Triton" if has_gpu else "a C++ compiler, such as g++"
        raise ConfigError(
            f"compile=true needs {needs}, and torch.compile fails here: {told} Install it, or leave out compile=true."
        ) from error
