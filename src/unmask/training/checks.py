"""Check settings before training starts: values, combinations, batch sizes, the compiler."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.metrics.collection import FIGURES
from unmask.models.classifier import check_head_lr_ratio
from unmask.models.heatmaps import explain_missing_maps
from unmask.models.network import FaceNetwork
from unmask.parameters import as_config_error, check_number, check_whole
from unmask.training.callbacks import count_frozen_epochs
from unmask.training.devices import check_devices, choose_precision, runs_on_gpu
from unmask.trust import list_untrusted

logger = logging.getLogger(__name__)


def check_settings(cfg: DictConfig, dataset: FaceDataset) -> None:
    """Raise where settings contradict each other, the machine or the data.

    Args:
        cfg: Configuration of `train.yaml`.
        dataset: Face dataset to train on.

    Raises:
        ConfigError: Names the keys, and what to give instead.
    """
    check_devices(cfg.trainer)
    check_values(cfg, dataset)
    choose_precision(cfg.precision.name, has_gpu=runs_on_gpu(cfg.trainer))
    check_head_lr_ratio(cfg.optimizer.get("head_lr_ratio", 1.0))
    _check_numbers(cfg.trainer)
    _check_validation(cfg)
    _check_monitor(cfg, dataset)
    _check_freezing(cfg)
    if cfg.compile:
        check_compiler(runs_on_gpu(cfg.trainer))


def _check_numbers(trainer: DictConfig) -> None:
    for key, least in (("max_epochs", -1), ("accumulate_grad_batches", 1), ("log_every_n_steps", 0)):
        value = trainer.get(key)
        if value is not None and (not isinstance(value, int) or value < least):
            raise ConfigError(f"trainer.{key}={value} must be a whole number from {least} on.")
    clip = trainer.get("gradient_clip_val")
    if clip is not None and (not isinstance(clip, int | float) or clip < 0):
        raise ConfigError(f"trainer.gradient_clip_val={clip} must be a number from 0 on, or null to clip nothing.")


def _check_validation(cfg: DictConfig) -> None:
    trainer = cfg.trainer
    needs = f"scheduler.monitor={cfg.scheduler.monitor} and the best checkpoint" if "monitor" in cfg.scheduler else (
        "the best checkpoint and the threshold"
    )  # fmt: skip
    if trainer.limit_val_batches == 0 or trainer.get("fast_dev_run"):
        key = "fast_dev_run" if trainer.get("fast_dev_run") else "limit_val_batches"
        raise ConfigError(
            f"trainer.{key}={trainer[key]} leaves no validation, and {needs} need it. Drop it; for a short trial there "
            f"is debug=fast."
        )
    every, part = trainer.get("check_val_every_n_epoch", 1), trainer.get("val_check_interval")
    if every != 1 or part not in (None, 1.0):
        key = "check_val_every_n_epoch" if every != 1 else "val_check_interval"
        raise ConfigError(
            f"trainer.{key}={trainer[key]} is not possible: {needs} need one validation at the end of every epoch. "
            f"Drop it; longer epochs come of dataset.samples_per_epoch."
        )


def _check_monitor(cfg: DictConfig, dataset: FaceDataset) -> None:
    if "monitor" not in cfg.scheduler:
        return
    known = _list_monitored(cfg, dataset)
    monitor = cfg.scheduler.monitor
    if monitor not in known:
        raise ConfigError(f"Unknown metric '{monitor}' (scheduler.monitor). Choose one of: {', '.join(known)}")
    mode = "min" if monitor.endswith("loss") else "max"
    given = cfg.scheduler.get("mode", "min")
    if given != mode:
        better = "smaller" if mode == "min" else "larger"
        raise ConfigError(
            f"scheduler.mode={given} does not fit scheduler.monitor={monitor}, of which {better} is "
            f"better. Give scheduler.mode={mode}."
        )


def list_metrics(cfg: DictConfig, dataset: FaceDataset) -> list[str]:
    """Return the metrics of the validation split that are better when larger, the user's own among them.

    Args:
        cfg: Configuration of `train.yaml`.
        dataset: Face dataset to train on; videos have metrics of their own.
    """
    prefixes = ("val/", "val/video_") if dataset.has_videos else ("val/",)
    return [prefix + name for prefix in prefixes for name in (*FIGURES, *cfg.metrics)]


def _list_monitored(cfg: DictConfig, dataset: FaceDataset) -> list[str]:
    return ["train/loss", "val/loss", *list_metrics(cfg, dataset)]


def _check_freezing(cfg: DictConfig) -> None:
    num_epochs, max_epochs = count_frozen_epochs(cfg.callbacks), cfg.trainer.max_epochs
    if max_epochs is not None and 0 <= max_epochs <= num_epochs and num_epochs > 0:
        raise ConfigError(
            f"callbacks.freeze.num_epochs={num_epochs} freezes the backbone to the end of "
            f"trainer.max_epochs={max_epochs}. Lower the former, or raise the latter."
        )


def check_compiler(has_gpu: bool, *, compiles: Callable[..., Any] | None = None) -> None:
    """Compile something small, since what a compiler needs differs between machines.

    Args:
        has_gpu: Whether training runs on a GPU.
        compiles: `torch.compile`.

    Raises:
        ConfigError: It fails; says with what.
    """
    import torch

    device = "cuda" if has_gpu else "cpu"
    try:
        (compiles or torch.compile)(lambda values: values.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler, header or library each fail in a way of their own
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        needs = "a C++ compiler and Triton" if has_gpu else "a C++ compiler, such as g++"
        raise ConfigError(
            f"compile=true needs {needs}, and torch.compile fails here: {told} Install it, or leave out compile=true."
        ) from error


_LARGEST_SEED = 2**32 - 1

_OVER_THE_WHOLE = ("cosine", "onecycle")


def check_values(cfg: DictConfig, dataset: FaceDataset) -> None:
    """Raise where a key has a value that means nothing.

    What the objects that are built of the configuration check themselves is not repeated here.

    Args:
        cfg: Configuration of `train.yaml`.
        dataset: Face dataset to train on.

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
    _check_length(cfg.trainer)
    _check_end(cfg)
    _check_early_stopping(cfg, dataset)


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


