"""What a checkpoint or bundle names is called only where it is known, or its package is trusted."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import train_tiny
from tests.networks import make_network

from unmask.decision import Decision
from unmask.errors import ConfigError, UnmaskError, UntrustedError
from unmask.faces.spec import CropSpec
from unmask.inference.predictor import Predictor, PredictorSettings
from unmask.media.image import write_jpeg
from unmask.models.bundle import write_bundle
from unmask.models.checkpoint import load_checkpoint, make_entry
from unmask.trust import build_from_file, list_untrusted, read_trusted

Node = dict[str, Any]

CALLS: dict[str, Node] = {
    "os.system": {"_target_": "os.system", "command": "touch canary"},
    "eval": {"_target_": "builtins.eval", "_args_": ["open('canary', 'w')"]},
    "torch.hub.load": {"_target_": "torch.hub.load", "repo_or_dir": "hub", "model": "net", "source": "local"},
    "nested": {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.system", "command": "touch canary"}]},
    "deeply nested": {
        "_target_": "torch.nn.Linear",
        "in_features": {"a": [{"b": {"_target_": "pathlib.Path.touch", "_args_": ["canary"]}}]},
    },
    "not recursive": {
        "_target_": "torch.nn.Identity", "_recursive_": False,
        "x": {"_target_": "os.system", "command": "touch canary"},
    },
}  # fmt: skip

NAMES = [
    "os.system", "posix.system", "subprocess.run", "builtins.exec", "importlib.import_module", "runpy.run_path",
    "torch.load", "torch.hub.load", "torch.utils.cpp_extension.load", "torch.jit.load", "torch.serialization.load",
    "torch.nn.functional.relu", "torch.nn.functional.torch.hub.load", "torch.nn.modules.module.torch.hub.load",
    "torch.nn.Module.load_state_dict", "torch.nn.Module.apply", "torch.nn.init.torch.hub.load", "torch.nn.Parameter",
    "torch.nn.utils.parametrize.register_parametrization", "torch.nn.parallel.DistributedDataParallel",
    "torch.nn.DataParallel", "torch.nn.modules.module.OrderedDict", "torch.nn.modules.container.Linear",
    "torch.nn.modules.linear.Sequential", "torch.nn", "torch.nn.", "torch.nn.modules",
    "torchvision.models.get_model", "torchvision.models.get_weight",
    "torchvision.models.resnet.load_state_dict_from_url",
    "torchvision.models.resnet.ResNet", "torchvision.models.densenet.resnet18", "torchvision.models.list_models",
    "torchvision.models._api.get_model", "torchvision.models.detection.fasterrcnn_resnet50_fpn",
    "torchvision.io.read_file", "timm.models.load_checkpoint", "timm.models.create_model.__globals__",
    "timm.create_model.x",
    "timm.models.load_custom_pretrained", "timm.data.create_dataset", "hydra.utils.instantiate", "hydra.utils.call",
    "unmask.paths.os.system", "unmask.paths.hash_file", "unmask.models.backbones.torch.hub.load",
    "unmask.models.backbones.read_weights", "unmask.models.backbones.PooledNetwork", "unmask.trust.build_from_file",
    "unmask.trust.importlib.import_module", "unmask.faces.haar.cv2.imwrite", "unmask.models.network.FaceNetwork",
    "mylab.nets.Small", "mylab", "", ".", "os..system", "os.system ", " os.system", "os.system\n",
    "os/system", "__main__.x",
    "torch.nn.Linear\n", "torch.nn.Linear.torch.hub.load", "torch.nn.Línear",
]  # fmt: skip


@pytest.fixture
def canary(in_folder: Path) -> Iterator[Path]:
    """A file that a call out of a file would create; the test fails where it is there in the end."""
    (in_folder / "hub").mkdir()
    (in_folder / "hub" / "hubconf.py").write_text("open('canary', 'w')\ndef net(): pass\n")
    yield in_folder / "canary"
    assert not (in_folder / "canary").exists()


def save(path: Path, *, network: Node | None = None, spec: CropSpec | None = None) -> Path:
    """Write a checkpoint whose network or detector is that of a stranger."""
    built = make_network(name="tiny", input_size=32)
    entry = make_entry(
        network_config=built.config,
        crop_spec=spec or CropSpec("none", num_frames=2),
        decision=Decision(),
        provenance={"dataset": "faces"},
    )
    if network is not None:
        own = {key: built.config[key] for key in ("input_size", "mean", "std")}
        entry["network"] = {**own, **network}
    state = {f"network.{key}": value for key, value in built.state_dict().items()}
    loops = {"fit_loop": {"epoch_progress": {"current": {"started": 1, "processed": 1}},
             "epoch_loop.batch_progress": {"current": {"processed": 0}}}}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "loops": loops, "optimizer_states": [], "unmask": entry}, path)
    return path


def strange_spec(call: Node) -> CropSpec:
    """Return a spec whose detector is a call."""
    options = {key: value for key, value in call.items() if key != "_target_"}
    return CropSpec(call["_target_"], detector_options=options)


def strange_bundle(folder: Path, call: Node) -> Path:
    """Write a bundle whose detector and network are a call."""
    bundle = write_bundle(load_checkpoint(save(folder / "good.ckpt")), folder / "bundle")
    spec = json.loads((bundle / "spec.json").read_text())
    options = {key: value for key, value in call.items() if key != "_target_"}
    spec["preprocessing"] |= {"detector": call["_target_"], "detector_options": options}
    spec["network_config"] = call
    (bundle / "spec.json").write_text(json.dumps(spec))
    return bundle


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_meant_for_it_are_refused_with_the_file_and_the_setting(name: str) -> None:
    with pytest.raises(UntrustedError) as caught:
        build_from_file({"_target_": name}, file="strange.ckpt")
    assert "'strange.ckpt'" in str(caught.value)
    assert "trusted_modules=[" in str(caught.value)


@pytest.mark.parametrize("case", CALLS)
def test_nothing_is_called_by_python(case: str, canary: Path) -> None:
    with pytest.raises(UntrustedError):
        build_from_file(CALLS[case], file="strange.ckpt")
    for path in (
        save(canary.with_name("network.ckpt"), network=CALLS[case]),
        save(canary.with_name("detector.ckpt"), spec=strange_spec(CALLS[case])),
        strange_bundle(canary.parent / "given", CALLS[case]),
    ):
        with pytest.raises(UntrustedError, match=path.name):
            Predictor.load(path, device="cpu")


@pytest.mark.parametrize("case", CALLS)
def test_nothing_is_called_by_the_app_or_the_service(case: str, canary: Path) -> None:
    from unmask.web.api.jobs import open_predictor
    from unmask.web.api.settings import ModelSettings
    from unmask.web.app.models import ModelFile, Settings, load_model

    bundle = strange_bundle(canary.parent / "given", CALLS[case])
    for path in (save(canary.with_name("network.ckpt"), network=CALLS[case]), bundle):
        with pytest.raises(UntrustedError):
            open_predictor(ModelSettings(str(path), PredictorSettings()))
        settings = Settings(folders=(), predictor=PredictorSettings(), image_bytes=1)
        with pytest.raises(UntrustedError):
            load_model(ModelFile(str(path), path.name, 0.0), settings)


@pytest.fixture
def command(in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process, and return what it says when it refuses."""

    def run(name: str, *arguments: str) -> str:
        from importlib import import_module

        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            import_module(f"unmask.cli.{name}").main()
        assert stop.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("case", ["os.system", "nested", "torch.hub.load"])
