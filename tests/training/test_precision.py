import pytest
import torch

from unmask.errors import ConfigError
from unmask.training.devices import choose_precision


@pytest.mark.parametrize(
    ("name", "has_gpu", "expected"),
    [
        ("fp32", False, "32-true"),
        ("bf16", False, "bf16-mixed"),
        ("bf16", True, "bf16-mixed"),
        ("fp16", True, "16-mixed"),
    ],
)
def test_given_precision_is_used(name: str, has_gpu: bool, expected: str) -> None:
    assert choose_precision(name, has_gpu=has_gpu) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": False}, "32-true")],
)
def test_auto_takes_bf16_on_a_cpu_that_computes_it_fast(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", has_gpu=False) == expected


def test_auto_takes_fp32_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", has_gpu=False) == "32-true"


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_asks_the_gpu(monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: supported)
    assert choose_precision("auto", has_gpu=True) == expected


def test_half_precision_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"precision=fp16 needs a GPU.*Choose precision=auto or fp32"):
        choose_precision("fp16", has_gpu=False)


def test_unknown_precision_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"No precision 'int8'\. Choose one of: auto, fp32, bf16, fp16"):
        choose_precision("int8", has_gpu=True)
