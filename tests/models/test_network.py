import math
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from tests.networks import make_network

from unmask.errors import CheckpointError, ConfigError
from unmask.faces.spec import InputSpec
from unmask.models.backbones import find_features, find_resnet, find_timm
from unmask.models.checkpoint import upgrade_network
from unmask.models.heatmaps import GradCam, NetworkWithMap, explain_missing_maps
from unmask.models.network import FaceNetwork, build_network, rebuild_network


def _images(count: int = 3, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "tiny"])
def test_network_returns_one_logit_per_image(name: str) -> None:
    network = make_network(name=name, input_size=64).eval()
    logits = network(_images())
    assert logits.shape == (3,)
    assert len(set(logits.tolist())) == 3
    assert network(_images(1)).shape == (1,)


def test_integers_and_floats_give_the_same_logit() -> None:
    network = make_network(name="tiny").eval()
    assert torch.equal(network(_images()), network(_images().float()))


def test_images_are_normalized_with_mean_and_std_of_the_config() -> None:
    network = make_network(name="tiny", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125)).eval()
    seen: list[torch.Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([0.9 / 0.5, 0.8 / 0.25, 0.7 / 0.125])


def test_input_spec_is_that_of_the_config() -> None:
    network = make_network(name="tiny", input_size=48, mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    assert network.input_spec == InputSpec(size=48, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


def test_dropout_acts_before_the_head_in_training_only() -> None:
    torch.manual_seed(0)
    network = make_network(name="tiny", dropout=0.9)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # what remains random is the dropout
    first, second = network(_images()), network(_images())
    assert not torch.equal(first, second)
    network.eval()
    assert torch.equal(network(_images()), network(_images()))


def test_network_is_rebuilt_from_plain_values() -> None:
    torch.manual_seed(0)
    network = make_network(name="tiny", dropout=0.5, input_size=32).eval()
    again = rebuild_network(network.config, network.state_dict())
    assert not again.training
    assert torch.allclose(network(_images()), again(_images()))
    assert again.config == network.config
    assert not {"mean", "std"} & set(network.state_dict())


@pytest.mark.parametrize("weights", ["imagenet", "/etc/passwd"])
def test_network_is_rebuilt_without_loading_other_weights(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network(name="resnet18", input_size=32)
    monkeypatch.setattr("unmask.models.backbones._download_resnet_weights", lambda *_: pytest.fail("weights are read"))
    again = rebuild_network(network.config | {"weights": weights}, network.state_dict())
    assert torch.equal(again.head.weight, network.head.weight)


def test_unknown_network_lists_the_choices() -> None:
    with pytest.raises(
        ConfigError,
        match=r"model\.name='vgg'.*resnet18, resnet34, resnet50, .*model=timm",
    ):
        make_network(name="vgg")


@pytest.mark.parametrize(
    ("name", "library", "today"),
    [
        ("xception", "timm", "legacy_xception"),
        ("Xception", "timm", "legacy_xception"),
        ("tf_efficientnet_b4_ns", "timm", "tf_efficientnet_b4.ns_jft_in1k"),
        ("EfficientNet-B4", "timm", "efficientnet_b4"),
        ("resnet18.a1_in1k", "timm", "resnet18.a1_in1k"),
        ("ResNet18", "torchvision", "resnet18"),
        ("resnet-18", "torchvision", "resnet18"),
    ],
)
def test_older_names_and_spellings_are_recognized(name: str, library: str, today: str) -> None:
    assert (find_timm if library == "timm" else find_resnet)(name) == today


def test_every_network_renamed_by_timm_is_found_or_reported_as_removed() -> None:
    import timm
    from timm.models import get_deprecated_models

    known = {*timm.list_models(), *timm.list_pretrained()}
    for name, today in get_deprecated_models().items():
        if today not in known:
            with pytest.raises(ConfigError, match=f"'{name}'"):
                find_timm(name)
        else:
            assert find_timm(name) == today


def test_the_name_used_is_logged_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        network = make_network(name="ResNet-18", input_size=64)
        rebuild_network(network.config, network.state_dict())
    assert network.config["name"] == "resnet18"
    (line,) = caplog.messages
    assert "model.name=ResNet-18" in line
    assert "'resnet18'" in line


def test_network_of_timm_requested_from_torchvision_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"model=timm model\.name=legacy_xception$"):
        make_network(name="xception")


def test_weights_are_loaded_from_a_file(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(5)
    state = resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    network = make_network(weights=str(tmp_path / "resnet18.pth"))
    assert torch.equal(network.backbone.conv1.weight, state["conv1.weight"])
    assert torch.equal(network.backbone.layer4[1].bn2.running_var, state["layer4.1.bn2.running_var"])


def test_missing_weights_are_named() -> None:
    with pytest.raises(CheckpointError, match=r"No such file: model\.weights='gone\.pth'.*'imagenet', a file, or null"):
        make_network(weights="gone.pth")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"model\.weights='.*other\.pth'.*resnet18"):
        make_network(weights=str(tmp_path / "other.pth"))
    (tmp_path / "note.pth").write_text("hello")
    with pytest.raises(CheckpointError, match=r"model\.weights='.*note\.pth'"):
        make_network(weights=str(tmp_path / "note.pth"))


def test_failed_download_names_the_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **options: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(CheckpointError) as told:
        make_network(weights="imagenet")
    text = str(told.value)
    assert "'resnet18-f37072fd.pth'" in text
    assert f"'{tmp_path}/checkpoints'" in text
    assert "no route" in text
    assert "model.weights=null" in text


def test_network_of_timm_is_rebuilt_from_plain_values() -> None:
    network = make_network(name="resnet10t", library="timm", input_size=64).eval()
    again = rebuild_network(network.config, network.state_dict())
    assert torch.allclose(network(_images()), again(_images()), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "library", "text"),
    [
        (
            "efficentnet_b4",
            "timm",
            r"model\.name='efficentnet_b4'.*: efficientnet_b4, eff",
        ),
        ("resnet18.a1_in2k", "timm", r"model\.name='resnet18\.a1_in2k'.*resnet18\.a1_in1k"),
    ],
)
def test_unknown_networks_are_named_with_similar_ones(name: str, library: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_network(name=name, library=library)
    with pytest.raises(ConfigError, match=text):
        find_timm(name)


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "coat_lite_tiny"])
def test_networks_without_a_map_keep_their_own_pooling(name: str) -> None:
    network = make_network(name=name, library="timm", input_size=64).eval()
    assert not network.has_map
    assert network(_images()).shape == (3,)
    again = rebuild_network(network.config, network.state_dict())
    assert torch.allclose(network(_images()), again(_images()), atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 8), ("convnext_tiny", 16)])