def test_nothing_is_called_by_a_command(
    case: str, canary: Path, command: Callable[..., str], face_dataset: Path
) -> None:
    write_jpeg(canary.with_name("a.jpg"), np.zeros((40, 40, 3), np.uint8), quality=90)
    network = save(canary.with_name("network.ckpt"), network=CALLS[case])
    bundle = strange_bundle(canary.parent / "given", CALLS[case])
    for path in (network, bundle):
        assert "trusted_modules=[" in command("predict", f"checkpoint={path}", "device=cpu", "a.jpg")
        assert "trusted_modules=[" in command("serve", f"checkpoint={path}", "device=cpu", "port=0")
    told = command(
        "evaluate", f"checkpoint={network}", f"dataset.root={face_dataset}", "device=cpu", "allow_spec_mismatch=true"
    )
    assert "trusted_modules=[" in told


@pytest.mark.parametrize("case", CALLS)
def test_nothing_is_called_by_a_training_that_resumes(case: str, canary: Path, face_dataset: Path) -> None:
    last = save(canary.parent / "run" / "checkpoints" / "last.ckpt", network=CALLS[case])
    with pytest.raises(UnmaskError, match="another network"):
        train_tiny(face_dataset, canary.parent / "out", f"resume={last}")


def test_what_is_known_is_built_and_weights_are_never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("downloads"))
    built = build_from_file(
        {
            "_target_": "torch.nn.Sequential",
            "_args_": [
                {"_target_": "torch.nn.Linear", "in_features": 4, "out_features": 2},
                {"_target_": "torch.nn.modules.activation.ReLU"},
            ],
        },
        file="a.ckpt",
    )
    assert built(torch.zeros(3, 4)).shape == (3, 2)
    norm = {"_target_": "torch.nn.BatchNorm2d", "_partial_": True, "eps": 0.5}
    resnet = {"_target_": "torchvision.models.resnet18", "num_classes": 1, "weights": "DEFAULT", "norm_layer": norm}
    assert build_from_file(resnet, file="a.ckpt").bn1.eps == 0.5
    options = {"pretrained": True, "checkpoint_path": "/etc/passwd", "pretrained_cfg": {"url": "http://x"}}
    network = build_from_file(
        {"_target_": "timm.create_model", "model_name": "resnet10t", "num_classes": 1, **options}, file="a.ckpt"
    )
    assert network.num_classes == 1


