"""Learning-rate schedules in Lightning's format."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from unmask.errors import ConfigError

Schedule = Callable[[Optimizer, int], dict[str, Any]]
"""Function of the optimizer and its total number of steps that returns Lightning's scheduler config."""


LENGTHS = ("T_max", "total_steps", "total_iters")
"""Arguments of PyTorch schedulers for the length of the training, in steps or epochs."""

INTERVALS = ("step", "epoch")


@dataclass(frozen=True)
class TorchSchedule:
    """Any subclass of PyTorch's `LRScheduler`, built from its own arguments.

    `T_max`, `total_steps` and `total_iters` default to the length of the training in units of `interval` if they are
    null, or if they are required and missing.

    Args:
        scheduler: Class of the scheduler.
        arguments: Arguments of the class except the optimizer.
        interval: Unit of the scheduler's steps: `step` or `epoch`, as in Lightning.
        frequency: Number of optimizer steps or epochs per scheduler step.
        monitor: Metric key that `ReduceLROnPlateau` monitors.
        max_epochs: Number of epochs in the training; None or -1 if unlimited.
        parts: Schedules combined by `SequentialLR` or `ChainedScheduler`; their lengths must be set.
        key: Dotted key of the scheduler's config, for error messages.

    Raises:
        ConfigError: Invalid interval or frequency.
    """

    scheduler: type[LRScheduler]
    arguments: Mapping[str, Any]
    interval: str = "epoch"
    frequency: int = 1
    monitor: str = "val/loss"
    max_epochs: int | None = None
    parts: Sequence["TorchSchedule"] = field(default=())
    key: str = "scheduler"

    def __post_init__(self) -> None:
        if self.interval not in INTERVALS:
            raise ConfigError(
                f"{self.key}.interval='{self.interval}' is unknown. Choose one of: {', '.join(INTERVALS)}"
            )
        if not isinstance(self.frequency, int) or self.frequency < 1:
            raise ConfigError(f"{self.key}.frequency={self.frequency} must be a whole number of at least 1.")
        if self._is_plateau and self.interval != "epoch":
            raise ConfigError(
                f"{self.key}.interval={self.interval} is not supported by {self.scheduler.__name__}, which monitors a "
                f"validation metric after each epoch. Set {self.key}.interval=epoch."
            )

    def __call__(self, optimizer: Optimizer, total_steps: int) -> dict[str, Any]:
        """Return Lightning's scheduler config.

        Args:
            optimizer: Optimizer whose learning rates it changes.
            total_steps: Number of optimizer steps in the training; -1 if it has no end.

        Raises:
            ConfigError: Unknown, missing or invalid arguments.
        """
        config = {"scheduler": self.build(optimizer, total_steps), "interval": self.interval}
        config["frequency"] = self.frequency
        return config | ({"monitor": self.monitor} if self._is_plateau else {})

    def build(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Return the scheduler itself; see `__call__`."""
        arguments = self._fill_lengths(total_steps)
        if self.parts:
            arguments["schedulers"] = [part.build(optimizer, -1) for part in self.parts]
        accepted = inspect.signature(self.scheduler).parameters
        if self.parts and "optimizer" not in list(accepted)[:1]:  # ChainedScheduler takes its parts first
            arguments["optimizer"] = optimizer
            return self._construct(arguments)
        return self._construct({"optimizer": optimizer, **arguments})

    def _construct(self, arguments: dict[str, Any]) -> LRScheduler:
        try:
            inspect.signature(self.scheduler).bind(**arguments)
            return self.scheduler(**arguments)
        except (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError) as error:
            given = ", ".join(f"{self.key}.{name}={value}" for name, value in self.arguments.items()) or "no arguments"
            raise ConfigError(
                f"{self.scheduler.__name__} ({self.key}._target_) cannot be built from {given}: {error}. "
                f"Its arguments are: {', '.join(f'{self.key}.{name}' for name in self._list_accepted())}."
            ) from error

    def _list_accepted(self) -> list[str]:
        return [name for name in inspect.signature(self.scheduler).parameters if name != "optimizer"]

    def _fill_lengths(self, total_steps: int) -> dict[str, Any]:
        arguments = dict(self.arguments)
        accepted = inspect.signature(self.scheduler).parameters
        for name in LENGTHS:
            if name not in accepted or arguments.get(name) is not None:
                continue
            is_needed = accepted[name].default is inspect.Parameter.empty or (
                accepted[name].default is None and not {"epochs", "steps_per_epoch"} & arguments.keys()
            )
            if name not in arguments and not is_needed:
                continue
            length = total_steps if self.interval == "step" else self.max_epochs
            if length is None or length < 1:
                raise ConfigError(
                    f"{self.scheduler.__name__} needs the length of the training, which is unknown. "
                    f"Set {self.key}.{name} in {self.interval}s."
                )
            arguments[name] = max(length // self.frequency, 1)
        return arguments

    @property
    def _is_plateau(self) -> bool:
        return issubclass(self.scheduler, ReduceLROnPlateau)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup_ratio: float, final_ratio: float) -> dict[str, Any]:
    """Rise linearly, then fall along a half cosine (Loshchilov and Hutter, SGDR, ICLR 2017).

    Args:
        optimizer: Optimizer whose learning rate is the maximum.
        total_steps: Number of steps in the training.
        warmup_ratio: Fraction of the steps in which the learning rate rises.
        final_ratio: Final learning rate divided by the maximum.
    """
    warmup = round(total_steps * warmup_ratio)

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * progress)) / 2

    return {"scheduler": LambdaLR(optimizer, scale), "interval": "step"}


def onecycle(optimizer: Optimizer, total_steps: int, *, rise_ratio: float) -> dict[str, Any]:
    """Rise and fall once, with momentum changing inversely (Smith and Topin, Super-Convergence, 2018).

    Args:
        optimizer: Optimizer whose learning rate is the maximum.
        total_steps: Number of steps in the training.
        rise_ratio: Fraction of the steps in which the learning rate rises.
    """
    top = [group["lr"] for group in optimizer.param_groups]
    scheduler = ResumableOneCycle(optimizer, max_lr=top, total_steps=total_steps, pct_start=rise_ratio)
    return {"scheduler": scheduler, "interval": "step"}


class ResumableOneCycle(OneCycleLR):
    """One-cycle schedule for training resumed with more epochs; PyTorch's restores the old length and then raises."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the progress of the training, but not its length."""
        super().load_state_dict({"last_epoch": state_dict["last_epoch"], "_last_lr": state_dict["_last_lr"]})


def plateau(
    optimizer: Optimizer, total_steps: int, *, monitor: str, mode: Literal["min", "max"], factor: float, patience: int
) -> dict[str, Any]:
    """Reduce the learning rate when a validation metric stops improving.

    Args:
        optimizer: Optimizer whose learning rate is reduced.
        total_steps: Unused.
        monitor: Metric key, such as `val/loss`.
        mode: `min` if smaller is better, `max` if larger is.
        factor: Factor of each reduction.
        patience: Number of epochs without improvement before a reduction.
    """
    del total_steps
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}


def no_schedule() -> None:
    """Keep the learning rate constant; built by `scheduler=none`."""
