"""Choose the number format of the training."""

from unmask.errors import ConfigError
from unmask.names import suggest

_LIGHTNING_NAMES = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_precision(name: str, *, has_gpu: bool) -> str:
    """Return Lightning's name for a precision.

    Args:
        name: `auto`, `fp32`, `bf16` or `fp16`; `auto` is bf16 where the device computes it fast, else fp32.
        has_gpu: Whether the training runs on a GPU.

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
