"""One training from the composed configuration to checkpoints and `result.json`."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from unmask import __version__
from unmask.config import config_dir
from unmask.data.tables import FaceDataset
from unmask.forgeries import read_trained_on, record_training
from unmask.media.picture import write_bytes
from unmask.models.bundle import write_bundle
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.paths import show_command
from unmask.tracking.provenance import CodeState, count_crops, find_code_state
from unmask.training.build import Parts, build_parts, resolve_objective
from unmask.training.check_sizes import check_batch
from unmask.training.checkpoint_io import drop_previous
from unmask.training.checks import check_settings
from unmask.training.fit import fit
from unmask.training.interruption import StopRequest
from unmask.training.quiet import quieten
from unmask.training.record import Record
from unmask.training.result import TrainResult
from unmask.training.resume import open_resumed
from unmask.training.resumption import describe_changes
from unmask.trust import list_packages

logger = logging.getLogger(__name__)


def train(cfg: DictConfig, *, folder: Path, overrides: list[str]) -> TrainResult:
    """Train as configured.

    Args:
        cfg: Composed from `train.yaml`; `resume` is a path by now.
        folder: Of the run; everything but tracking is written there.
        overrides: Of the command line, for the record.

    Raises:
        UnmaskError: One for every mistake that the user can mend.
        Interrupted: By Ctrl-C or SIGTERM; the training can be gone on with.
    """
    import lightning as L

    quieten()
    request = StopRequest()
    with request.watching():
        dataset = FaceDataset.load(cfg.dataset.root)
        resolve_objective(cfg, dataset)
        check_settings(cfg, dataset)
        resumed = None if cfg.resume is None else open_resumed(cfg.resume)
        L.seed_everything(cfg.seed, workers=True, verbose=False)
        code = find_code_state()
        provenance = _describe_origin(cfg, dataset, overrides, code) | {"run_name": folder.name}
        run_id = None if resumed is None else resumed.provenance.get("run_id")
        record = Record(cfg, folder=folder)
        provenance |= record.open(provenance, overrides=overrides, run_id=run_id)
        with record.closing():
            logger_of_run = record.loggers or None
            parts = build_parts(
                cfg, dataset, folder=folder, logger_of_run=logger_of_run, provenance=provenance, request=request
            )
            provenance["trained_on"] = _record_sources(dataset, parts, resumed)
            parts.data.setup()
            _check_sizes(cfg, parts)
            _log_start(cfg, parts, folder)
            record.log_start(dataset, parts, code=code, overrides=overrides)
            changes = [] if resumed is None else describe_changes(resumed.learning, parts.model.origin.learning)
            if changes:
                logger.info("Changed since the checkpoint: %s.", "; ".join(changes))
            record.log_changes(changes)
            fit(cfg, parts, resumed, folder=folder)
            if parts.trainer.is_global_zero:
                drop_previous(folder / "checkpoints")
            result = _summarise(cfg, parts, record, folder=folder)
            if parts.trainer.is_global_zero:
                write_bytes(folder / "result.json", (json.dumps(asdict(result), indent=2) + "\n").encode())
            record.log_end(dataset, parts, result)
    return result


def _check_sizes(cfg: DictConfig, parts: Parts) -> None:
    """Raise where a crop or a batch has a size that would stop the training in its middle."""
    parts.data.rehearse_augmentation()
    num_processes = parts.trainer.world_size
    num_crops = parts.data.count_smallest_batch(num_processes)
    if cfg.trainer.get("sync_batchnorm"):
        num_crops *= num_processes
    check_batch(parts.model.network, num_crops=num_crops, batch_size=cfg.dataset.batch_size)


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
    }


def _record_sources(dataset: FaceDataset, parts: Parts, resumed: Checkpoint | None) -> list[dict[str, str]]:
    """Return what the network will have been trained on, before it was resumed too: that may be another dataset."""
    before = () if resumed is None else read_trained_on(resumed.provenance)
    now = record_training(dataset.sources, makes_fakes=parts.data.makes_fakes)
    return [source.to_dict() for source in dict.fromkeys((*before, *now))]


def _log_start(cfg: DictConfig, parts: Parts, folder: Path) -> None:
    logger.info("Configs from %s; everything is written to %s.", config_dir(), folder)
    device = parts.trainer.strategy.root_device
    logger.info("Device %s, precision %s (precision=%s).", device, parts.trainer.precision, cfg.precision.name)
    for split in ("train", "val"):
        counts = count_crops(parts.data.table(split))
        logger.info("%s: %d crops of %d videos.", split, counts["num_crops"], counts["num_videos"])
    logger.info("The best checkpoint is the one with the highest %s.", cfg.objective)


def _summarise(cfg: DictConfig, parts: Parts, record: Record, *, folder: Path) -> TrainResult:
    best_epoch, metrics, decision = parts.history.best(cfg.objective)
    best, last = parts.checkpoints
    run = record.run
    return TrainResult(
        run_id=None if run is None else run.run_id,
        tracking_uri=None if run is None else run.store.uri,
        run_page=None if run is None else run.page,
        best_checkpoint=str(best.best_model_path),
        last_checkpoint=str(last.best_model_path),
        bundle=(
            _export(best.best_model_path, folder / "bundle", own=list_packages(parts.model.network.config))
            if parts.trainer.is_global_zero
            else None
        ),
        objective_key=cfg.objective,
        objective=metrics[cfg.objective],
        best_epoch=best_epoch,
        metrics=metrics,
        decision=decision.to_dict(),
    )


def _export(checkpoint: str, folder: Path, *, own: Sequence[str]) -> str | None:
    """Write the bundle; a network that cannot be exported must not cost the training."""
    try:
        return str(write_bundle(load_checkpoint(checkpoint, trusted_modules=own), folder))
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:  # what the exporter fails with
        logger.warning("No bundle: the network of '%s' cannot be exported to ONNX: %s", checkpoint, error)
        return None
