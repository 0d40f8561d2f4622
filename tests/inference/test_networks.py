"""Every network scores alike by bundle and by checkpoint, and its maps are Grad-CAM."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tests.networks import make_network

from unmask.config import config_dir
from unmask.faces.spec import CropSpec
from unmask.inference.annotate import spread_map
from unmask.inference.backend import TorchBackend
from unmask.inference.predictor import Predictor
from unmask.models.bundle import write_bundle
from unmask.models.checkpoint import load_checkpoint
from unmask.models.heatmaps import GradCam
from unmask.models.network import FaceNetwork
from unmask.training.parts import build_network
from unmask.types import Image

CONFIGS: dict[str, dict[str, Any]] = {path.stem: {} for path in (config_dir() / "model").glob("*.yaml")} | {
    "custom": {"_target_": "torchvision.models.resnet18", "num_classes": 2, "input_size": 64},
    "timm with a class token": {"name": "test_vit", "input_size": 96},
    "timm with mixed tokens": {"name": "mixer_s32_224"},
    "timm with a map of its own": {"name": "test_convnext", "input_size": 64},
}


def build(label: str) -> FaceNetwork:
    cfg = OmegaConf.load(config_dir() / "model" / f"{label.partition(' ')[0]}.yaml")
    network: FaceNetwork = build_network(OmegaConf.merge(cfg, {"weights": None, **CONFIGS[label]}))
    return network


def correlate(one: Any, other: Any) -> float:
    assert np.std(one) > 0
    assert np.std(other) > 0
    return float(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])


@pytest.mark.parametrize("label", sorted(CONFIGS))
def test_bundle_and_checkpoint_score_alike(
    label: str,
    whole_image_spec: CropSpec,
    make_checkpoint: Callable[..., Path],
    clip_maker: Callable[..., list[Image]],
    tmp_path: Path,
) -> None:
    path = make_checkpoint(whole_image_spec, build=lambda: build(label))
    bundle = write_bundle(load_checkpoint(path), tmp_path / "bundle")
    images = clip_maker(3, num_frames=3)
    exported, trained = (Predictor.load(one, device="cpu").predict_images(images) for one in (bundle, path))
    for ours, theirs in zip(exported, trained, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        maps = [row.frames[0].faces[0].activation_map for row in (ours, theirs)]
        if maps[0] is not None:
            assert maps[0] == pytest.approx(maps[1], abs=1e-3 * max(1.0, float(np.abs(maps[0]).max())))
        assert maps[1] is not None  # where the bundle has none, Grad-CAM does through PyTorch
        assert (maps[0] is None) == (label in ("timm with a class token", "timm with mixed tokens"))


def test_activation_map_is_grad_cam_of_the_logit(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = make_network(name="resnet18", input_size=160).eval()
    images = torch.randint(0, 256, (3, 3, 160, 160), dtype=torch.uint8)
    features = network.backbone(network.normalise(images)).detach().requires_grad_()
    network.head(features.mean(dim=(2, 3))).sum().backward()
    assert features.grad is not None
    weights = features.grad.mean(dim=(2, 3), keepdim=True)  # Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2
    grad_cam = torch.relu((weights * features).sum(dim=1)).detach().numpy()
    maps = TorchBackend(network, device=torch.device("cpu")).score(images.numpy()).activation_maps
    assert maps is not None
    for ours, theirs in zip(np.maximum(maps, 0), grad_cam, strict=True):
        assert theirs.std() > 0
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.99


def test_activation_map_is_that_of_pytorch_grad_cam() -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import RawScoresOutputTarget

    class Logits(torch.nn.Module):  # one logit as a column, which is what the package takes
        def __init__(self, network: FaceNetwork) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images)[:, None]

    torch.manual_seed(4)
    network = make_network(name="resnet18", input_size=160).eval()
    images = torch.randint(0, 256, (3, 3, 160, 160), dtype=torch.uint8)
    maps = TorchBackend(network, device=torch.device("cpu")).score(images.numpy()).activation_maps
    assert maps is not None
    with GradCAM(model=Logits(network), target_layers=[network.backbone[-1]]) as grad_cam:
        for image, ours in zip(images, maps, strict=True):
            theirs = grad_cam(image[None].float(), targets=[RawScoresOutputTarget()])[0]
            assert theirs.std() > 0
            assert np.corrcoef(spread_map(ours, size=160).ravel(), theirs.ravel())[0, 1] >= 0.99


def test_grad_cam_through_torch_is_the_activation_map_where_there_is_one() -> None:
    torch.manual_seed(3)
    network = make_network(name="resnet10t", library="timm", input_size=96).eval()
    torch.nn.init.normal_(network.head.weight)
    images = torch.randint(0, 256, (3, 3, 96, 96), dtype=torch.uint8)
    expected = TorchBackend(network, device=torch.device("cpu")).score(images.numpy())
    logits, maps = GradCam(network).score(images)
    assert maps is not None
    assert torch.sigmoid(logits).numpy() == pytest.approx(expected.scores, abs=1e-5)
    assert expected.activation_maps is not None
    for ours, theirs in zip(maps, np.maximum(expected.activation_maps, 0), strict=True):
        assert ours.shape == theirs.shape
        assert correlate(ours, theirs) >= 0.99


def test_maps_that_nobody_wants_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    images = torch.randint(0, 256, (3, 3, 96, 96), dtype=torch.uint8).numpy()
    pools_itself = make_network(name="test_vit", library="timm", input_size=96).eval()
    wanted = TorchBackend(pools_itself, device=torch.device("cpu")).score(images)
    assert wanted.activation_maps is not None
    monkeypatch.setattr(GradCam, "__init__", None)  # cannot be called
    found = TorchBackend(pools_itself, device=torch.device("cpu"), maps=False).score(images)
    assert found.activation_maps is None
    assert found.scores == pytest.approx(wanted.scores, abs=1e-5)
    free = make_network(name="resnet10t", library="timm", input_size=96).eval()
    assert TorchBackend(free, device=torch.device("cpu"), maps=False).score(images).activation_maps is not None


def test_grad_cam_of_a_class_token_is_taken_where_the_other_tokens_still_count() -> None:
    torch.manual_seed(3)
    network = make_network(name="test_vit", library="timm", input_size=96).eval()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    _, maps = GradCam(network).score(images)
    assert maps is not None
    tokens: list[torch.Tensor] = []
    blocks: Any = network.backbone.blocks
    blocks[-2].register_forward_hook(lambda _, inputs, output: tokens.append(output))  # the last one's lead nowhere
    network(images.float().requires_grad_()).sum().backward()
    (gradient,) = torch.autograd.grad(network(images.float().requires_grad_()).sum(), tokens[-1])
    weights = gradient[:, 1:].mean(dim=1, keepdim=True)
    grad_cam = torch.relu((weights * tokens[0][:, 1:]).sum(dim=2)).detach().numpy().reshape(maps.shape)
    for ours, theirs in zip(maps, grad_cam, strict=True):
        assert correlate(ours, theirs) >= 0.99
