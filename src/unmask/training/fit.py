"""Run the trainer, from the start or from a checkpoint, and explain how it can end."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from unmask.errors import ConfigError, Interrupted, TrainingError
from unmask.models.checkpoint import Checkpoint
from unmask.training.build import Parts
from unmask.training.resume import carry_best, check_objective, check_resume

logger = logging.getLogger(__name__)


def fit(cfg: DictConfig, parts: Parts, resumed: Checkpoint | None, *, folder: Path) -> None:
    """Train all epochs, or those that are left.

    Args:
        cfg: Of the training.
        parts: What it is made of.
        resumed: To go on from; None starts anew.
        folder: Of the run.

    Raises:
        ConfigError: No epoch is left.
        CheckpointError: The checkpoint does not fit what is configured, or none can be written.
        TrainingError: The loss is no number, or a batch does not fit into the memory.
        Interrupted: By a signal, in the process that tracks; others just end.
    """
    if resumed is not None:
        check_resume(resumed, parts.model, dataset_root=cfg.dataset.root)
        parts.resumption.start_from(resumed)
        keeps_past = check_objective(resumed, cfg.objective) and carry_best(resumed, folder / "checkpoints")
        parts.history.keeps_past = parts.scores.keeps_past = keeps_past
        parts.data.resume_at(epoch=resumed.epoch, batch=resumed.batch)
        done = f"epoch {resumed.epoch}" + (f" and {resumed.batch} batches" if resumed.batch else "")
        logger.info("Going on after %s, from '%s'.", done, resumed.path)
        _check_unfinished(cfg, resumed)
    try:
        with explaining_memory(cfg):
            parts.trainer.fit(parts.model, datamodule=parts.data, ckpt_path=None if resumed is None else resumed.path)
    except Interrupted:
        if not parts.trainer.is_global_zero:
            sys.exit(0)  # another code would make Lightning kill the first process, which still has a run to close
        raise
    except SystemExit as error:
        raise KeyboardInterrupt from error  # which Lightning makes an exit of
    if not parts.history.epochs:
        raise ConfigError(f"No epoch was trained: trainer.max_epochs={cfg.trainer.max_epochs}. Raise it.")


def _check_unfinished(cfg: DictConfig, resumed: Checkpoint) -> None:
    is_finished = (resumed.path.absolute().parents[1] / "result.json").is_file()
    most = cfg.trainer.max_epochs
    if 0 <= most < resumed.epoch or (is_finished and most == resumed.epoch):
        raise ConfigError(
            f"No epoch was trained: trainer.max_epochs={most} counts from the very start, and resume='{resumed.path}' "
            f"has {resumed.epoch} behind it. Raise trainer.max_epochs."
        )


@contextmanager
def explaining_memory(cfg: DictConfig) -> Iterator[None]:
    """Turn what PyTorch says of too little memory into which key to lower.

    Raises:
        TrainingError: A batch did not fit, or a process that decodes was killed for its memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        fix = _explain_memory(cfg, text) if not isinstance(error, MemoryError) else _lower_batch(cfg)
        if fix is None:
            raise
        first = text.splitlines()[0] if text else type(error).__name__
        raise TrainingError(f"The memory does not suffice: {first[:200]} {fix}") from error


def _explain_memory(cfg: DictConfig, text: str) -> str | None:
    if "DataLoader worker" in text and ("killed by signal: Killed" in text or "Bus error" in text):
        return f"Lower dataset.num_workers={cfg.dataset.num_workers} or dataset.batch_size={cfg.dataset.batch_size}."
    if "out of memory" in text or "can't allocate memory" in text:
        return _lower_batch(cfg)
    return None


def _lower_batch(cfg: DictConfig) -> str:
    return (
        f"Lower dataset.batch_size={cfg.dataset.batch_size}, and raise trainer.accumulate_grad_batches="
        f"{cfg.trainer.accumulate_grad_batches} by as much to keep what a step learns from; or lower model.input_size."
    )