def test_unsupported_input_size_is_refused(name: str, size: int) -> None:
    text = rf"model\.name='{name}' .* {size} pixels \(model\.input_size\): .*[^.]\. "
    with pytest.raises(ConfigError, match=text):
        find_features(name, size)


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "test_convnext", "resnet18.a1_in1k"])
def test_features_are_counted_without_running_the_network(name: str) -> None:
    assert find_features(name, 64).has_map
    network = make_network(name=name, library="timm", input_size=64).eval()
    assert network(_images()).shape == (3,)


def test_failed_download_of_timm_weights_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model

    def unreachable(name: str, *, pretrained: bool, **options: object) -> torch.nn.Module:
        if pretrained:
            raise OSError("no route")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(CheckpointError, match=r"timm's weights of 'resnet10t' .*no route.*model\.weights=null"):
        make_network(name="resnet10t", library="timm", weights="imagenet")


class Folded(torch.nn.Module):
    """Returns logits of any shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, stride=4), torch.nn.ReLU())
        self.classifier = torch.nn.Linear(5, shape[-1] if shape else 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits.reshape(len(images), *self.shape)


class Unmapped(Folded):
    """Takes the largest of its features, so that no map of them gives the logit."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images).amax((2, 3)))
        return logits


def own(module: Any, **settings: Any) -> FaceNetwork:
    config = {"_target_": "mylab.nets.Net", "input_size": 32, **settings}
    return build_network(config, build=lambda node: module)


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_one_or_two_logits_become_one(shape: tuple[int, ...]) -> None:
    network = own(Folded(shape)).eval()
    images = _images(4, 32)
    raw = network.module(network.normalise(images)).reshape(4, -1)
    expected = raw[:, 0] if raw.shape[1] == 1 else raw[:, 1] - raw[:, 0]
    assert torch.allclose(network(images), expected)
    assert network.name == "Net"


@pytest.mark.parametrize("shape", [(3,), (1, 1), (2, 4)])
def test_logits_of_another_shape_are_refused_and_the_supported_shapes_listed(shape: tuple[int, ...]) -> None:
    module = Folded(shape)
    module.classifier = torch.nn.Linear(5, math.prod(shape))
    with pytest.raises(ConfigError) as caught:
        own(module)
    for named in ("_target_", str((3, *shape)), "(N,), (N, 1) or (N, 2)", "(3, 32, 32)"):
        assert named in str(caught.value)


