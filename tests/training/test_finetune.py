from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tests.conftest import train_tiny
from torch import Tensor, nn

from unmask.models.checkpoint import load_checkpoint

STEADY = ("scheduler=none", "optimizer.lr=0.01")


def _state(result: dict[str, object]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_checkpoint(str(result["last_checkpoint"])).state
    return state


def _moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {key.split(".")[1] for key in before if not torch.equal(before[key], after[key])}


def test_head_takes_every_step_and_the_backbone_those_after_it_is_thawed(face_dataset: Path, tmp_path: Path) -> None:
    options = ("trainer.max_epochs=3", "trainer.limit_train_batches=1", "callbacks.freeze.num_epochs=2")
    result = train_tiny(face_dataset, tmp_path, *STEADY, *options)
    states = torch.load(str(result["last_checkpoint"]), weights_only=True)["optimizer_states"][0]["state"]
    steps = [int(states[number]["step"]) for number in sorted(states)]
    assert steps == [1] * (len(states) - 2) + [3, 3]


class _Watch(L.Callback):
    """Keep what the backbone is like at every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, bool]] = []
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *rest: Any) -> None:
        backbone: nn.Module = pl_module.network.backbone
        is_trainable = all(parameter.requires_grad for parameter in backbone.parameters())
        self.seen.append((trainer.current_epoch, is_trainable, backbone.training))
        self.states.append({key: value.clone() for key, value in pl_module.network.state_dict().items()})


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> _Watch:
    watch = _Watch()
    build = L.Trainer.__init__

    def init(trainer: L.Trainer, *, callbacks: list[L.Callback], **options: Any) -> None:
        build(trainer, callbacks=[*callbacks, watch], **options)

    monkeypatch.setattr(L.Trainer, "__init__", init)
    return watch


def test_frozen_backbone_keeps_weights_and_statistics_to_the_last_bit(
    face_dataset: Path, tmp_path: Path, watch: _Watch
) -> None:
    options = ("trainer.max_epochs=3", "trainer.limit_train_batches=2", "optimizer.weight_decay=0.1")
    train_tiny(face_dataset, tmp_path, *STEADY, *options, "callbacks.freeze.num_epochs=2")
    assert watch.seen == [(0, False, False)] * 2 + [(1, False, False)] * 2 + [(2, True, True)] * 2
    assert _moved(watch.states[0], watch.states[3]) == {"head"}
    assert _moved(watch.states[3], watch.states[5]) == {"backbone", "head"}


def test_resumed_training_knows_whether_it_is_frozen(face_dataset: Path, tmp_path: Path) -> None:
    options = (*STEADY, "trainer.limit_train_batches=2", "callbacks.freeze.num_epochs=2")
    whole = _state(train_tiny(face_dataset, tmp_path / "whole", *options, "trainer.max_epochs=4"))
    part = train_tiny(face_dataset, tmp_path / "part", *options, "trainer.max_epochs=3")
    resume = ("trainer.max_epochs=4", f"resume={part['last_checkpoint']}")
    assert not _moved(whole, _state(train_tiny(face_dataset, tmp_path / "on", *options, *resume)))


def test_zero_epochs_freeze_nothing(face_dataset: Path, tmp_path: Path, watch: _Watch) -> None:
    train_tiny(face_dataset, tmp_path, "trainer.limit_train_batches=1")
    assert watch.seen == [(0, True, True)]
