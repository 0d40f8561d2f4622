"""One training from the composed configuration to checkpoints and `result.json`."""

import json
import logging
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from unmask import __version__
from unmask.config import config_dir, to_plain
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.models.checkpoint import load_checkpoint
from unmask.training.build import Parts, build_parts, resolve_objective
from unmask.training.provenance import find_code_state
from unmask.training.quiet import quieten
from unmask.training.resume import check_resume
from unmask.training.tracking import TrackedRun, count_crops

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a training gave; `result.json` holds the same.

    Args:
        run_id: Of MLflow, or None untracked.
        tracking_uri: Of the store, or None.
        best_checkpoint: Path.
        last_checkpoint: Path.
        objective_key: Metric key that was maximised.
        objective: Its best value.
        best_epoch: When that was, from 0.
        metrics: Figures of that epoch.
        decision: Threshold, aggregation and criterion of the best checkpoint.
    """

    run_id: str | None
    tracking_uri: str | None
    best_checkpoint: str
    last_checkpoint: str
    objective_key: str
    objective: float
    best_epoch: int
    metrics: dict[str, float]
    decision: dict[str, Any]


def train(cfg: DictConfig, *, folder: Path, overrides: list[str]) -> TrainResult:
    """Train as configured.

    Args:
        cfg: Composed from `train.yaml`.
        folder: Of the run; everything but tracking is written there.
        overrides: Of the command line, for the record.

    Raises:
        UnmaskError: One for every mistake that the user can mend.
    """
    import lightning as L

    quieten()
    dataset = FaceDataset.load(cfg.dataset.root)
    resolve_objective(cfg, dataset)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    provenance = _describe_origin(cfg, dataset, overrides)
    settings = instantiate(cfg.logger)
    tracked = None if settings is None else TrackedRun(settings, tags=_choose_tags(provenance))
    if tracked is not None:
        tracked.open()
        provenance["run_id"] = tracked.run_id
    with nullcontext() if tracked is None else tracked.closing():
        logger_of_run = None if tracked is None else tracked.logger
        parts = build_parts(cfg, dataset, folder=folder, logger_of_run=logger_of_run, provenance=provenance)
        parts.data.setup()
        _log_start(cfg, parts, folder)
        if tracked is not None:
            _track_start(tracked, cfg, dataset, parts, overrides)
        _fit(cfg, parts)
        result = _summarise(cfg, parts, tracked)
        (folder / "result.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
        if tracked is not None:
            tracked.log_files([Path(result.best_checkpoint), Path(result.last_checkpoint)], "checkpoints")
            tracked.log_files([*sorted(folder.glob("*.log")), folder / "result.json"])
    return result


def _describe_origin(cfg: DictConfig, dataset: FaceDataset, overrides: list[str]) -> dict[str, Any]:
    code = find_code_state()
    return {
        "unmask_version": __version__,
        "command": " ".join(sys.argv[:1] + overrides),
        "commit": code.commit,
        "is_dirty": code.is_dirty,
        "seed": cfg.seed,
        "dataset": dataset.name,
        "dataset_root": str(dataset.root),
        "preprocessing_hash": dataset.spec.hash,
    }


def _choose_tags(provenance: dict[str, Any]) -> dict[str, str]:
    tags = {name: str(provenance[name]) for name in ("dataset", "preprocessing_hash", "command")}
    return tags | {"mlflow.source.git.commit": provenance["commit"], "git.dirty": str(provenance["is_dirty"])}


def _log_start(cfg: DictConfig, parts: Parts, folder: Path) -> None:
    logger.info("Configs from %s; everything is written to %s.", config_dir(), folder)
    device = parts.trainer.strategy.root_device
    logger.info("Device %s, precision %s (precision=%s).", device, parts.trainer.precision, cfg.precision.name)
    for split in ("train", "val"):
        counts = count_crops(parts.data.table(split))
        logger.info("%s: %d crops of %d videos.", split, counts["num_crops"], counts["num_videos"])
    logger.info("The best checkpoint is the one with the highest %s.", cfg.objective)


def _track_start(
    tracked: TrackedRun, cfg: DictConfig, dataset: FaceDataset, parts: Parts, overrides: list[str]
) -> None:
    plain = to_plain(cfg)
    noise = {"paths", "logger", "callbacks", "run_name", "experiment_name"}
    tracked.log_params({key: value for key, value in plain.items() if key not in noise})
    tracked.log_text(OmegaConf.to_yaml(cfg, resolve=True), "config.yaml")
    tracked.log_text("\n".join(overrides) + "\n", "overrides.txt")
    tracked.log_dataset(dataset, {split: parts.data.table(split) for split in ("train", "val")})


def _fit(cfg: DictConfig, parts: Parts) -> None:
    if cfg.resume is not None:
        check_resume(load_checkpoint(cfg.resume), parts.model, dataset_root=cfg.dataset.root)
    try:
        parts.trainer.fit(parts.model, datamodule=parts.data, ckpt_path=cfg.resume)
    except SystemExit as error:
        raise KeyboardInterrupt from error  # Lightning makes an exit of Ctrl-C
    if not parts.history.epochs:
        raise ConfigError(
            f"No epoch was trained: trainer.max_epochs={cfg.trainer.max_epochs}"
            f"{f' and resume={cfg.resume} has that many behind it' if cfg.resume else ''}. Raise trainer.max_epochs."
        )


def _summarise(cfg: DictConfig, parts: Parts, tracked: TrackedRun | None) -> TrainResult:
    best_epoch, metrics, decision = parts.history.best(cfg.objective)
    best, last = parts.checkpoints
    return TrainResult(
        run_id=None if tracked is None else tracked.run_id,
        tracking_uri=None if tracked is None else tracked.settings.uri,
        best_checkpoint=str(best.best_model_path),
        last_checkpoint=str(last.best_model_path),
        objective_key=cfg.objective,
        objective=metrics[cfg.objective],
        best_epoch=best_epoch,
        metrics=metrics,
        decision=decision.to_dict(),
    )