class Pair(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> Any:
        return {"out": images}


@pytest.mark.parametrize(
    ("module", "named"), [(Pair(), "dict"), (torch.nn.Linear(7, 1), "input_size=32"), (print, "torch.nn.Module")]
)
def test_objects_other_than_image_networks_are_refused(module: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        own(module)


def test_checking_logits_changes_neither_state_nor_random_numbers() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5), Folded((1,)))
    module[0].eval()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    network = own(module)
    assert network.cam_layers == ("2.features", "2.classifier")
    assert torch.equal(torch.rand(2), expected)
    assert int(module[0].num_batches_tracked) == 0
    assert (module.training, module[0].training) == (True, False)


def test_head_is_the_last_linear_layer_or_the_named_submodule() -> None:
    module = Folded((1,))
    assert own(module).head is module.classifier
    network = own(module, head="features.0")
    assert network.head is module.features[0]
    backbone, head = network.split_parameters()
    assert [tuple(each.shape) for each in head] == [(5, 3, 3, 3), (5,)]
    assert [tuple(each.shape) for each in backbone] == [(1, 5), (1,)]
    network.set_backbone_trainable(False)
    assert [each.requires_grad for each in module.parameters()] == [True, True, False, False]
    assert (module.features[0].training, module.classifier.training) == (True, False)
    with pytest.raises(ConfigError, match=r"model\.head=top .*classifier"):
        own(module, head="top")


@pytest.mark.parametrize(
    ("name", "has_map"),
    [("resnet18", True), ("efficientnet_b0", True), ("mobilenet_v3_small", False), ("vit_b_16", False)],
)
def test_class_activation_map_needs_a_linear_head_on_pooled_features(name: str, has_map: bool) -> None:
    import torchvision

    size = {"image_size": 64} if name == "vit_b_16" else {}
    module = torchvision.models.get_model(name, weights=None, num_classes=2, **size)
    network = own(module, input_size=64).eval()
    assert network.has_map == has_map
    if not has_map:
        assert "model.heatmap_layer" in str(explain_missing_maps(network))
        return
    assert explain_missing_maps(network) is None
    images = _images(2)
    logits, maps = NetworkWithMap(network)(images)
    assert torch.allclose(logits, network(images), atol=1e-4)
    bias = network.head.bias[1] - network.head.bias[0]
    assert torch.allclose(maps.mean((1, 2)) + bias, logits, atol=1e-4)


def test_named_layer_gives_grad_cam_maps() -> None:
    torch.manual_seed(1)
    network = own(Unmapped((2,)), heatmap_layer="features.1").eval()
    assert explain_missing_maps(network) is None
    _, maps = GradCam(network).score(_images(2, 32))
    assert maps is not None
    assert maps.shape == (2, 8, 8)
    assert (maps.min(), maps.max()) == (0, pytest.approx(1, abs=1e-3))
    unknown = own(Unmapped((1,)))
    assert "model.heatmap_layer" in str(explain_missing_maps(unknown))
    assert GradCam(unknown).score(_images(2, 32))[1] is None
    with pytest.raises(ConfigError, match=r"model\.heatmap_layer=features\.9 .*features\.1"):
        own(Folded((1,)), heatmap_layer="features.9")


def test_config_is_stored_without_the_initial_weights() -> None:
    network = own(Folded((1,)), weights="imagenet", pretrained=True, width=8)
    assert network.config == {
        "_target_": "mylab.nets.Net", "weights": None, "pretrained": False, "width": 8, "input_size": 32,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip


def test_networks_of_format_1_are_converted() -> None:
    sizes = {"dropout": 0.5, "input_size": 96}
    assert upgrade_network({"name": "tiny", "library": "torchvision", **sizes}) == {
        "_target_": "unmask.models.backbones.build_tiny", "name": "tiny", **sizes,
    }  # fmt: skip
    assert upgrade_network({"_target_": "unmask.models.network.FaceNetwork", "name": "resnet50", **sizes}) == {
        "_target_": "unmask.models.backbones.build_resnet", "name": "resnet50", **sizes,
    }  # fmt: skip
    assert upgrade_network({"name": "test_vit", "library": "timm", **sizes}) == {
        "_target_": "unmask.models.backbones.build_timm", "name": "test_vit", "image_size": 96, **sizes,
    }  # fmt: skip
    assert upgrade_network({"_target_": "mylab.nets.Net"}) == {"_target_": "mylab.nets.Net"}
