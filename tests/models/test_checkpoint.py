import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import train_tiny
from tests.networks import make_network

from unmask.decision import Decision
from unmask.errors import CheckpointError
from unmask.faces.spec import CropSpec
from unmask.models.checkpoint import load_checkpoint, make_entry
from unmask.models.network import FaceNetwork


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def _content(network: FaceNetwork) -> dict[str, Any]:
    entry = make_entry(
        network_config=network.config,
        crop_spec=CropSpec("haar", crop_size=48),
        decision=Decision(threshold=0.3, aggregation="median", criterion="f1"),
        provenance={"seed": 7},
    )
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    return {"unmask": entry, "state_dict": state | {"other.x": torch.zeros(1)}, "epoch": 4}


@pytest.fixture
def network() -> FaceNetwork:
    torch.manual_seed(0)
    return make_network(name="tiny", input_size=32, mean=(0.1, 0.2, 0.3)).eval()


def _save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_checkpoint_returns_what_was_stored(tmp_path: Path, network: FaceNetwork) -> None:
    found = load_checkpoint(_save(_content(network), tmp_path / "a.ckpt"))
    assert found.crop_spec == CropSpec("haar", crop_size=48)
    assert found.input_spec == network.input_spec
    assert found.decision == Decision(threshold=0.3, aggregation="median", criterion="f1")
    assert (found.class_names, found.provenance, found.epoch) == (("real", "fake"), {"seed": 7}, 5)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(found.build_network()(images), network(images), atol=1e-6)


def test_trained_checkpoint_holds_plain_values_only(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    assert content["unmask"]["provenance"]["dataset"] == "synthetic"
    assert content["unmask"]["preprocessing_hash"] == load_checkpoint(checkpoint).crop_spec.hash
    assert not load_checkpoint(checkpoint).build_network().training


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No such file: checkpoint='.*gone\.ckpt'.*python train\.py"):
        load_checkpoint(tmp_path / "gone.ckpt")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"state_dict": {}, "epoch": 3}, "state_dict, epoch"),
        ({"conv1.weight": torch.zeros(1)}, "conv1.weight"),
        ([1, 2], "list"),
        ({"unmask": {"format": 99}}, "unmask"),
    ],
)
def test_checkpoint_of_another_program_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    with pytest.raises(CheckpointError, match=rf"x\.ckpt'.*'unmask'.*{found}.*train\.py"):
        load_checkpoint(_save(content, tmp_path / "x.ckpt"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, network: FaceNetwork, kind: str) -> None:
    trap = tmp_path / "it-ran"
    content = _content(network) | {"extra": Payload(trap)}
    path = tmp_path / "evil.ckpt"
    if kind == "bare":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match=r"evil\.ckpt' .*could run code.*train\.py"):
        load_checkpoint(path)
    assert not trap.exists()


def test_truncated_checkpoint_is_named(tmp_path: Path, network: FaceNetwork) -> None:
    path = _save(_content(network), tmp_path / "cut.ckpt")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt'.*truncated"):
        load_checkpoint(path)


def test_empty_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"empty\.ckpt'.*0 bytes"):
        load_checkpoint(tmp_path / "empty.ckpt")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "note.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"note\.ckpt' is not a checkpoint"):
        load_checkpoint(tmp_path / "note.ckpt")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(CheckpointError, match=r"photos\.zip'.*checkpoint"):
        load_checkpoint(tmp_path / "photos.zip")


@pytest.mark.parametrize("key", ["network", "preprocessing", "decision", "class_names", "provenance"])
def test_incomplete_entry_names_the_missing_key(tmp_path: Path, network: FaceNetwork, key: str) -> None:
    content = _content(network)
    del content["unmask"][key]
    with pytest.raises(CheckpointError, match=rf"x\.ckpt' .*'{key}'"):
        load_checkpoint(_save(content, tmp_path / "x.ckpt"))


def test_checkpoint_without_weights_names_the_missing_key(tmp_path: Path, network: FaceNetwork) -> None:
    content = _content(network)
    del content["state_dict"]
    with pytest.raises(CheckpointError, match=r"x\.ckpt' .*'state_dict'"):
        load_checkpoint(_save(content, tmp_path / "x.ckpt"))


def test_weights_of_another_network_are_refused(tmp_path: Path, network: FaceNetwork) -> None:
    content = _content(network)
    content["state_dict"]["network.module.head.weight"] = torch.zeros(2, 2)
    found = load_checkpoint(_save(content, tmp_path / "x.ckpt"))
    with pytest.raises(CheckpointError, match=r"weights in '.*x\.ckpt' do not fit its network: (?s:.*)head\.weight"):
        found.build_network()


def downgrade(content: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint of format 1, as it was written before networks had a `_target_`."""
    entry = dict(content["unmask"])
    kept = {key: value for key, value in entry["network"].items() if key not in ("_target_", "weights", "image_size")}
    library = "timm" if entry["network"]["_target_"].endswith("build_timm") else "torchvision"
    entry |= {"format": 1, "network": {"library": library, **kept}}
    state = {key.replace("network.module.", "network."): value for key, value in content["state_dict"].items()}
    return {**content, "unmask": entry, "state_dict": state}


@pytest.mark.parametrize(
    "options", [{"name": "tiny"}, {"name": "resnet18"}, {"name": "test_vit", "library": "timm"}], ids=str
)
def test_checkpoints_of_format_1_are_read(tmp_path: Path, options: dict[str, str]) -> None:
    network = make_network(**options, input_size=32, dropout=0.25).eval()
    old = load_checkpoint(_save(downgrade(_content(network)), tmp_path / "old.ckpt"))
    new = load_checkpoint(_save(_content(network), tmp_path / "new.ckpt"))
    assert old.network == new.network == options["name"]
    assert {**old.network_config, "weights": None} == {**new.network_config, "weights": None}
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(old.build_network()(images), new.build_network()(images))


def test_training_of_format_1_resumes_to_the_same_weights(face_dataset: Path, tmp_path: Path) -> None:
    first = train_tiny(face_dataset, tmp_path / "first", "trainer.max_epochs=1")
    last = Path(str(first["last_checkpoint"]))
    old = tmp_path / "old" / "checkpoints" / "last.ckpt"
    old.parent.mkdir(parents=True)
    _save(downgrade(torch.load(last, weights_only=True)), old)
    states = [
        torch.load(
            str(train_tiny(face_dataset, tmp_path / name, "trainer.max_epochs=2", f"resume={path}")["last_checkpoint"]),
            weights_only=True,
        )["state_dict"]
        for name, path in (("a", last), ("b", old))
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
