"""What a training tells MLflow, and when."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from unmask.config import find_choices, to_plain
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.forgeries import name_sources, read_trained_on
from unmask.training.build import Parts
from unmask.training.devices import is_first_process
from unmask.training.figures import write_figures
from unmask.training.nodes import build_node
from unmask.training.provenance import CodeState, describe_environment
from unmask.training.result import TrainResult
from unmask.training.sweep_callback import name_child, read_parent
from unmask.training.tracking import TrackedRun, flatten

_DESCRIPTION = "mlflow.note.content"

_PLACES = ("paths", "logger", "tracking")
_OF_ONE_RUN = ("experiment_name", "run_name", "resume", "reproduce", "register", "task", "send_dir")
_NOT_IN_NAMES = ("hydra", "model", "dataset.root", "trainer.enable_progress_bar", "checkpoint_minutes")
_LONGEST_NAME = 120


def name_run(cfg: DictConfig, overrides: list[str]) -> str:
    """Return what sets a run apart from others: its face dataset, its model and what was overridden.

    Args:
        cfg: Of `train.yaml`.
        overrides: Of the command line; those that only say where and how to run are left out.
    """
    hidden = tuple(f"{key}." for key in (*_PLACES, *_OF_ONE_RUN, *_NOT_IN_NAMES))
    told = [text for text in overrides if not f"{text.lstrip('+~').partition('=')[0]}.".startswith(hidden)]
    model = cfg.model.get("name") or find_choices().get("model", "")
    name = " ".join([Path(cfg.dataset.root).name, str(model), *told])
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def choose_tracking(
    cfg: DictConfig, provenance: dict[str, Any], *, folder: Path, overrides: list[str], run_id: str | None = None
) -> TrackedRun | None:
    """Return the run to open; in a sweep a child, named after what sets it apart; the same one where it is resumed."""
    settings = build_node(cfg.logger)
    if settings is not None and not is_first_process():
        return None  # the first process tracks for all
    if settings is None:
        if cfg.register is not None:
            raise ConfigError(f"register={cfg.register} needs a run in MLflow. Leave out logger=none.")
        return None
    parent, tags = read_parent(os.environ)
    if settings.run_name is None:
        settings = replace(settings, run_name=name_child(overrides, os.environ) or name_run(cfg, overrides))
    tags = _choose_tags(provenance) | {_DESCRIPTION: _quote(provenance["command"])} | tags
    return TrackedRun(settings, tags=tags, folder=folder, run_id=run_id, parent_run_id=parent)


def _describe_result(parts: Parts, result: TrainResult) -> str:
    """Return what MLflow's page shows of a finished run above everything else, as Markdown."""
    lines = [f"**{result.objective_key} {result.objective:.4f}** in epoch {result.best_epoch + 1}."]
    if result.bundle is not None:
        lines.append(f"Bundle: `{Path(result.bundle).resolve()}`, and the artifact `bundle`. Predict with:")
        lines.append(_quote(f"python predict.py checkpoint=runs:/{result.run_id} photo.jpg"))
    lines += ["Trained with:", _quote(parts.model.origin.provenance["command"])]
    return "\n\n".join(lines)


def _quote(command: str) -> str:
    return f"```\n{command}\n```"


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
    if not tracked.is_resumed:  # params cannot change
        tracked.log_params(_choose_params(cfg))
    environment = describe_environment() | {"untracked": list(code.untracked)}
    tracked.log_text(OmegaConf.to_yaml(cfg, resolve=True), tracked.place("config.yaml"))
    tracked.log_text("\n".join(overrides) + "\n", tracked.place("overrides.txt"))
    tracked.log_text(json.dumps(environment, indent=2) + "\n", tracked.place("environment.json"))
    if code.is_dirty:
        tracked.log_text(code.diff, tracked.place("code.diff"))
    tracked.set_tags({"trained_on": name_sources(read_trained_on(parts.model.origin.provenance))})
    tracked.log_dataset(dataset, {split: parts.data.table(split) for split in ("train", "val")})


def _choose_params(cfg: DictConfig) -> dict[str, Any]:
    noise = {"callbacks", *_PLACES, *_OF_ONE_RUN}
    choices = {group: option for group, option in find_choices().items() if group in cfg and group not in noise}
    plain = to_plain(cfg)
    learning = {name: plain["callbacks"].get(name) or {} for name in ("freeze", "ema")}  # the others only look on
    kept = {key: value for key, value in plain.items() if key not in noise}
    return choices | flatten(kept | {"callbacks": learning})


def track_end(
    tracked: TrackedRun, cfg: DictConfig, dataset: FaceDataset, parts: Parts, result: TrainResult, *, folder: Path
) -> None:
    """Store checkpoints, figures, model, log, and what the run came to."""
    kept = {"best": [result.best_checkpoint], "all": [result.best_checkpoint, result.last_checkpoint], "none": []}
    tracked.log_files([Path(path) for path in kept[tracked.settings.checkpoints]], "checkpoints", may_link=True)
    if result.bundle is not None:
        tracked.log_folder(Path(result.bundle), "bundle")
    if parts.scores.best is not None:
        table = parts.data.table("val")
        figures = write_figures(
            parts.scores.best, folder / "figures", table=table, root=dataset.root, has_videos=dataset.has_videos
        )
        tracked.log_files(figures, "figures")
    best = {f"best/{key}": value for key, value in result.metrics.items() if key.startswith("val/")}
    tracked.log_metrics(best | {"best/objective": result.objective})
    tracked.set_tags({_DESCRIPTION: _describe_result(parts, result)})
    if result.bundle is None and cfg.register is not None:
        raise ConfigError(f"register={cfg.register} needs a network that ONNX can hold; the log says what it cannot.")
    if result.bundle is not None and (tracked.settings.log_model or cfg.register is not None):
        from unmask.training.tracking_model import save_model

        save_model(Path(result.bundle), folder / "model")
        tracked.log_folder(folder / "model", "model")
        if cfg.register is not None:
            tracked.register(cfg.register, objective_key=result.objective_key, objective=result.objective)
    tracked.log_session_files([*sorted(folder.glob("*.log")), folder / "result.json"])