@pytest.mark.parametrize(
    "name", ["hf-hub:evil/net", "hf_hub:evil/net", "local-dir:/tmp/net", "https://x.y/net.pth", "../net", 3, None]
)
def test_timm_is_asked_only_for_names_of_its_own(name: object) -> None:
    with pytest.raises((ConfigError, UntrustedError)):
        build_from_file({"_target_": "timm.create_model", "model_name": name}, file="a.ckpt")


@pytest.mark.parametrize("target", ["torchvision.models.resnet18", "timm.create_model"])
def test_builders_take_no_positional_arguments_by_which_they_would_load_weights(target: str) -> None:
    with pytest.raises(TypeError):
        build_from_file({"_target_": target, "_args_": ["resnet18", True]}, file="a.ckpt")


@pytest.mark.parametrize("value", [3, ["os.system"], {"x": 1}, None])
def test_a_target_that_is_not_a_name_is_refused(value: object) -> None:
    with pytest.raises(UntrustedError, match=r"a\.ckpt"):
        build_from_file({"_target_": value}, file="a.ckpt")


def test_values_nested_without_end_and_unknown_keys_are_refused() -> None:
    node: Any = {}
    for _ in range(100):
        node = {"x": node}
    with pytest.raises(UntrustedError, match="deep"):
        build_from_file({"_target_": "torch.nn.Identity", "x": node}, file="a.ckpt")
    with pytest.raises(UntrustedError, match="_wrap_"):
        build_from_file({"_target_": "torch.nn.Identity", "_wrap_": "os.system"}, file="a.ckpt")


LAB = """
import os
from os import system
from torch import hub, nn
from torch.nn import Linear
load = hub.load

class Small(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer, self.classifier = nn.Conv2d(3, width, 3, stride=4), nn.Linear(width, 2)
    def forward(self, images):
        return self.classifier(self.layer(images).mean((2, 3)))

class Middle:
    def __init__(self, share=0.5):
        self.share = share
    def detect(self, images):
        from unmask.types import Face
        return [[Face((8.0, 8.0, 32.0, 32.0), None, self.share)] for _ in images]
"""


