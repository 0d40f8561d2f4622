"""Resume a training: read its checkpoint, and compare what changed since."""

import errno
import io
import logging
import math
import os
import shlex
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from omegaconf import DictConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unmask.config import to_plain
from unmask.data.tables import read_folds, show_folds
from unmask.errors import CheckpointError
from unmask.faces.spec import check_same_crops
from unmask.models.checkpoint import BEST, LAST, PREVIOUS, Checkpoint, check_is_file, load_checkpoint
from unmask.models.classifier import DeepfakeClassifier
from unmask.models.schedules import LENGTHS, ResumableOneCycle
from unmask.paths import show_command

logger = logging.getLogger(__name__)

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


def find_last(folders: Sequence[Path]) -> Path:
    """Return the newest `last.ckpt` below some folders.

    Raises:
        CheckpointError: There is none.
    """
    found = [path for folder in folders for path in folder.rglob(f"checkpoints/{LAST}")]
    if not found:
        told = " or ".join(f"'{folder}'" for folder in folders)
        raise CheckpointError(
            f"resume=last finds no {LAST} below {told}. Name one: resume=<run folder>/checkpoints/{LAST}, or name the "
            f"folder that everything was written under: UNMASK_HOME=..."
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def open_resumed(path: str | Path) -> Checkpoint:
    """Read the checkpoint to resume from; if `last.ckpt` is damaged, the one before it.

    Raises:
        CheckpointError: Neither can be read, or it holds weights alone.
    """
    path = Path(path)
    check_is_file(path, key="resume", wanted=LAST)
    try:
        return _check_resumable(load_checkpoint(path))
    except CheckpointError as error:
        previous = path.with_name(PREVIOUS)
        if path.name != LAST or not previous.is_file():
            raise
        whole = load_checkpoint(previous)
        logger.warning("%s Going on from the one before it: '%s', epoch %d.", error, previous, whole.epoch + 1)
        return whole


def _check_resumable(checkpoint: Checkpoint) -> Checkpoint:
    if not checkpoint.is_resumable:
        last = checkpoint.path.with_name(LAST)
        fix = f"Resume from {shlex.quote(f'resume={last}')}" if last.is_file() else f"Name the '{LAST}' of that run"
        raise CheckpointError(
            f"resume='{checkpoint.path}' holds the network alone, without the state of its optimizer and schedule. "
            f"{fix}."
        )
    return checkpoint


def check_resume(checkpoint: Checkpoint, model: DeepfakeClassifier, *, dataset_root: str) -> None:
    """Raise unless a checkpoint holds the network that is configured, trained on crops made alike.

    Raises:
        CheckpointError: The networks differ, or the folds of the dataset; says in what.
        SpecMismatchError: The crops differ.
    """
    ours, theirs = model.network.config, checkpoint.network_config
    differences = [
        f"model.{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here"
        for key in {**ours, **theirs}
        if ours.get(key) != theirs.get(key)
    ]
    if differences:
        raise CheckpointError(
            f"resume='{checkpoint.path}' holds another network: {'; '.join(differences)}. "
            f"Give the same model as then, or start a new training."
        )
    check_same_crops(checkpoint.crop_spec, model.origin.crop_spec, where=dataset_root)
    now, then = model.origin.provenance, checkpoint.provenance
    given, before = read_folds(now), read_folds(then)
    if now.get("dataset") == then.get("dataset") and given != before:
        raise CheckpointError(
            f"resume='{checkpoint.path}' was trained with {show_folds(*before)}; with {show_folds(*given)}, val and "
            f"test would contain videos that it was trained on. Give the same folds as then, or start a new training."
        )


def check_objective(checkpoint: Checkpoint, objective: str) -> bool:
    """Tell whether the best epoch so far was chosen by the present figure; where not, log that it is chosen anew.

    Args:
        checkpoint: Checkpoint to resume from.
        objective: Metric key.
    """
    before = checkpoint.learning.get("objective", objective)
    if before != objective:
        logger.warning("objective=%s was %s: the best epoch is chosen among those from now on.", objective, before)
    return bool(before == objective)


def carry_best(checkpoint: Checkpoint, folder: Path) -> bool:
    """Copy the best checkpoint so far to where the resumed training writes; tell whether there is one.

    Args:
        checkpoint: Checkpoint to resume from.
        folder: Folder of the new checkpoints.
    """
    best, here = checkpoint.path.with_name(BEST), folder / BEST
    if not best.is_file():
        if checkpoint.epoch > 0:
            logger.warning("No '%s': the best epoch is looked for among those that are trained from now on.", best)
        return False
    try:
        best_epoch = load_checkpoint(best).epoch
    except CheckpointError as error:
        logger.warning("%s The best epoch is looked for among those that are trained from now on.", error)
        return False
    if best_epoch > checkpoint.epoch:
        logger.warning(
            "'%s' is from a later epoch than the checkpoint to resume from; the best epoch is searched for again.", best
        )
        return False
    if best.resolve() != here.resolve():
        here.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, here)
    return True


