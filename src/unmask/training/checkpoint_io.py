"""Checkpoints that are whole or not there."""

import errno
import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from unmask.errors import CheckpointError
from unmask.models.checkpoint import BEST, LAST, PREVIOUS
from unmask.paths import show_command

_FOR_RESUMING = ("optimizer_states", "lr_schedulers", "callbacks", "current_model_state", "averaging_state")
"""Entries of Lightning that only a resumed training reads: with Adam, two thirds of the bytes."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Write beside the old checkpoint and then take its place; of `last.ckpt` keep the one before as `previous.ckpt`.

    Trainings are resumed from `last.ckpt`, so `best.ckpt` is written without what only a resumed training reads.
    (Lightning's `save_weights_only` would not do: it leaves out the averaged weights of `callbacks.ema` as well.)

    Lightning's own writes into the folder for temporary files first, from where a move may be a copy that is cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: The disk is full, or the folder cannot be written to; what was there before still is.
        """
        path = Path(path)
        if path.name == BEST:
            checkpoint = {key: value for key, value in checkpoint.items() if key not in _FOR_RESUMING}
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        partial = path.with_name(f"{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_through(partial, buffer.getbuffer())
            if path.name == LAST and path.exists():
                _keep(path, path.with_name(PREVIOUS))
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _explain(error, path, size=buffer.getbuffer().nbytes) from error


def drop_previous(folder: Path) -> None:
    """Delete `previous.ckpt` of a training that has ended: its `last.ckpt` will not be written again."""
    if (folder / LAST).is_file():
        (folder / PREVIOUS).unlink(missing_ok=True)


def _write_through(path: Path, content: memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a rename may reach the disk before what was written


def _keep(path: Path, kept: Path) -> None:
    """Give a file a second name, replacing what had it, so that there is a whole checkpoint at every moment."""
    link = kept.with_name(f"{kept.name}.partial")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        shutil.copyfile(path, link)  # this file system has no hard links
    os.replace(link, kept)


def _explain(error: OSError, path: Path, *, size: int) -> CheckpointError:
    free = f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free" if path.parent.is_dir() else "no such folder"
    kept = "The one that was written before is kept. " if path.exists() else ""
    last, again = path.with_name(LAST), "run the same command again"
    if last.is_file():
        again = f"continue with: {show_command('train.py', f'resume={last.absolute()}')}"
    return CheckpointError(
        f"Cannot write the checkpoint '{path}' of {size / 1e6:.0f} MB: {error.strerror or error} ({free}). {kept}"
        f"Make room, or write elsewhere with UNMASK_HOME=..., and {again}"
    )