@pytest.fixture
def lab(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (in_folder / "somelab").mkdir()
    (in_folder / "somelab" / "__init__.py").write_text("")
    (in_folder / "somelab" / "parts.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(in_folder))
    for name in ("somelab", "somelab.parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "somelab"


def test_a_package_of_ones_own_is_imported_only_when_it_is_trusted(lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"_target_": f"{lab}.parts.Middle", "share": 0.25}
    with pytest.raises(UntrustedError, match=rf"trusted_modules=\[{lab}\].*UNMASK_TRUSTED_MODULES={lab}"):
        build_from_file(node, file="a.ckpt")
    assert lab not in sys.modules
    for trusted in ([lab], [f"{lab}.parts"]):
        assert build_from_file(node, file="a.ckpt", trusted_modules=trusted).share == 0.25
    monkeypatch.setenv("UNMASK_TRUSTED_MODULES", f"other, {lab}")
    assert build_from_file(node, file="a.ckpt").share == 0.25


@pytest.mark.parametrize("name", ["system", "os.system", "load", "hub.load", "Linear", "nn.Linear", "Gone", "nn"])
def test_a_trusted_package_is_no_way_to_what_it_imports(lab: str, name: str) -> None:
    with pytest.raises(UntrustedError):
        build_from_file({"_target_": f"{lab}.parts.{name}"}, file="a.ckpt", trusted_modules=[lab])
    with pytest.raises(UntrustedError):
        build_from_file({"_target_": "somelaboratory.x"}, file="a.ckpt", trusted_modules=[lab])


def test_a_trusted_package_that_is_not_installed_says_so() -> None:
    with pytest.raises(UntrustedError, match=r"'nolab\.nets' cannot be imported.*PYTHONPATH"):
        build_from_file({"_target_": "nolab.nets.Net"}, file="a.ckpt", trusted_modules=["nolab"])


def test_trusted_modules_must_be_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_trusted("a, b.c") == read_trusted(["a", "b.c"]) == ("a", "b.c")
    with pytest.raises(ConfigError, match=r"trusted_modules: '\*'"):
        read_trusted(["*"])
    monkeypatch.setenv("UNMASK_TRUSTED_MODULES", "my lab")
    with pytest.raises(ConfigError, match="UNMASK_TRUSTED_MODULES: 'my lab'"):
        read_trusted()


def test_packages_that_a_model_of_ones_own_will_need_are_known() -> None:
    node = {"_target_": "mylab.nets.Net", "norm": {"_target_": "torch.nn.BatchNorm2d", "_partial_": True}}
    assert list_untrusted(node) == ("mylab",)
    assert list_untrusted(make_network(name="tiny").config) == ()


def test_prediction_takes_parts_of_a_trusted_package(lab: str, in_folder: Path, command: Callable[..., str]) -> None:
    from unmask.models.network import build_network

    write_jpeg(in_folder / "a.jpg", np.zeros((40, 40, 3), np.uint8), quality=90)
    node = {"_target_": f"{lab}.parts.Small", "width": 6, "input_size": 32}

    def build(plain: dict[str, Any]) -> Any:
        return build_from_file(plain, file="own", trusted_modules=[lab])

    network = build_network(node, build=build)
    entry = make_entry(
        network_config=network.config,
        crop_spec=CropSpec(f"{lab}.parts.Middle", detector_options={"share": 0.75}, crop_size=32),
        decision=Decision(),
        provenance={},
    )
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 0, "unmask": entry}, in_folder / "own.ckpt")
    assert f"trusted_modules=[{lab}]" in command("predict", "checkpoint=own.ckpt", "device=cpu", "a.jpg")
    predictor = Predictor.load(in_folder / "own.ckpt", device="cpu", trusted_modules=[lab])
    (face,) = predictor.predict_image(in_folder / "a.jpg").frames[0].faces
    assert face.confidence == 0.75
    bundle = write_bundle(load_checkpoint(in_folder / "own.ckpt", trusted_modules=[lab]), in_folder / "bundle")
    exported = Predictor.load(bundle, device="cpu", trusted_modules=[lab])
    assert exported.predict_image(in_folder / "a.jpg").score == pytest.approx(face.score, abs=1e-4)


def test_prediction_by_a_bundle_does_not_import_torch_to_judge_its_names(in_folder: Path) -> None:
    code = (
        "import sys; from unmask.errors import UntrustedError; from unmask.trust import build_from_file\n"
        "try: build_from_file({'_target_': 'os.system'}, file='a')\n"
        "except UntrustedError: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


STRANGE_OVERRIDES = {
    "target": ["loss._target_=os.system"],
    "added": ["+callbacks.x._target_=os.system", "+callbacks.x.command=touch canary"],
    "nested": ["+callbacks.x={_target_: os.system, command: touch canary}"],
    "twice": ["+callbacks.x={_target_: os.system, command: touch canary}", "++callbacks.x={}"],
    "interpolated": [r"run_name=\${oc.env:HOME}"],
    "search path": ["hydra.searchpath=[/somewhere]"],
    "trusted by itself": ["trusted_modules=[os,subprocess]", "loss._target_=subprocess.run", "+loss.args=touch canary"],
}


@pytest.mark.parametrize("case", STRANGE_OVERRIDES)
def test_a_run_folder_of_a_stranger_is_not_resumed_with_what_it_would_call(
    case: str, canary: Path, command: Callable[..., str], face_dataset: Path
) -> None:
    last = save(canary.parent / "given" / "checkpoints" / "last.ckpt")
    (canary.parent / "given" / ".hydra").mkdir()
    past = ["model=tiny", *STRANGE_OVERRIDES[case]]
    (canary.parent / "given" / ".hydra" / "overrides.yaml").write_text(json.dumps(past))
    arguments = [f"resume={last}", f"dataset.root={face_dataset}", "logger=none", "dataset.num_workers=0"]
    told = command("train", *arguments)
    assert "overrides.yaml" in told
    assert "command line" in told or "trusted_modules=[" in told
