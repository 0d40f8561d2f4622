"""Choose and check the devices, processes and precision of a training."""

import os
from typing import Any

from omegaconf import DictConfig, ListConfig

from unmask.errors import ConfigError, suggest

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
"""Those that start a process per device as a command of its own; others leave the figures in a process that ends."""


def is_first_process() -> bool:
    """Tell whether this is the first process of all nodes, from the environment, before they have found each other."""
    environment = os.environ
    if "RANK" in environment:  # torchrun counts over all nodes
        return environment["RANK"] == "0"
    if "SLURM_PROCID" in environment and not {"NODE_RANK", "LOCAL_RANK"} & environment.keys():
        return environment["SLURM_PROCID"] == "0"
    return all(environment.get(name, "0") == "0" for name in ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK"))


def runs_on_gpu(trainer: DictConfig) -> bool:
    """Tell whether the training runs on GPUs.

    Args:
        trainer: Node `trainer` of the configuration.
    """
    import torch

    accelerator = str(trainer.accelerator)
    return accelerator in {"gpu", "cuda"} or (accelerator == "auto" and torch.cuda.is_available())


def count_processes(trainer: DictConfig) -> int:
    """Return how many processes train together, on all nodes.

    Args:
        trainer: Node `trainer` of the configuration; its devices exist.
    """
    devices = _count_devices(trainer.devices)
    if devices is None:
        devices = _count_gpus() if runs_on_gpu(trainer) else 1
    return devices * int(trainer.get("num_nodes", 1))


def choose_strategy(trainer: DictConfig, *, has_frozen: bool) -> Any:
    """Return Lightning's name of the strategy.

    Args:
        trainer: Node `trainer` of the configuration.
        has_frozen: Whether weights stand still for a while. Processes that wait for the gradients of all weights would
            wait for theirs; so they look first, at every step, which ones have any.
    """
    strategy = trainer.get("strategy", "auto")
    if has_frozen and strategy in ("auto", "ddp") and count_processes(trainer) > 1:
        return "ddp_find_unused_parameters_true"
    return strategy


def check_devices(trainer: DictConfig) -> None:
    """Raise where the trainer wants what this machine does not have.

    Args:
        trainer: Node `trainer` of the configuration.

    Raises:
        ConfigError: Names the key and what to give instead.
    """
    accelerator, strategy = str(trainer.accelerator), trainer.get("strategy", "auto")
    if accelerator not in ACCELERATORS:
        raise ConfigError(f"No trainer.accelerator '{accelerator}'. Choose one of: {', '.join(ACCELERATORS)}")
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        meant = suggest(strategy, STRATEGIES)
        raise ConfigError(f"No trainer.strategy '{strategy}' here.{meant} Choose one of: {', '.join(STRATEGIES)}")
    num_nodes = trainer.get("num_nodes", 1)
    if not isinstance(num_nodes, int) or num_nodes < 1:
        raise ConfigError(f"trainer.num_nodes={num_nodes} must be a whole number of machines, at least 1.")
    devices = _count_devices(trainer.devices)
    if devices is not None and devices < 1:
        raise ConfigError(f"trainer.devices={trainer.devices} names no device. Give a number from 1, or auto.")
    if runs_on_gpu(trainer):
        _check_gpus(trainer, devices)
    elif accelerator == "mps":
        _check_mps()
    elif trainer.get("sync_batchnorm") and count_processes(trainer) > 1:
        raise ConfigError("trainer.sync_batchnorm=true needs GPUs, and this training runs on CPUs. Leave it out.")


def _check_gpus(trainer: DictConfig, devices: int | None) -> None:
    found = _count_gpus()
    if not found:
        raise ConfigError(
            f"trainer.accelerator={trainer.accelerator} needs a GPU, and PyTorch sees none here. Choose trainer=cpu, "
            f"or see whether driver and PyTorch fit: python -m torch.utils.collect_env"
        )
    numbers = _list_devices(trainer.devices)
    absent = [number for number in numbers if number >= found]
    if absent or (devices is not None and devices > found):
        raise ConfigError(
            f"trainer.devices={trainer.devices} is more than the {found} GPUs of this machine, which count from 0. "
            f"Lower it, or spread over machines with trainer.num_nodes."
        )


def _check_mps() -> None:
    import torch

    if not torch.backends.mps.is_available():
        raise ConfigError("trainer.accelerator=mps needs an Apple GPU, and PyTorch sees none here. Choose trainer=cpu.")


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _list_devices(devices: Any) -> list[int]:
    """Return the devices that are named by their numbers: `[0, 2]` or `"0,2"`."""
    if isinstance(devices, list | tuple | ListConfig):
        return [int(number) for number in devices]
    if isinstance(devices, str) and "," in devices:
        return [int(number) for number in devices.split(",") if number.strip()]
    return []


def _count_devices(devices: Any) -> int | None:
    """Return how many devices are wanted; None for all that there are.

    Raises:
        ConfigError: It is neither a number, nor a list of them, nor `auto`.
    """
    if str(devices) in ("auto", "-1"):
        return None
    try:
        numbers = _list_devices(devices)
        return len(numbers) if numbers or not isinstance(devices, str | int) else int(devices)
    except ValueError as error:
        raise ConfigError(
            f"trainer.devices={devices} is neither a number, nor a list of GPUs such as [0,2], nor auto."
        ) from error


_LIGHTNING_NAMES = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_precision(name: str, *, has_gpu: bool) -> str:
    """Return Lightning's name for a precision.

    Args:
        name: `auto`, `fp32`, `bf16` or `fp16`; `auto` is bf16 where the device computes it fast, else fp32.
        has_gpu: Whether training runs on a GPU.

    Raises:
        ConfigError: Another name, or fp16 on a CPU.
    """
    if name == "auto":
        name = "bf16" if _has_fast_bf16(has_gpu) else "fp32"
    if name not in _LIGHTNING_NAMES:
        meant = suggest(name, _LIGHTNING_NAMES, key="precision")
        raise ConfigError(f"No precision '{name}'.{meant} Choose one of: auto, {', '.join(_LIGHTNING_NAMES)}")
    if name == "fp16" and not has_gpu:
        raise ConfigError("precision=fp16 needs a GPU, and this training runs on a CPU. Choose precision=auto or fp32.")
    return _LIGHTNING_NAMES[name]


def _has_fast_bf16(has_gpu: bool) -> bool:
    import torch

    if has_gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in every torch that we accept
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