def _check_length(trainer: DictConfig) -> None:
    if trainer.max_epochs == 0:
        raise ConfigError("trainer.max_epochs=0 trains nothing. Give 1 or more, or -1 to train until you stop it.")
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


def _check_early_stopping(cfg: DictConfig, dataset: FaceDataset) -> None:
    node = cfg.callbacks.get("early_stopping")
    if node is None or node.monitor == "auto":  # which becomes one that there is
        return
    _check_whole("callbacks.early_stopping.patience", node.get("patience", 3), least=0)
    known = _list_monitored(cfg, dataset)
    if node.monitor not in known:
        raise ConfigError(
            f"Unknown metric '{node.monitor}' (callbacks.early_stopping.monitor). "
            f"Choose one of: {', '.join(known)}; or leave early stopping out: callbacks.early_stopping=null"
        )
    mode = "min" if node.monitor.endswith("loss") else "max"
    if node.get("mode", "min") != mode:
        raise ConfigError(
            f"callbacks.early_stopping.mode={node.get('mode')} does not fit "
            f"callbacks.early_stopping.monitor={node.monitor}. Give callbacks.early_stopping.mode={mode}."
        )


_LARGEST_TRIED = 512


def check_batch(network: FaceNetwork, *, num_crops: int, batch_size: int) -> None:
    """Raise where a network cannot learn from the smallest batch that will occur.

    It is tried with tensors that have a shape and no values. Batch normalisation needs more than one value per channel,
    for example, and a deep network leaves 1 x 1 of a small crop.

    Args:
        network: Network in training mode.
        num_crops: In the smallest batch.
        batch_size: Configured batch size.

    Raises:
        ConfigError: Names the sizes and, where there are any, some that work.
    """
    size = network.input_spec.size
    problem = _try_batch(network, num_crops, size)
    if problem is None:
        return
    advice = []
    if _try_batch(network, num_crops + 1, size) is None:
        more = "more training crops for each process (dataset.limit.train, dataset.samples_per_epoch, trainer.devices)"
        advice.append(more if num_crops < batch_size else f"dataset.batch_size={num_crops + 1}")
    doubled = iter(size << shift for shift in range(1, 10) if size << shift <= _LARGEST_TRIED)
    fitting = next((larger for larger in doubled if _try_batch(network, num_crops, larger) is None), None)
    advice += [f"model.input_size={fitting}"] if fitting is not None else []
    raise ConfigError(
        f"'{network.name}' (model) cannot learn from a batch of {num_crops} at model.input_size={size} "
        f"and dataset.batch_size={batch_size}: {problem}. "
        f"Give {' or '.join(advice) or 'a larger model.input_size and dataset.batch_size, or another network'}."
    )


def _try_batch(network: FaceNetwork, num_crops: int, size: int) -> str | None:
    """Return why a network refuses a batch in training, or None."""
    tensors = (*network.parameters(), *network.buffers())
    empty = {id(tensor): _without_values(tensor) for tensor in tensors}
    twin = copy.deepcopy(network, empty).train()  # copies modules only, and no compiled ones
    try:
        with torch.no_grad():
            twin(torch.zeros(num_crops, 3, size, size, dtype=torch.uint8, device="meta"))
    except NotImplementedError:
        return None  # an operation that needs values: the first step will tell
    except (ValueError, RuntimeError, AssertionError, TypeError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return None


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def log_limits(network: FaceNetwork, dataset: FaceDataset) -> None:
    """Log what prediction will lack or need with a network: heat maps, and packages to trust."""
    if (without_maps := explain_missing_maps(network)) is not None:
        logger.info("%s", without_maps)
    if packages := ",".join(list_untrusted([network.config, dataset.spec.node])):
        logger.info("Prediction and evaluation will need trusted_modules=[%s] for this model.", packages)
