import argparse
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.networks import make_network
from torch import Tensor

from unmask.errors import CheckpointError, ConfigError

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """A ResNet-18 of torchvision with a head of two classes, as detectors are published."""
    from torchvision.models import resnet18

    torch.manual_seed(5)
    return dict(resnet18(num_classes=2).state_dict())


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


PUBLISHED: dict[str, tuple[Callable[[State], Any], tuple[str, ...]]] = {
    "two classes": (lambda state: state, ("fc",)),
    "in parallel": (lambda state: {"state_dict": prefixed(state, "module."), "epoch": 3}, ("fc", "epoch")),
    "without a head": (lambda state: {k: v for k, v in state.items() if not k.startswith("fc.")}, ("nothing",)),
    "lightning": (
        lambda state: {"state_dict": prefixed(state, "backbone."), "pytorch-lightning_version": "2.2"},
        ("fc", "pytorch-lightning_version"),
    ),
    "below any names": (lambda state: {"a": {"b": prefixed(state, "net.encoder.")}, "lr": 0.1}, ("fc", "lr")),
    "with its training": (
        lambda state: {
            "model": state,
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
            "args": argparse.Namespace(lr=0.1),
            "best": np.float64(0.9),
        },
        ("fc", "optimizer", "args", "best"),
    ),
    "with other networks": (
        lambda state: {
            "student": prefixed(state, "module.backbone."),
            "teacher": prefixed({k: v + 1 for k, v in state.items()}, "module.backbone."),
        },
        ("fc", "teacher"),
    ),
    "before the counters": (
        lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
        ("fc",),
    ),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_weights_are_loaded_and_leftovers_logged_once(
    kind: str, state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, dropped = PUBLISHED[kind]
    path = tmp_path / "weights (1).pth"
    torch.save(make(state), path)
    with caplog.at_level(logging.INFO):
        network = make_network(weights=str(path))
    assert torch.equal(network.backbone.conv1.weight, state["conv1.weight"])
    assert torch.equal(network.backbone.layer4[1].bn2.running_var, state["layer4.1.bn2.running_var"])
    (line,) = caplog.messages
    assert f"model.weights='{path}'" in line
    assert line.rpartition("left out: ")[2] == f"{', '.join(dropped)}."


def test_timm_weights_are_loaded_with_any_prefix(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(5)
    state = timm.create_model("resnet10t", num_classes=2).state_dict()
    torch.save({"state_dict": prefixed(state, "model.")}, tmp_path / "a.ckpt")
    save_file(state, tmp_path / "b.safetensors")
    for name in ("a.ckpt", "b.safetensors"):
        network = make_network(name="resnet10t", library="timm", input_size=64, weights=str(tmp_path / name))
        assert torch.equal(network.backbone.layer4[0].conv1.weight, state["layer4.0.conv1.weight"])


def test_backbone_is_loaded_from_our_own_checkpoints(tmp_path: Path) -> None:
    trained = make_network(name="tiny")
    torch.save({"state_dict": prefixed(dict(trained.state_dict()), "network."), "loops": {}}, tmp_path / "best.ckpt")
    network = make_network(name="tiny", weights=str(tmp_path / "best.ckpt"))
    assert torch.equal(network.backbone[0].weight, trained.backbone[0].weight)


def refusal(path: Path, content: Any, **options: Any) -> str:
    torch.save(content, path)
    with pytest.raises(CheckpointError) as told:
        make_network(weights=str(path), **options)
    assert f"model.weights='{path}'" in str(told.value)
    return str(told.value)


def test_incomplete_weights_are_refused_with_the_first_names_and_their_number(state: State, tmp_path: Path) -> None:
    half = {key: value for key, value in state.items() if not key.startswith(("layer3", "layer4"))}
    text = refusal(tmp_path / "half.pth", half)
    assert "50 of its 100 tensors are missing" in text
    assert "layer3.0.conv1.weight" in text
    assert "layer4.1.conv1" not in text  # the first alone


def test_weights_of_a_larger_or_wider_network_are_refused(state: State, tmp_path: Path) -> None:
    larger = {**state, "layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}
    assert "larger network (layer1.2.conv1.weight)" in refusal(tmp_path / "larger.pth", larger)
    wide = {**state, "conv1.weight": torch.zeros(128, 3, 7, 7)}
    text = refusal(tmp_path / "wide.pth", {"state_dict": wide})
    assert "1 have another size (conv1.weight (128, 3, 7, 7) instead of (64, 3, 7, 7))" in text


def test_file_without_matching_tensors_lists_its_content(tmp_path: Path) -> None:
    text = refusal(tmp_path / "other.pth", {"state_dict": {"blocks.0.weight": torch.zeros(2)}, "epoch": 1})
    assert "state_dict.blocks.0.weight" in text
    assert "conv1.weight" in text
    assert "no tensors" in refusal(tmp_path / "list.pth", [1, 2])


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_no_code_in_a_file_is_run(tmp_path: Path, state: State) -> None:
    text = refusal(tmp_path / "evil.pth", {"state_dict": state, "x": Touch(tmp_path / "run")})
    assert "system" in text
    assert "python -c" in text
    assert str(tmp_path / "evil-weights.pth") in text
    assert not (tmp_path / "run").exists()
    assert "needs the code of " in refusal(tmp_path / "whole.pth", torch.nn.Linear(2, 2))


def test_tiny_has_no_imagenet_weights() -> None:
    with pytest.raises(ConfigError, match=r"tiny.*model\.weights"):
        make_network(name="tiny", weights="imagenet")
