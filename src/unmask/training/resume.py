"""Find the checkpoint to go on from, check that it can be gone on from, and take along what lies beside it."""

import logging
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from unmask.errors import CheckpointError
from unmask.faces.spec import check_same_crops
from unmask.models.checkpoint import BEST, LAST, PREVIOUS, Checkpoint, check_is_file, load_checkpoint
from unmask.models.classifier import DeepfakeClassifier

logger = logging.getLogger(__name__)


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
    """Read the checkpoint to go on from; where `last.ckpt` is damaged, the one before it.

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
        CheckpointError: The networks differ; says in what.
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


def check_objective(checkpoint: Checkpoint, objective: str) -> bool:
    """Tell whether the best epoch so far was chosen by the present figure; where not, log that it is chosen anew.

    Args:
        checkpoint: That is gone on from.
        objective: Metric key.
    """
    before = checkpoint.learning.get("objective", objective)
    if before != objective:
        logger.warning("objective=%s was %s: the best epoch is chosen among those from now on.", objective, before)
    return bool(before == objective)


def carry_best(checkpoint: Checkpoint, folder: Path) -> bool:
    """Copy the best checkpoint so far to where the resumed training writes; tell whether there is one.

    Args:
        checkpoint: That is gone on from.
        folder: Of the new checkpoints.
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
        logger.warning("'%s' is of a later epoch than what is gone on from; the best one is looked for anew.", best)
        return False
    if best.resolve() != here.resolve():
        here.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, here)
    return True
