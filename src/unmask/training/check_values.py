"""Values that no training can use, found before anything is started."""

from typing import Any

from omegaconf import DictConfig

from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.faces.spec import InputSpec
from unmask.metrics.collection import FIGURES
from unmask.parameters import as_config_error, check_number, check_whole
from unmask.training.nodes import build_node, build_optimizer, build_schedule

_LARGEST_SEED = 2**32 - 1

_OVER_THE_WHOLE = ("cosine", "onecycle")


def check_values(cfg: DictConfig, dataset: FaceDataset) -> None:
    """Raise where a key has a value that means nothing.

    What other libraries take is not told over again here: their objects are built once, for what they say.

    Args:
        cfg: Of `train.yaml`.
        dataset: To train on.

    Raises:
        ConfigError: Names the key, the value, and what it must be.
    """
    _check_whole("seed", cfg.seed, least=0, most=_LARGEST_SEED)
    if cfg.checkpoint_minutes is not None and cfg.checkpoint_minutes < 0:
        raise ConfigError(
            f"checkpoint_minutes={cfg.checkpoint_minutes} must be 0 or more; null writes at the end of epochs."
        )
    _check_model(cfg.model)
    _check_optimizer(cfg.optimizer)
    _check_scheduler(cfg.scheduler)
    _rehearse(cfg)
    _check_length(cfg.trainer)
    _check_end(cfg)
    _check_early_stopping(cfg.callbacks.get("early_stopping"), dataset)
    build_node(
        cfg.dataset,
        input_spec=InputSpec(size=cfg.model.input_size),
        augmentation=build_node(cfg.augmentation),
        seed=cfg.seed,
    )


def _check_whole(key: str, value: Any, *, least: int, most: float = float("inf")) -> None:
    with as_config_error():
        check_whole(key, value, least=least, most=most)


def _check(key: str, value: Any, *, least: float, most: float = float("inf")) -> None:
    with as_config_error():
        check_number(key, value, least=least, most=most)


def _check_model(model: DictConfig) -> None:
    if "input_size" not in model:
        raise ConfigError("model has no input_size. Add the side of its images in pixels: +model.input_size=224")
    _check_whole("model.input_size", model.input_size, least=16)


def _check_optimizer(optimizer: DictConfig) -> None:
    rate = optimizer.get("lr")
    if not isinstance(rate, int | float) or not rate > 0:
        raise ConfigError(f"optimizer.lr={rate} must be a number greater than 0, such as 3e-4.")


def _check_scheduler(scheduler: DictConfig) -> None:
    for key in ("warmup_ratio", "final_ratio", "rise_ratio", "factor"):
        if key in scheduler:
            _check(f"scheduler.{key}", scheduler[key], least=0, most=1)
    if "patience" in scheduler:
        _check_whole("scheduler.patience", scheduler.patience, least=0)


def _rehearse(cfg: DictConfig) -> None:
    """Build loss, optimizer and schedule of a single weight, since each knows best what it takes."""
    import torch

    build_node(cfg.loss)
    weights, group = [torch.nn.Parameter(torch.zeros(1))], "optimizer"
    try:
        optimizer = build_optimizer(cfg.optimizer)(weights)
        group, schedule = "scheduler", build_schedule(cfg.scheduler, max_epochs=cfg.trainer.max_epochs)
        if schedule is not None:
            schedule(optimizer, 10 if _has_end(cfg.trainer) else -1)
    except (ValueError, TypeError, KeyError) as error:
        settings = ", ".join(f"{group}.{key}={value}" for key, value in cfg[group].items() if key[0] != "_")
        raise ConfigError(f"One of these does not fit: {settings}. {cfg[group]._target_} says: {error}") from error


def _check_length(trainer: DictConfig) -> None:
    if trainer.max_epochs == 0:
        raise ConfigError("trainer.max_epochs=0 trains nothing. Give 1 or more, or -1 to go on until you stop it.")
    if trainer.get("limit_train_batches") == 0:
        raise ConfigError("trainer.limit_train_batches=0 trains nothing. Drop it, or give a number or a share.")


def _has_end(trainer: DictConfig) -> bool:
    return bool(trainer.max_epochs != -1 or trainer.get("max_steps", -1) != -1)


def _check_end(cfg: DictConfig) -> None:
    """Raise where a schedule is laid over the whole of a training that has no end."""
    if not _has_end(cfg.trainer) and str(cfg.scheduler.get("_target_")).rpartition(".")[2] in _OVER_THE_WHOLE:
        raise ConfigError(
            "trainer.max_epochs=-1 has no end, and the schedule of the learning rate is laid over the whole training. "
            "Give scheduler=plateau or scheduler=none, or a number of epochs."
        )


def _check_early_stopping(node: DictConfig | None, dataset: FaceDataset) -> None:
    if node is None or node.monitor == "auto":  # which becomes one that there is
        return
    _check_whole("callbacks.early_stopping.patience", node.get("patience", 3), least=0)
    prefixes = ("val/", "val/video_") if dataset.has_videos else ("val/",)
    known = ["train/loss", "val/loss", *(prefix + figure for prefix in prefixes for figure in FIGURES)]
    if node.monitor not in known:
        raise ConfigError(
            f"No figure '{node.monitor}' to look at (callbacks.early_stopping.monitor). "
            f"Choose one of: {', '.join(known)}; or leave early stopping out: callbacks.early_stopping=null"
        )
    mode = "min" if node.monitor.endswith("loss") else "max"
    if node.get("mode", "min") != mode:
        raise ConfigError(
            f"callbacks.early_stopping.mode={node.get('mode')} does not fit "
            f"callbacks.early_stopping.monitor={node.monitor}. Give callbacks.early_stopping.mode={mode}."
        )
