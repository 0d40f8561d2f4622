"""Run a training from its composed configuration to checkpoints and `result.json`."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from unmask import __version__
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, Interrupted, TrainingError
from unmask.forgeries import read_trained_on, record_training
from unmask.models.bundle import try_bundle
from unmask.models.checkpoint import Checkpoint
from unmask.paths import show_command, write_bytes
from unmask.tracking.provenance import CodeState, count_crops, find_code_state
from unmask.training.build import Parts, build_parts, check_config, check_sizes
from unmask.training.devices import is_first_process
from unmask.training.interruption import StopRequest
from unmask.training.record import Record, TrainResult
from unmask.training.resume import carry_best, check_objective, check_resume, drop_previous, open_resumed

logger = logging.getLogger(__name__)


def train(cfg: DictConfig, *, folder: Path, overrides: list[str]) -> TrainResult:
    """Train as configured.

    Args:
        cfg: Composed configuration of `train.yaml`, with `resume` as a path.
        folder: Run folder; everything but tracking is written there.
        overrides: Overrides of the command line, for the record.

    Raises:
        UnmaskError: A user error, with the fix in its message.
        Interrupted: Ctrl-C or SIGTERM; training can be resumed.
    """
    import lightning as L

    quieten()
    request = StopRequest()
    with request.watching():
        dataset = FaceDataset.from_config(cfg.dataset)
        check_config(cfg, dataset)
        resumed = None if cfg.resume is None else open_resumed(cfg.resume)
        L.seed_everything(cfg.seed, workers=True, verbose=False)
        code = find_code_state()
        provenance = _describe_origin(cfg, dataset, overrides, code) | {"run_name": folder.name}
        record = Record(cfg, folder=folder, overrides=overrides, code=code, resumed=resumed)
        parts = build_parts(cfg, dataset, folder=folder, record=record, provenance=provenance, request=request)
        provenance["trained_on"] = _record_sources(dataset, parts, resumed)
        parts.data.setup()
        check_sizes(cfg, parts)
        _log_start(cfg, parts, folder)
        with record.closing():
            fit(cfg, parts, resumed, folder=folder)
            if parts.trainer.is_global_zero:
                drop_previous(folder / "checkpoints")
            result = _summarise(cfg, parts, record, folder=folder)
            if parts.trainer.is_global_zero:
                write_bytes(folder / "result.json", (json.dumps(asdict(result), indent=2) + "\n").encode())
            record.log_end(dataset, parts, result)
    return result


def _describe_origin(cfg: DictConfig, dataset: FaceDataset, overrides: list[str], code: CodeState) -> dict[str, Any]:
    return {
        "unmask_version": __version__,
        "command": show_command("train.py", *overrides),
        "commit": code.commit,
        "is_dirty": code.is_dirty,
        "seed": cfg.seed,
        "dataset": dataset.name,
        "dataset_root": str(dataset.root),
        "preprocessing_hash": dataset.spec.hash,
        "folds": cfg.dataset.get("folds"),
        "fold": cfg.dataset.get("fold", 0),
        "methods": dataset.list_methods("train"),
    }


def _record_sources(dataset: FaceDataset, parts: Parts, resumed: Checkpoint | None) -> list[dict[str, str]]:
    """Return what the network will have been trained on, before it was resumed too: that may be another dataset."""
    before = () if resumed is None else read_trained_on(resumed.provenance)
    now = record_training(dataset.sources, makes_fakes=parts.data.makes_fakes)
    return [source.to_dict() for source in dict.fromkeys((*before, *now))]


def _log_start(cfg: DictConfig, parts: Parts, folder: Path) -> None:
    logger.info("Run folder %s.", folder)
    device = parts.trainer.strategy.root_device
    logger.info("Device %s, precision %s (precision=%s).", device, parts.trainer.precision, cfg.precision.name)
    for split in ("train", "val"):
        counts = count_crops(parts.data.table(split))
        logger.info("%s: %d crops of %d videos.", split, counts["num_crops"], counts["num_videos"])
    logger.info("The best checkpoint is the one with the highest %s.", cfg.objective)


def _summarise(cfg: DictConfig, parts: Parts, record: Record, *, folder: Path) -> TrainResult:
    best_epoch, metrics, decision = parts.history.best(cfg.objective)
    best, last = parts.checkpoints
    run, bundle = record.run, None
    if parts.trainer.is_global_zero:
        bundle = try_bundle(best.best_model_path, folder / "bundle", own=parts.model.network.config)
    return TrainResult(
        run_id=None if run is None else run.run_id,
        tracking_uri=None if run is None else run.store.uri,
        run_page=None if run is None else run.page,
        best_checkpoint=str(best.best_model_path),
        last_checkpoint=str(last.best_model_path),
        bundle=None if bundle is None else str(bundle),
        objective_key=cfg.objective,
        objective=metrics[cfg.objective],
        best_epoch=best_epoch,
        metrics=metrics,
        decision=decision.to_dict(),
    )


def fit(cfg: DictConfig, parts: Parts, resumed: Checkpoint | None, *, folder: Path) -> None:
    """Train all epochs, or the remaining ones.

    Args:
        cfg: Configuration of `train.yaml`.
        parts: Parts of the training.
        resumed: Checkpoint to resume from; None starts from scratch.
        folder: Run folder.

    Raises:
        ConfigError: No epoch is left to train.
        CheckpointError: The checkpoint does not fit the configuration, or none can be written.
        TrainingError: The loss is not finite, or a batch does not fit into memory.
        Interrupted: A signal, in the process that tracks; other processes exit.
    """
    if resumed is not None:
        check_resume(resumed, parts.model, dataset_root=cfg.dataset.root)
        parts.resumption.start_from(resumed)
        keeps_past = check_objective(resumed, cfg.objective) and carry_best(resumed, folder / "checkpoints")
        parts.history.keeps_past = parts.scores.keeps_past = keeps_past
        parts.data.resume_at(epoch=resumed.epoch, batch=resumed.batch)
        done = f"epoch {resumed.epoch}" + (f" and {resumed.batch} batches" if resumed.batch else "")
        logger.info("Resuming after %s, from '%s'.", done, resumed.path)
        _check_unfinished(cfg, resumed)
    try:
        with explaining(cfg):
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
def explaining(cfg: DictConfig) -> Iterator[None]:
    """Turn errors of Lightning about trainer keys, and of PyTorch about memory, into the key to change.

    Raises:
        ConfigError: Keys of the trainer do not fit the task or the data.
        TrainingError: A batch did not fit into memory, or a worker was killed for its memory.
    """
    try:
        yield
    except MisconfigurationException as error:  # such as a share of so few batches that it is none
        raise ConfigError(
            f"Keys of trainer do not fit task={cfg.task} or dataset.root={cfg.dataset.root}: {error}"
        ) from error
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        fix = _explain_memory(cfg, text) if not isinstance(error, MemoryError) else _lower_batch(cfg)
        if fix is None:
            raise
        first = text.splitlines()[0] if text else type(error).__name__
        raise TrainingError(f"Out of memory: {first[:200]} {fix}") from error


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


_NOISE = (
    ".*does not have many workers.*",  # dataset.num_workers is the user's choice
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning against a newer torch
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*`noload` loader strategy is deprecated.*",  # MLflow against a newer SQLAlchemy
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*dirpath has changed from.*",  # a resumed run has a folder of its own
    ".*resuming from a checkpoint that ended before the epoch ended.*",  # our sampler resumes where it stopped
)


def quieten() -> None:
    """Print every message of Lightning once, through Hydra's log, and leave out the ones listed here.

    Of several processes the first speaks for all; the others write what is no error into their own log files alone.
    """
    if not is_first_process():
        warnings.simplefilter("ignore")
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
    os.environ.setdefault("LITLOGGER_DISABLE", "1")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)  # that it creates an experiment
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
