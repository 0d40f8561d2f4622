"""What a training tells MLflow, and when."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from unmask.config import find_choices, to_plain
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.training.build import Parts
from unmask.training.figures import write_figures
from unmask.training.provenance import CodeState, describe_environment
from unmask.training.result import TrainResult
from unmask.training.sweep_callback import name_child, read_parent
from unmask.training.tracking import TrackedRun, flatten


def choose_tracking(
    cfg: DictConfig, provenance: dict[str, Any], *, folder: Path, overrides: list[str]
) -> TrackedRun | None:
    """Return the run to open; in a sweep a child, named after what sets it apart."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    settings = instantiate(cfg.logger)
    if settings is not None and getattr(rank_zero_only, "rank", False):
        return None  # the first process tracks for all
    if settings is None:
        if cfg.register is not None:
            raise ConfigError(f"register={cfg.register} needs a run in MLflow. Leave out logger=none.")
        return None
    parent, tags = read_parent(os.environ)
    if settings.run_name is None:
        settings = replace(settings, run_name=name_child(overrides, os.environ))
    tags = _choose_tags(provenance) | tags
    return TrackedRun(settings, tags=tags, folder=folder, parent_run_id=parent)


def _choose_tags(provenance: dict[str, Any]) -> dict[str, str]:
    tags = {name: str(provenance[name]) for name in ("dataset", "preprocessing_hash", "command")}
    tags["mlflow.source.name"] = "train.py"
    return tags | {"mlflow.source.git.commit": provenance["commit"], "git.dirty": str(provenance["is_dirty"])}


def track_start(
    tracked: TrackedRun,
    cfg: DictConfig,
    dataset: FaceDataset,
    parts: Parts,
    *,
    code: CodeState,
    overrides: list[str],
) -> None:
    """Store what the run is made of: configuration, code, packages, machine, data."""
    noise = {"paths", "logger", "callbacks", "run_name", "experiment_name", "resume", "reproduce", "register", "task"}
    choices = {group: option for group, option in find_choices().items() if group in cfg and group not in noise}
    tracked.log_params(choices | flatten({key: value for key, value in to_plain(cfg).items() if key not in noise}))
    tracked.log_text(OmegaConf.to_yaml(cfg, resolve=True), "config.yaml")
    tracked.log_text("\n".join(overrides) + "\n", "overrides.txt")
    tracked.log_text(json.dumps(describe_environment(), indent=2) + "\n", "environment.json")
    if code.is_dirty:
        tracked.log_text(code.diff, "code.diff")
    tracked.log_dataset(dataset, {split: parts.data.table(split) for split in ("train", "val")})


def track_end(
    tracked: TrackedRun, cfg: DictConfig, dataset: FaceDataset, parts: Parts, result: TrainResult, *, folder: Path
) -> None:
    """Store checkpoints, figures, model and log."""
    tracked.log_files([Path(result.best_checkpoint), Path(result.last_checkpoint)], "checkpoints")
    if result.bundle is not None:
        tracked.log_folder(Path(result.bundle), "bundle")
    if parts.scores.best is not None:
        table = parts.data.table("val")
        figures = write_figures(
            parts.scores.best, folder / "figures", table=table, root=dataset.root, has_videos=dataset.has_videos
        )
        tracked.log_files(figures, "figures")
    tracked.log_metrics({f"best/{key}": value for key, value in result.metrics.items() if key.startswith("val/")})
    if result.bundle is None and cfg.register is not None:
        raise ConfigError(f"register={cfg.register} needs a network that ONNX can hold; the log says what it cannot.")
    if result.bundle is not None and (tracked.settings.log_model or cfg.register is not None):
        from unmask.training.tracking_model import save_model

        save_model(Path(result.bundle), folder / "model")
        tracked.log_folder(folder / "model", "model")
        if cfg.register is not None:
            tracked.register(cfg.register, objective_key=result.objective_key, objective=result.objective)
    tracked.log_files([*sorted(folder.glob("*.log")), folder / "result.json"])
