import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.networks import make_network

import unmask
from unmask.decision import Decision
from unmask.errors import BundleError, CheckpointError, ConfigError, DetectorError, SpecMismatchError
from unmask.faces.spec import CropSpec
from unmask.inference.predictor import Predictor
from unmask.media.image import write_jpeg
from unmask.models.bundle import load_bundle, names_further_files, write_bundle
from unmask.models.checkpoint import load_checkpoint
from unmask.models.network import FaceNetwork
from unmask.paths import hash_file
from unmask.types import Image


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def make_field(number: int, value: bytes) -> bytes:
    """Write a field of Protocol Buffers that holds bytes, a text or a message."""
    return _make_varint(number << 3 | 2) + _make_varint(len(value)) + value


def _make_varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _make_varint(value >> 7)


@pytest.fixture
def bundle(whole_image_spec: CropSpec, make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    decision = Decision(threshold=0.4, aggregation="median", criterion="f1")
    return write_bundle(load_checkpoint(make_checkpoint(whole_image_spec, decision)), tmp_path / "bundle")


def test_bundle_holds_the_facts_of_the_checkpoint(bundle: Path) -> None:
    checkpoint, found = load_checkpoint(bundle.parent / "best.ckpt"), load_bundle(bundle)
    assert found.network == "tiny"
    assert (found.crop_spec, found.input_spec) == (checkpoint.crop_spec, checkpoint.input_spec)
    assert (found.decision, found.class_names) == (checkpoint.decision, checkpoint.class_names)
    assert found.provenance == {"seed": 1}
    assert {path.name for path in bundle.iterdir()} == {"model.onnx", "spec.json"}


def test_an_old_bundle_is_replaced_completely(bundle: Path) -> None:
    (bundle / "stale.txt").touch()
    write_bundle(load_checkpoint(bundle.parent / "best.ckpt"), bundle)
    assert {path.name for path in bundle.parent.iterdir()} == {"best.ckpt", "bundle"}
    assert not (bundle / "stale.txt").exists()


def test_bundle_and_checkpoint_predict_alike(bundle: Path, clip_maker: Callable[..., list[Image]]) -> None:
    images = clip_maker(3, num_frames=5)
    exported = unmask.Predictor.load(bundle, device="cpu").predict_images(images)
    trained = Predictor.load(bundle.parent / "best.ckpt", device="cpu").predict_images(images)
    assert np.std([row.score for row in exported]) > 1e-4
    for ours, theirs in zip(exported, trained, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        assert ours.threshold == 0.4
        maps = [row.frames[0].faces[0].activation_map for row in (ours, theirs)]
        assert maps[0] == pytest.approx(maps[1], abs=1e-3)


def test_a_bundle_whose_network_has_no_map_gives_scores_alone(bundle: Path) -> None:
    model = onnx.load(str(bundle / "model.onnx"))
    kept = [output for output in model.graph.output if output.name == "logit"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, str(bundle / "model.onnx"))
    _change(bundle, model_sha256=hash_file(bundle / "model.onnx"))
    prediction = Predictor.load(bundle, device="cpu").predict_image(np.full((40, 40, 3), 90, np.uint8))
    assert prediction.score is not None
    assert prediction.frames[0].faces[0].activation_map is None


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_weights_in_further_files_are_refused(bundle: Path, location: str, is_reversed: bool) -> None:
    model = onnx.load(str(bundle / "model.onnx"))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    data, key, value = model.SerializeToString(), make_field(1, b"location"), make_field(2, location.encode())
    assert key + value in data
    (bundle / "model.onnx").write_bytes(data.replace(key + value, value + key) if is_reversed else data)
    _change(bundle, model_sha256=hash_file(bundle / "model.onnx"))
    with pytest.raises(BundleError, match=r"model\.onnx.*train\.py"):
        Predictor.load(bundle)


FAR = make_field(13, b"") + b"\x70\x01"  # a tensor that names a file, and says that its values lie there

TENSORS = {
    "an initializer": make_field(7, make_field(5, FAR)),
    "its place alone": make_field(7, make_field(5, b"\x70\x81\x00")),
    "its file alone": make_field(7, make_field(5, make_field(13, b""))),
    "a tag with leading zeros": make_field(7, make_field(5, b"\xf0\x80\x00\x01")),
    "a tag of more than 32 bits": make_field(7, make_field(5, b"\xf0\x80\x80\x80\x10\x01")),
    "a sparse one": make_field(7, make_field(15, make_field(2, FAR))),
    "a constant": make_field(7, make_field(1, make_field(5, make_field(5, FAR)))),
    "one of several": make_field(7, make_field(1, make_field(5, make_field(10, b"") + make_field(10, FAR)))),
    "in a branch": make_field(7, make_field(1, make_field(5, make_field(6, make_field(5, FAR))))),
    "in a function": make_field(25, make_field(7, make_field(5, make_field(5, FAR)))),
    "in the training": make_field(20, make_field(2, make_field(5, FAR))),
    "in a second part of the graph": make_field(7, b"") + make_field(7, make_field(5, FAR)),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_tensor_in_a_further_file_is_found_wherever_it_is(case: str) -> None:
    assert names_further_files(TENSORS[case])


def test_what_only_looks_like_a_further_file_is_accepted() -> None:
    text = make_field(1, b"location") + make_field(2, b"weights.bin")
    here = make_field(7, make_field(5, b"\x70\x00" + make_field(9, text) + make_field(8, b"location")))
    assert not names_further_files(here + make_field(14, text) + make_field(13, b""))


def test_branches_within_branches_are_walked_to_the_bottom() -> None:
    data = make_field(5, FAR)
    for _ in range(2000):
        data = make_field(1, make_field(5, make_field(6, data)))
    assert names_further_files(make_field(7, data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x3a\x05ab", "cut off"),
        (b"\x3a\xff", "cut off"),
        (b"\x80" * 20, "cut off"),
        (b"\x3b\x3c", "wire type 3"),
        (b"\x08\x00" * 2_000_001, "more than 2,000,000 fields"),
    ],
)
def test_fields_that_no_exporter_writes_are_refused(bundle: Path, data: bytes, words: str) -> None:
    (bundle / "model.onnx").write_bytes(data)
    _change(bundle, model_sha256=hash_file(bundle / "model.onnx"))
    with pytest.raises(BundleError, match=rf"model\.onnx'.*{words}.*Copy the bundle again"):
        Predictor.load(bundle)


def test_a_timm_bundle_names_no_further_files(tmp_path: Path, make_checkpoint: Callable[..., Path]) -> None:
    def build() -> FaceNetwork:
        return make_network(name="test_vit", library="timm", input_size=32)

    spec = CropSpec("none", num_frames=2)
    folder = write_bundle(load_checkpoint(make_checkpoint(spec, build=build)), tmp_path / "bundle")
    assert load_bundle(folder).network == "test_vit"


@pytest.mark.parametrize(("name", "words"), [("model.onnx", "1,000,000,000"), ("spec.json", "1,000,000")])
def test_an_oversized_part_is_not_read(bundle: Path, name: str, words: str) -> None:
    with (bundle / name).open("r+b") as file:
        file.truncate(1_000_000_001)  # without its blocks: nothing is written
    with pytest.raises(BundleError, match=rf"{name}' .*1,000,000,001 bytes.*{words}"):
        Predictor.load(bundle)


def test_a_pickle_in_a_bundle_is_never_run(bundle: Path, in_folder: Path) -> None:
    payload = pickle.dumps(Payload(in_folder / "pwned"))
    for name in ("model.onnx", "spec.json"):
        whole = (bundle / name).read_bytes()
        (bundle / name).write_bytes(payload)
        if name == "model.onnx":
            _change(bundle, model_sha256=hash_file(bundle / name))
        with pytest.raises(BundleError, match=rf"{name}'"):
            Predictor.load(bundle)
        (bundle / name).write_bytes(whole)
    (in_folder / "best.ckpt").write_bytes(payload)
    with pytest.raises(CheckpointError, match=r"best\.ckpt'.*could run code"):
        Predictor.load(in_folder / "best.ckpt")
    assert not (in_folder / "pwned").exists()
    pickle.loads(payload)
    assert (in_folder / "pwned").exists(), "the payload is a real one"


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("preprocessing", {"margin": 1e9}, "margin=1000000000.0 must be a number from 0.1 to 10"),
        ("preprocessing", {"margin": float("nan")}, "margin=nan"),
        ("preprocessing", {"crop_size": 10**9}, "crop_size=1000000000 must be a number from 8 to 4096"),
        ("preprocessing", {"num_frames": "all"}, "num_frames='all'"),
        ("preprocessing", {"jpeg_quality": 0}, "jpeg_quality=0"),
        ("preprocessing", {"detector_options": {"weights": "/etc/passwd"}}, r"detector_options\.weights='/etc/passwd'"),
        ("preprocessing", {"detector_options": [1]}, "detector_options"),
        ("preprocessing", {"run": "rm"}, "TypeError"),
        ("input", {"size": 10**7}, "input size=10000000"),
        ("input", {"mean": [1]}, "ValueError"),
        ("decision", {"aggregation": "worst"}, "aggregation 'worst'"),
    ],
)
def test_an_invalid_spec_is_refused(bundle: Path, part: str, values: dict[str, object], words: str) -> None:
    spec = json.loads((bundle / "spec.json").read_text())
    _change(bundle, **{part: spec[part] | values})
    with pytest.raises(BundleError, match=rf"spec\.json'.*{words}"):
        Predictor.load(bundle)


def test_a_network_whose_input_contradicts_its_spec_is_refused(bundle: Path) -> None:
    spec = json.loads((bundle / "spec.json").read_text())
    _change(bundle, input=spec["input"] | {"size": 128})
    with pytest.raises(BundleError, match=r"takes tensor\(uint8\) of shape \['N', 3, 64, 64\], but its spec says"):
        Predictor.load(bundle)


def test_an_option_that_the_detector_does_not_have_is_named(bundle: Path, spec: CropSpec) -> None:
    _change(bundle, preprocessing=replace(spec, detector_options={"eyes": 2}).to_dict())
    with pytest.raises(SpecMismatchError, match=r"'retinaface_mobilenet'.*does not accept the options \{'eyes': 2\}"):
        Predictor.load(bundle)


def test_an_invalid_detector_value_is_named(bundle: Path, spec: CropSpec) -> None:
    _change(bundle, preprocessing=replace(spec, detector_options={"confidence": 2}).to_dict())
    with pytest.raises(SpecMismatchError, match=r"confidence=2 must be a number from 0 to"):
        Predictor.load(bundle)


def test_a_network_that_gives_no_number_has_no_verdict(
    make_checkpoint: Callable[..., Path], whole_image_spec: CropSpec
) -> None:
    predictor = Predictor.load(make_checkpoint(whole_image_spec, gain=float("nan")), device="cpu")
    with pytest.raises(CheckpointError, match="weights are damaged"):
        predictor.predict_image(np.zeros((40, 40, 3), np.uint8))


def test_an_address_without_mlflow_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"'runs:/0123' .*unmask\.fetch_model\('runs:/0123'\)"):
        Predictor.load("runs:/0123")
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    with pytest.raises(CheckpointError, match=r"'runs:/0123' .*mlflow\S* is not installed"):
        unmask.fetch_model("runs:/0123")


