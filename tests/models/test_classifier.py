from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tests.networks import make_network
from torch.utils.data import DataLoader

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.faces.spec import CropSpec
from unmask.metrics.collection import build_metrics
from unmask.models.checkpoint import load_checkpoint
from unmask.models.classifier import DeepfakeClassifier, Origin
from unmask.models.schedules import cosine


def _samples(count: int = 32) -> list[dict[str, Any]]:
    """Fakes are brighter; two crops a video."""
    noise = torch.Generator().manual_seed(0)
    return [
        {
            "image": (torch.rand(3, 16, 16, generator=noise) * 100 + 100 * (index // 2 % 2)).to(torch.uint8),
            "label": index // 2 % 2,
            "row": index,
            "video": index // 2,
        }
        for index in range(count)
    ]


def _classifier(
    *, schedule: Any = None, has_videos: bool = True, lr: float = 0.05, head_lr_ratio: float = 1.0
) -> DeepfakeClassifier:
    torch.manual_seed(0)
    return DeepfakeClassifier(
        network=make_network(name="tiny", input_size=16),
        loss=torch.nn.BCEWithLogitsLoss(),
        optimizer=partial(torch.optim.SGD, lr=lr),
        schedule=schedule,
        metrics=build_metrics(aggregation="mean", has_videos=has_videos),
        origin=Origin(CropSpec("haar"), {"seed": 3}),
        head_lr_ratio=head_lr_ratio,
    )


def _fit(model: DeepfakeClassifier, folder: Path, *, max_epochs: int = 1) -> L.Trainer:
    trainer = L.Trainer(
        max_epochs=max_epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
    )  # fmt: skip
    loader = DataLoader(_samples(), batch_size=8)
    trainer.fit(model, loader, loader)
    return trainer


def test_training_learns_to_separate_the_labels(tmp_path: Path) -> None:
    model = _classifier()
    figures = _fit(model, tmp_path, max_epochs=8).callback_metrics
    assert figures["val/auroc"] > 0.95
    assert figures["train/loss"] < 0.6
    batch = torch.stack([sample["image"] for sample in _samples()])
    scores = model.eval()(batch).sigmoid()
    labels = torch.tensor([sample["label"] for sample in _samples()])
    assert scores[labels == 1].mean() > scores[labels == 0].mean() + 0.1  # fake is the one that scores high


def test_validation_logs_every_metric_once(tmp_path: Path) -> None:
    figures = _fit(_classifier(), tmp_path).callback_metrics
    names = {"accuracy", "f1", "auroc", "auprc"}
    expected = {f"val/{name}" for name in names} | {f"val/video_{name}" for name in names}
    assert set(figures) == expected | {"val/loss", "train/loss", "train/step_loss"}


def test_single_images_have_no_video_metrics(tmp_path: Path) -> None:
    figures = _fit(_classifier(has_videos=False), tmp_path).callback_metrics
    assert "val/auroc" in figures
    assert not [name for name in figures if "video" in name]


def test_metrics_cover_a_single_epoch(tmp_path: Path) -> None:
    model = _classifier(lr=0.0)
    trainer = _fit(model, tmp_path, max_epochs=2)
    scores, labels, videos, frames = model.val_metrics["videos"].gathered
    assert len(scores) == len(labels) == len(videos) == len(frames) == 32
    assert trainer.current_epoch == 2


def test_loss_is_computed_from_logits() -> None:
    model = _classifier().eval()
    batch = next(iter(DataLoader(_samples(8), batch_size=8)))
    loss, logits = model._shared_step(batch)
    expected = torch.nn.functional.binary_cross_entropy(torch.sigmoid(model(batch["image"])), batch["label"].float())
    assert logits.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_schedule_spans_all_steps_of_the_training(tmp_path: Path) -> None:
    model = _classifier(schedule=partial(cosine, warmup_ratio=0.0, final_ratio=0.01))
    trainer = _fit(model, tmp_path, max_epochs=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * 0.01, rel=1e-3)


def test_head_may_have_its_own_learning_rate(tmp_path: Path) -> None:
    model = _classifier(head_lr_ratio=10, schedule=partial(cosine, warmup_ratio=0.0, final_ratio=0.01))
    optimizer = _fit(model, tmp_path, max_epochs=2).optimizers[0]
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert [group["initial_lr"] for group in groups.values()] == pytest.approx([0.05, 0.5])
    assert [group["lr"] for group in groups.values()] == pytest.approx([0.05 * 0.01, 0.5 * 0.01], rel=1e-3)
    assert groups["head"]["params"] == list(model.network.head.parameters())
    assert sum(len(group["params"]) for group in groups.values()) == len(list(model.parameters()))


def test_equal_learning_rates_share_one_parameter_group(tmp_path: Path) -> None:
    assert len(_fit(_classifier(), tmp_path).optimizers[0].param_groups) == 1


def test_head_lr_ratio_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.head_lr_ratio=0 must be more than 0"):
        _classifier(head_lr_ratio=0)


def test_validation_loss_is_the_mean_over_crops_not_batches(tmp_path: Path) -> None:
    model = _classifier(lr=0.0)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    samples = _samples(11)
    trainer.fit(model, DataLoader(samples, batch_size=11), DataLoader(samples, batch_size=4))
    loss, _ = model.eval()._shared_step(next(iter(DataLoader(samples, batch_size=11))))
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)


def test_checkpoint_holds_network_spec_and_decision_and_no_hyper_parameters(tmp_path: Path) -> None:
    model = _classifier()
    trainer = _fit(model, tmp_path)
    model.decision = Decision(0.25, "mean", "eer")
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    found = load_checkpoint(tmp_path / "a.ckpt")
    assert found.decision == model.decision
    assert (found.crop_spec, found.provenance) == (CropSpec("haar"), {"seed": 3})
    images = torch.stack([sample["image"] for sample in _samples(4)])
    assert torch.allclose(found.build_network()(images), model.eval()(images), atol=1e-5)
    assert not torch.load(tmp_path / "a.ckpt", weights_only=True).get("hyper_parameters")


def test_resumed_model_restores_the_decision(tmp_path: Path) -> None:
    model = _classifier()
    trainer = _fit(model, tmp_path)
    model.decision = Decision(0.25, "mean", "eer")
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = _classifier()
    other.on_load_checkpoint(torch.load(tmp_path / "a.ckpt", weights_only=True))
    assert other.decision == Decision(0.25, "mean", "eer")
