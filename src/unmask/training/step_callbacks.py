"""Callbacks of every step: seed it, check its loss, and stop after it on request."""

import json
import logging
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from unmask.data.datamodule import FaceDataModule
from unmask.errors import CheckpointError, Interrupted, TrainingError
from unmask.models.checkpoint import LAST
from unmask.training.interruption import StopRequest

logger = logging.getLogger(__name__)

_NUM_SHOWN = 5
_FIX = "Lower optimizer.lr, or try precision=fp32 or a smaller trainer.gradient_clip_val."


class StepSeeds(L.Callback):
    """Seed the network's own random numbers, such as dropout's, by the step: a resumed training draws the same.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the step."""
        place = [self._seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))


class FiniteLoss(L.Callback):
    """Stop a training whose loss is no number any more, and say where it was lost."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of a step.

        Raises:
            TrainingError: It is infinite or no number; names the batch, whose crops are all listed in a file.
        """
        loss = outputs["loss"]
        if torch.isfinite(loss):
            return
        assert isinstance(trainer.datamodule, FaceDataModule)  # type: ignore[attr-defined]
        table = trainer.datamodule.table("train")  # type: ignore[attr-defined]
        crops = [str(table["crop"].iloc[row]) for row in batch["row"].tolist()]
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        place = {"epoch": trainer.current_epoch + 1, "batch": batch_idx + 1, "step": trainer.global_step}
        listed = Path(trainer.default_root_dir) / "lost_batch.json"
        listed.write_text(json.dumps({**place, "learning_rate": rate, "crops": crops}, indent=2) + "\n")
        more = f" and {len(crops) - _NUM_SHOWN} more" if len(crops) > _NUM_SHOWN else ""
        raise TrainingError(
            f"The loss became {float(loss)} in epoch {place['epoch']}, batch {place['batch']} of "
            f"{trainer.num_training_batches} (step {place['step']}), at a learning rate of {rate:.3g}. Its crops: "
            f"{', '.join(crops[:_NUM_SHOWN])}{more} (all in '{listed}'). {_FIX}"
        )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the weights, which the last step may have spoilt.

        Raises:
            TrainingError: One is infinite or no number.
        """
        lost = [name for name, value in pl_module.state_dict().items() if not torch.isfinite(value).all()]
        if lost:
            raise TrainingError(
                f"After epoch {trainer.current_epoch + 1} weights are infinite or no numbers: {', '.join(lost[:3])}"
                f"{f' and {len(lost) - 3} more' if len(lost) > 3 else ''}. {_FIX}"
            )


class StopAtStep(L.Callback):
    """Write `last.ckpt` in the middle of an epoch: when somebody wants the training to end, and every few minutes.

    It comes behind all callbacks that change something at the end of a batch.

    Args:
        request: Shutdown request, set by a signal.
        folder: Checkpoint folder.
        minutes: Between two checkpoints, those at the end of an epoch included; None for the ends of epochs alone.
    """

    def __init__(self, request: StopRequest, *, folder: Path, minutes: float | None) -> None:
        self._request = request
        self._path = folder / LAST
        self._seconds = float("inf") if minutes is None else 60 * minutes
        self._saved = 0.0
        self._num_batches = 0
        self._num_batches_then = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the length of an epoch, of which a resumed training skips a part."""
        return {"num_batches": self._num_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the length that an epoch had."""
        self._num_batches_then = state_dict["num_batches"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, in place of Lightning, whose processes would learn of a signal at different steps.

        Raises:
            CheckpointError: The checkpoint is of the middle of an epoch, and epochs had another length then.
        """
        self._num_batches = int(trainer.num_training_batches)
        if trainer.fit_loop.restarted_mid_epoch and self._num_batches != self._num_batches_then:
            raise CheckpointError(
                f"The checkpoint was written in the middle of an epoch of {self._num_batches_then} batches, and now an "
                f"epoch has {self._num_batches}. Give the same dataset.* and trainer.devices as then."
            )
        self._request.take_signals()
        self._request.is_training = True
        self._saved = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop between two epochs: the checkpoint of the last one is written."""
        if self._is_wanted(trainer, self._request.signal_number is not None):
            self._stop()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop or save, but not within an accumulation of gradients, nor before the validation that comes next."""
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches or done >= self._num_batches:
            return
        is_due = time.monotonic() - self._saved > self._seconds
        if not self._is_wanted(trainer, is_due or self._request.signal_number is not None):
            return
        trainer.save_checkpoint(self._path)
        self._saved = time.monotonic()
        if self._is_wanted(trainer, self._request.signal_number is not None):
            logger.info("Stopped in epoch %d after batch %d of %d.", trainer.current_epoch + 1, done, self._num_batches)
            self._stop()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the checkpoint that is written now."""
        self._saved = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave later signals to end the process at once."""
        self._request.is_training = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave later signals to end the process at once."""
        self._request.is_training = False

    def _is_wanted(self, trainer: L.Trainer, wish: bool) -> bool:
        """Tell whether any of the processes wishes so: they must stop at the same step."""
        return trainer.strategy.reduce_boolean_decision(wish, all=False) if trainer.world_size > 1 else wish

    def _stop(self) -> None:
        self._request.is_training = False
        raise Interrupted(self._request.signal_number or signal.SIGTERM)
