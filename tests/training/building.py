"""Build the parts of a training as `train` does, and no more."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from unmask.data.tables import FaceDataset
from unmask.training.build import Parts, RunCallback, build_parts, resolve_objective
from unmask.training.checks import check_settings
from unmask.training.interruption import StopRequest


def build_training(cfg: DictConfig, *, folder: Path = Path("run")) -> Parts:
    """Check the settings, build everything, and the optimizer and its schedule for ten steps."""
    dataset = FaceDataset.load(cfg.dataset.root)
    resolve_objective(cfg, dataset)
    check_settings(cfg, dataset)
    record = RunCallback(OmegaConf.create({"logger": None}), folder=folder)
    parts = build_parts(cfg, dataset, folder=folder, record=record, provenance={}, request=StopRequest())
    optimizer = parts.model._configure_optimizer()
    if parts.model._schedule is not None:
        has_end = cfg.trainer.max_epochs != -1 or cfg.trainer.get("max_steps", -1) != -1
        parts.model._schedule(optimizer, 10 if has_end else -1)
    return parts