def test_a_detector_that_needs_torch_says_so_where_there_is_none(
    bundle: Path, spec: CropSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(bundle, preprocessing=replace(spec, detector="retinaface").to_dict())
    monkeypatch.setattr("unmask.faces.retinaface_resnet50.find_spec", lambda name: None)
    with pytest.raises(DetectorError, match=r"retinaface needs PyTorch.*detector=retinaface_mobilenet"):
        Predictor.load(bundle)


def test_any_file_of_the_bundle_names_it(bundle: Path) -> None:
    assert load_bundle(bundle / "model.onnx") == load_bundle(bundle)
    assert load_bundle(bundle / "spec.json") == load_bundle(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "spec.json"])
def test_a_bundle_without_a_part_names_it(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"bundle'.*'{name}'"):
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
    with pytest.raises(BundleError, match=r"model\.onnx'.*Copy the bundle again"):
        Predictor.load(bundle)


def test_a_network_of_something_else_is_refused(bundle: Path) -> None:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", value[:1], value[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(bundle / "model.onnx"))
    _change(bundle, model_sha256=hash_file(bundle / "model.onnx"))
    with pytest.raises(BundleError, match=r"its outputs are y"):
        Predictor.load(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"spec\.json'.*JSON"),
        ("[]", "format None.*format 1"),
        ('{"format": 99}', "format 99.*format 1"),
        ('{"format": 1}', "format 1: KeyError 'network'"),
    ],
)
def test_a_spec_that_is_none_is_refused(bundle: Path, text: str, message: str) -> None:
    (bundle / "spec.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        Predictor.load(bundle)


def test_a_decision_out_of_range_is_refused(bundle: Path) -> None:
    _change(bundle, decision={"threshold": 7})
    with pytest.raises(BundleError, match=r"spec\.json.*threshold=7"):
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


def test_nothing_is_reported_to_the_makers_of_onnx_runtime(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    code = "import sys, unmask; unmask.Predictor.load(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(bundle)], env=environment | {"HOME": str(home)}, check=True, timeout=60
    )
    assert not [path for path in home.rglob("*") if "onnxruntime" in path.name]  # it keeps a number for the machine


def test_an_absent_checkpoint_is_told_before_torch_is_imported() -> None:
    code = (
        "import sys, unmask\n"
        "try: unmask.Predictor.load('gone.ckpt')\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "CheckpointError False"


def _change(bundle: Path, **values: object) -> None:
    spec = json.loads((bundle / "spec.json").read_text())
    (bundle / "spec.json").write_text(json.dumps(spec | values))
