import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import unmask
from unmask.decision import Decision
from unmask.errors import BundleError, ConfigError
from unmask.faces.spec import CropSpec
from unmask.inference.backend import OnnxBackend, TorchBackend
from unmask.inference.bundle import load_bundle
from unmask.inference.predictor import Predictor
from unmask.media.picture import write_jpeg
from unmask.models.bundle import hash_file, write_bundle
from unmask.models.checkpoint import load_checkpoint
from unmask.models.export import export_onnx
from unmask.models.network import FaceNetwork
from unmask.types import Picture


@pytest.fixture
def bundle(whole_picture_spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    decision = Decision(threshold=0.4, aggregation="median", criterion="f1")
    return write_bundle(load_checkpoint(make_checkpoint(whole_picture_spec, decision)), tmp_path / "bundle")


def test_bundle_holds_what_the_checkpoint_told(bundle: Path) -> None:
    checkpoint, found = load_checkpoint(bundle.parent / "best.ckpt"), load_bundle(bundle)
    assert found.network == "tiny"
    assert (found.crop_spec, found.input_spec) == (checkpoint.crop_spec, checkpoint.input_spec)
    assert (found.decision, found.class_names) == (checkpoint.decision, checkpoint.class_names)
    assert found.provenance == {"seed": 1}
    assert {path.name for path in bundle.iterdir()} == {"model.onnx", "spec.json"}


def test_an_old_bundle_is_replaced_whole(bundle: Path) -> None:
    (bundle / "stale.txt").touch()
    write_bundle(load_checkpoint(bundle.parent / "best.ckpt"), bundle)
    assert {path.name for path in bundle.parent.iterdir()} == {"best.ckpt", "bundle"}
    assert not (bundle / "stale.txt").exists()


def test_bundle_and_checkpoint_predict_alike(bundle: Path, clip_maker: Callable[..., list[Picture]]) -> None:
    images = clip_maker(3, num_frames=5)
    exported = unmask.Predictor.load(bundle, device="cpu").predict_images(images)
    trained = Predictor.load(bundle.parent / "best.ckpt", device="cpu").predict_images(images)
    assert np.std([row.score for row in exported]) > 1e-4
    for ours, theirs in zip(exported, trained, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        assert ours.threshold == 0.4
        maps = [row.frames[0].faces[0].activation_map for row in (ours, theirs)]
        assert maps[0] == pytest.approx(maps[1], abs=1e-3)


@pytest.mark.parametrize(("name", "size"), [("tiny", 64), ("resnet18", 96)])
def test_every_network_scores_alike_in_both_backends(tmp_path: Path, name: str, size: int) -> None:
    torch.manual_seed(1)
    network = FaceNetwork(name=name, input_size=size).eval()
    with torch.no_grad():
        network.head.weight *= 10
    export_onnx(network, tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (7, 3, size, size), np.uint8)
    onnx_scored = OnnxBackend(tmp_path / "model.onnx", device="cpu").score(images)
    torch_scored = TorchBackend(network, device=torch.device("cpu")).score(images)
    assert onnx_scored.scores == pytest.approx(torch_scored.scores, abs=1e-4)
    assert onnx_scored.activation_maps == pytest.approx(torch_scored.activation_maps, abs=1e-3)


def test_activation_map_is_grad_cam_of_the_logit(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = FaceNetwork(name="resnet18", input_size=160).eval()
    images = torch.randint(0, 256, (3, 3, 160, 160), dtype=torch.uint8)
    features = network.backbone((images.float() - network.mean) / network.std).detach().requires_grad_()
    network.head(network.pool(features).flatten(1)).sum().backward()
    assert features.grad is not None
    weights = features.grad.mean(dim=(2, 3), keepdim=True)  # Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2
    grad_cam = torch.relu((weights * features).sum(dim=1)).detach().numpy()
    maps = TorchBackend(network, device=torch.device("cpu")).score(images.numpy()).activation_maps
    assert maps is not None
    for ours, theirs in zip(np.maximum(maps, 0), grad_cam, strict=True):
        assert theirs.std() > 0
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.99


def test_any_file_of_the_bundle_names_it(bundle: Path) -> None:
    assert load_bundle(bundle / "model.onnx") == load_bundle(bundle)
    assert load_bundle(bundle / "spec.json") == load_bundle(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "spec.json"])
def test_a_bundle_without_a_part_names_it(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"bundle' is no bundle: it has no '{name}'"):
        Predictor.load(bundle)


def test_a_damaged_network_is_refused(bundle: Path) -> None:
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx' is not the network that 'spec\.json' describes.*damaged"):
        Predictor.load(bundle)


def test_a_network_that_is_none_is_refused(bundle: Path) -> None:
    (bundle / "model.onnx").write_text("hello")
    _change(bundle, model_sha256=hash_file(bundle / "model.onnx"))
    with pytest.raises(BundleError, match=r"model\.onnx' cannot be read as a network"):
        Predictor.load(bundle)


def test_a_network_of_something_else_is_refused(bundle: Path) -> None:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", value[:1], value[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(bundle / "model.onnx"))
    _change(bundle, model_sha256=hash_file(bundle / "model.onnx"))
    with pytest.raises(BundleError, match=r"network of something else: its outputs are y"):
        Predictor.load(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"spec\.json' cannot be read as JSON"),
        ("[]", "has the format None, and this version of unmask reads 1"),
        ('{"format": 99}', "has the format 99, and this version of unmask reads 1"),
        ('{"format": 1}', "not a whole spec of format 1: KeyError 'network'"),
    ],
)
def test_a_spec_that_is_none_is_refused(bundle: Path, text: str, message: str) -> None:
    (bundle / "spec.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        Predictor.load(bundle)


def test_a_decision_out_of_range_is_refused(bundle: Path) -> None:
    _change(bundle, decision={"threshold": 7})
    with pytest.raises(BundleError, match=r"not a whole spec.*threshold 7"):
        Predictor.load(bundle)


def test_a_device_that_is_not_there_is_named(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"device=tpu cannot be used.*auto or cpu"):
        Predictor.load(bundle, device="tpu")


def test_a_bundle_predicts_without_torch(bundle: Path, tmp_path: Path) -> None:
    write_jpeg(tmp_path / "photo.jpg", np.full((80, 80, 3), 200, np.uint8), quality=90)
    code = (
        "import sys; sys.argv = ['predict.py', *sys.argv[1:]]; from unmask.cli.predict import main; main();"
        "print('heavy', [n for n in ('torch', 'lightning', 'mlflow', 'pandas', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"checkpoint={bundle}", "photo.jpg"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "heavy []" in done.stdout
    assert "photo.jpg" in done.stdout


def test_inference_imports_neither_torch_nor_hydra() -> None:
    code = (
        "import sys, unmask; unmask.Predictor;"
        "print([n for n in ('torch', 'lightning', 'mlflow', 'hydra', 'omegaconf') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def _change(bundle: Path, **values: object) -> None:
    spec = json.loads((bundle / "spec.json").read_text())
    (bundle / "spec.json").write_text(json.dumps(spec | values))
