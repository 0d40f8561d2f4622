import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import compose_config

import unmask
from unmask.errors import CheckpointError
from unmask.tracking import addresses


def test_path_is_returned_unchanged() -> None:
    assert addresses.fetch_model("~/first/bundle") == Path.home() / "first" / "bundle"
    assert addresses.fetch_model("outputs/first/best.ckpt") == Path("outputs/first/best.ckpt")


@pytest.mark.parametrize("name", ["runs:/abc", "models:/faces@best"])
def test_address_is_resolved_in_the_store_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    asked: list[tuple[str, Any]] = []

    def fetch(name: str, **options: Any) -> Path:
        asked.append((name, options["uri"]))
        return tmp_path

    monkeypatch.setattr(addresses, "_fetch", fetch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert unmask.fetch_model(name) == tmp_path
    assert asked == [(name, "http://127.0.0.1:9")]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("runs:/{run_id}", "best"),
        ("runs:/{run_id}/checkpoints/last.ckpt", "last"),
        ("models:/faces@best", "best"),
        ("models:/faces/1", "best"),
    ],
)
def test_address_resolves_to_its_checkpoint(result: dict[str, Any], tmp_path: Path, address: str, name: str) -> None:
    path = addresses.fetch_checkpoint(address.format(**result), uri=result["tracking_uri"], folder=tmp_path)
    assert path.samefile(result[f"{name}_checkpoint"]), "must not be a copy"


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("runs:/{run_id}", {"model.onnx", "spec.json"}),
        ("runs:/{run_id}/bundle", {"model.onnx", "spec.json"}),
        ("models:/faces@best", {"model.onnx", "spec.json"}),
        ("runs:/{run_id}/checkpoints/last.ckpt", None),
    ],
)
def test_prediction_uses_the_bundle_of_a_run(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch, address: str, names: set[str] | None
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", result["tracking_uri"])
    path = addresses.fetch_model(address.format(**result))
    assert (None if path.is_file() else {file.name for file in path.iterdir()}) == names
    predictor = unmask.Predictor.load(path, device="cpu")
    assert predictor.backend.name == ("torch" if names is None else "onnx")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("runs:/0123", r"'runs:/0123'.*'sqlite:.*0123.*MLFLOW_TRACKING_URI"),
        ("models:/faces@worst", r"'models:/faces@worst'.*'sqlite:.*MLFLOW_TRACKING_URI"),
        ("models:/faces", r"'models:/faces'.*runs:/<run id>.*models:/<name>@<alias>"),
    ],
)
def test_invalid_address_is_named_with_the_fix(
    result: dict[str, Any], tmp_path: Path, address: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        addresses.fetch_checkpoint(address, uri=result["tracking_uri"], folder=tmp_path)


def test_address_without_a_store_creates_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'runs:/0123'.*'sqlite:.*MLFLOW_TRACKING_URI"):
        addresses.fetch_checkpoint("runs:/0123", uri=f"sqlite:///{tmp_path}/mlflow.db", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_evaluation_accepts_an_address(
    result: dict[str, Any], workplace: Path, face_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.cli.evaluate import main

    monkeypatch.chdir(workplace)
    arguments = ["checkpoint=models:/faces@best", f"dataset.root={face_dataset}", "device=cpu"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    main()
    (path,) = workplace.glob("outputs/evaluate/*/result.json")
    assert json.loads(path.read_text())["datasets"]["synthetic"]["video"]["num"] > 0


def test_resuming_an_address_uses_the_store_of_the_logger(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmask.cli.checkpoints import restore_resumed

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    address = f"resume=runs:/{result['run_id']}/checkpoints/last.ckpt"
    cfg = compose_config("train", address, f"paths.root={tmp_path}", f"logger.tracking_uri={result['tracking_uri']}")
    restored, _ = restore_resumed(cfg, [], folder=tmp_path)
    assert Path(restored.resume).read_bytes() == Path(result["last_checkpoint"]).read_bytes()