_LEARNING = (
    "optimizer", "scheduler", "loss", "augmentation", "dataset", "precision", "trainer", "callbacks", "objective",
    "seed", "compile", "deterministic",
)  # fmt: skip
_ELSEWHERE = ("dataset.root", "dataset.num_workers", "trainer.enable_progress_bar")
_RATES = ("optimizer.lr", "optimizer.weight_decay", "optimizer.head_lr_ratio")
"""Keys of which an optimizer's state does not depend on whether they are 0."""


def record_learning(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that a resumed training is compared by, plain values by their dotted keys.

    Args:
        cfg: Configuration of `train.yaml`.
    """
    plain = to_plain(cfg)
    settings = _flatten({key: plain[key] for key in _LEARNING if key in plain})
    return {key: value for key, value in settings.items() if key not in _ELSEWHERE}


def _flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def describe_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what was configured otherwise when a checkpoint was written, and what that does to its state.

    Args:
        then: Result of `record_learning` in the checkpoint; empty if it holds none.
        now: The same of the present training.
    """
    if not then:
        return []
    keys = [key for key in dict.fromkeys((*now, *then)) if then.get(key) != now.get(key)]
    lines = [f"{key}={now.get(key)} (was {then.get(key)})" for key in keys]
    if not _keeps_state(then, now):
        lines.append("weights are kept, and the state of the optimizer starts anew")
    return lines


def _keeps_state(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether an optimizer can use the state of another: of its kind, with the same options switched on."""
    if then.get("optimizer._target_") != now.get("optimizer._target_"):
        return False
    keys = {key for key in (*then, *now) if key.startswith("optimizer.") and key not in _RATES}
    return all(_is_on(then.get(key)) == _is_on(now.get(key)) for key in keys)


def _is_on(value: Any) -> bool:
    return value not in (None, 0, False)


class Resumption(L.Callback):
    """Give optimizer and schedule the state that they had, or the part of it that fits what is configured now.

    Lightning hands the state of one optimizer to whatever other there is, which fails at a later step or lets the
    settings of the checkpoint win over the configured ones. So this callback keeps the states back, and comes first
    among the callbacks, before a schedule takes its next step.

    - Nothing has changed: everything is restored as it was.
    - Another learning rate or other groups: the state of each weight is kept, and the configured rates apply.
    - Another optimizer: its state starts anew.
    - Another schedule, or epochs of another number of steps: it stands where it would be by now had it been there from
      the start.

    Args:
        now: Present result of `record_learning`.
    """

    def __init__(self, now: Mapping[str, Any]) -> None:
        self._now = now
        self._from: Checkpoint | None = None
        self._states: tuple[list[Any], list[Any]] | None = None

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Prepare for the checkpoint that the trainer is about to restore."""
        self._from = checkpoint

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the states back until there are an optimizer and a schedule to compare them with."""
        self._states = (checkpoint["optimizer_states"], checkpoint["lr_schedulers"])
        checkpoint["optimizer_states"], checkpoint["lr_schedulers"] = [], []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore what fits."""
        if self._states is None or self._from is None:
            return
        (optimizer,), [saved, *_] = trainer.optimizers, self._states[0]
        if self._is_unchanged(optimizer, saved) and self._has_place(trainer):
            optimizer.load_state_dict(saved)
            for config, state in zip(trainer.lr_scheduler_configs, self._states[1], strict=True):
                config.scheduler.load_state_dict(state)
        else:
            self._adapt(trainer, optimizer, saved)
        self._states = None

    def _is_unchanged(self, optimizer: Optimizer, saved: dict[str, Any]) -> bool:
        then = self._from.learning if self._from is not None else {}
        if not then:  # written before settings were recorded
            return _has_form(optimizer, saved)
        keys = {key for key in (*then, *self._now) if key.startswith(("optimizer.", "scheduler."))}
        return all(then.get(key) == self._now.get(key) for key in keys)

    def _has_place(self, trainer: L.Trainer) -> bool:
        """Tell whether the schedules of the checkpoint are of the present kind, and stand at the present step."""
        configs, states = trainer.lr_scheduler_configs, self._states[1] if self._states is not None else []
        return len(configs) == len(states) and all(
            state.keys() == config.scheduler.state_dict().keys()
            and (config.interval != "step" or config.frequency > 1 or state["last_epoch"] == self._count_steps(trainer))
            and _has_length(config.scheduler, state)
            for config, state in zip(configs, states, strict=True)
        )

    def _count_steps(self, trainer: L.Trainer) -> int:
        """Return how many steps the present configuration would have taken by now."""
        assert self._from is not None
        accumulated = trainer.accumulate_grad_batches
        per_epoch = math.ceil(trainer.num_training_batches / accumulated)
        return self._from.epoch * per_epoch + self._from.batch // accumulated

    def _adapt(self, trainer: L.Trainer, optimizer: Optimizer, saved: dict[str, Any]) -> None:
        then, groups = self._from.learning if self._from is not None else {}, optimizer.state_dict()["param_groups"]
        keeps_state = _keeps_state(then, self._now) if then else _has_form(optimizer, saved)
        if keeps_state and _count_weights(groups) == _count_weights(saved["param_groups"]):
            optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
        elif keeps_state or not then:  # otherwise the settings have told so
            logger.warning("The weights are kept, and the state of the optimizer starts anew.")
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                continue  # a plateau takes the steps of its past epochs from their figures
            num_steps = self._count_steps(trainer) if config.interval == "step" else trainer.current_epoch
            num_steps //= config.frequency
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                for _ in range(num_steps):
                    config.scheduler.step()
            logger.info("The schedule of the learning rate stands at step %d.", num_steps)


def _has_length(scheduler: Any, state: Mapping[str, Any]) -> bool:
    """Tell whether a schedule was as long as it is now: a training may be resumed for longer."""
    own = scheduler.state_dict()
    return isinstance(scheduler, ResumableOneCycle) or all(state.get(name) == own.get(name) for name in LENGTHS)


def _count_weights(groups: list[dict[str, Any]]) -> int:
    return sum(len(group["params"]) for group in groups)


def _has_form(optimizer: Optimizer, saved: dict[str, Any]) -> bool:
    """Tell whether the groups of a checkpoint could be those of an optimizer, by their lengths and options."""
    ours, theirs = optimizer.state_dict()["param_groups"], saved["param_groups"]
    return len(ours) == len(theirs) and all(
        len(one["params"]) == len(other["params"])
        and one.keys() <= other.keys() | {"initial_lr"}
        and all(other[key] == value for key, value in one.items() if isinstance(value, bool) and key in other)
        for one, other in zip(ours, theirs, strict=True)
    )
