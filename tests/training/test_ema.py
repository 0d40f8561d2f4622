from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import train_tiny

from unmask.evaluation.run import Options, evaluate
from unmask.models.checkpoint import load_checkpoint
from unmask.training.callbacks import AveragedWeights, build_ema

OPTIONS = ("trainer.max_epochs=3", "optimizer.lr=0.01", "dataset.batch_size=8", "dataset.samples_per_epoch=32")
EMA = "callbacks.ema.decay=0.9"


def _read(result: dict[str, object]) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(str(result["last_checkpoint"]), weights_only=True)
    return content


def _distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    return max(float((first[key].float() - second[key].float()).abs().max()) for key in first)


def test_average_forgets_faster_while_it_is_short() -> None:
    ema, average = AveragedWeights(decay=0.5), [torch.zeros(2)]
    ema._average(average, [torch.ones(2)], 1)
    assert average[0].tolist() == pytest.approx([1 - 2 / 11] * 2)
    ema._average(average, [torch.zeros(2)], torch.tensor(100))
    assert average[0].tolist() == pytest.approx([(1 - 2 / 11) / 2] * 2)


def test_counters_are_taken_over() -> None:
    counters = [torch.tensor(3)]
    AveragedWeights(decay=0.999)._average(counters, [torch.tensor(8)], 5)
    assert counters[0].item() == 8


def test_no_decay_builds_no_average() -> None:
    assert build_ema(decay=None) is None


@pytest.fixture(scope="module")
def averaged(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A training of three epochs with averaged weights."""
    return train_tiny(face_dataset, tmp_path_factory.mktemp("ema"), *OPTIONS, EMA)


def test_average_of_every_step_is_what_the_checkpoint_holds_as_weights(
    averaged: dict[str, object], face_dataset: Path, tmp_path: Path
) -> None:
    plain, content = _read(train_tiny(face_dataset, tmp_path, *OPTIONS)), _read(averaged)
    learned = [key for key in plain["state_dict"] if key.startswith("network.")]
    for key in learned:  # training itself goes the same way
        assert torch.equal(plain["state_dict"][key], content["current_model_state"][key])
    assert _distance(plain["state_dict"], content["state_dict"]) > 1e-3
    assert int(content["averaging_state"]["n_averaged"]) == content["global_step"]
    assert load_checkpoint(str(averaged["last_checkpoint"])).build_network() is not None


def test_average_is_what_is_validated(averaged: dict[str, object], face_dataset: Path, tmp_path: Path) -> None:
    best = str(averaged["best_checkpoint"])
    found = evaluate(best, root=face_dataset, output=tmp_path, options=Options(split="val", device="cpu"))
    metrics: Any = averaged["metrics"]
    assert found.figures["frame"]["auroc"] == pytest.approx(metrics["val/auroc"], abs=1e-6)
    assert found.figures["video"]["auroc"] == pytest.approx(metrics["val/video_auroc"], abs=1e-6)
    assert found.figures["video"]["auprc"] == pytest.approx(metrics["val/video_auprc"], abs=1e-6)


def test_resumed_training_has_both_the_weights_and_their_average(
    averaged: dict[str, object], face_dataset: Path, tmp_path: Path
) -> None:
    options = (*OPTIONS[1:], EMA, "scheduler=none")
    whole = _read(train_tiny(face_dataset, tmp_path / "whole", *options, "trainer.max_epochs=2"))
    first = train_tiny(face_dataset, tmp_path / "first", *options, "trainer.max_epochs=1")
    resume = ("trainer.max_epochs=2", f"resume={first['last_checkpoint']}")
    resumed = _read(train_tiny(face_dataset, tmp_path / "on", *options, *resume))
    for state in ("state_dict", "current_model_state"):
        assert _distance(whole[state], resumed[state]) == 0, state


def test_checkpoint_without_an_average_can_be_resumed_with_one(face_dataset: Path, tmp_path: Path) -> None:
    first = train_tiny(face_dataset, tmp_path / "first", *OPTIONS[1:])
    resume = ("trainer.max_epochs=2", f"resume={first['last_checkpoint']}", EMA)
    content = _read(train_tiny(face_dataset, tmp_path / "on", *OPTIONS[1:], *resume))
    assert "current_model_state" in content
