"""Learning-rate schedules in the form that Lightning wants."""

import math
from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

Schedule = Callable[[Optimizer, int], dict[str, Any]]
"""Gets the optimizer and the number of its steps in the whole training; returns Lightning's scheduler config."""


def cosine(optimizer: Optimizer, total_steps: int, *, warmup_ratio: float, final_ratio: float) -> dict[str, Any]:
    """Rise linearly, then fall along a half cosine (Loshchilov and Hutter, SGDR, ICLR 2017).

    Args:
        optimizer: Its learning rate is the top of the curve.
        total_steps: Of the training.
        warmup_ratio: Share of the steps that rise.
        final_ratio: Learning rate at the end over that at the top.
    """
    warmup = round(total_steps * warmup_ratio)

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * progress)) / 2

    return {"scheduler": LambdaLR(optimizer, scale), "interval": "step"}


def onecycle(optimizer: Optimizer, total_steps: int, *, rise_ratio: float) -> dict[str, Any]:
    """Rise and fall once, the momentum against it (Smith and Topin, Super-Convergence, 2018).

    Args:
        optimizer: Its learning rate is the top of the curve.
        total_steps: Of the training.
        rise_ratio: Share of the steps that rise.
    """
    top = [group["lr"] for group in optimizer.param_groups]
    scheduler = _ResumableOneCycle(optimizer, max_lr=top, total_steps=total_steps, pct_start=rise_ratio)
    return {"scheduler": scheduler, "interval": "step"}


class _ResumableOneCycle(OneCycleLR):
    """Keeps its own length when a training is resumed for longer; PyTorch's would take the old one and then raise."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over how far the training is, not how long it was meant to be."""
        super().load_state_dict({"last_epoch": state_dict["last_epoch"], "_last_lr": state_dict["_last_lr"]})


def plateau(
    optimizer: Optimizer, total_steps: int, *, monitor: str, mode: Literal["min", "max"], factor: float, patience: int
) -> dict[str, Any]:
    """Lower the learning rate when a validation figure stands still.

    Args:
        optimizer: To be changed.
        total_steps: Not used.
        monitor: Metric key, such as `val/loss`.
        mode: `min` or `max`: whether smaller or larger is better.
        factor: Of each lowering.
        patience: Epochs to wait.
    """
    del total_steps
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}


def no_schedule() -> None:
    """Leave the learning rate as it is: what `scheduler=none` builds."""
