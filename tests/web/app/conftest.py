"""A bundle that takes every image for a face, so that tests need no photographs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import streamlit as st
import torch
from tests.conftest import make_once
from tests.networks import make_network

from unmask.decision import Decision
from unmask.faces.spec import CropSpec
from unmask.media.encode import write_video
from unmask.models.bundle import write_bundle
from unmask.models.checkpoint import load_checkpoint, make_entry
from unmask.types import Image


def save_checkpoint(
    path: Path, *, seed: int = 0, num_frames: int = 6, decision: Decision, provenance: dict[str, object]
) -> Path:
    torch.manual_seed(seed)
    network = make_network(name="tiny", input_size=32)
    with torch.no_grad():
        network.head.weight *= 20  # an untrained head says 0.5 of everything
    entry = make_entry(
        network_config=network.config,
        crop_spec=CropSpec("none", num_frames=num_frames, crop_size=64),
        decision=decision,
        provenance=provenance,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 0, "unmask": entry}, path)
    return path


@pytest.fixture(scope="session")
def app_bundle(shared_folder: Path) -> Path:
    """A bundle of an untrained network, calibrated, with threshold 0."""

    def make(folder: Path) -> None:
        decision = Decision(threshold=0.0, criterion="balanced_accuracy", calibration=(1.0, 0.0))
        trained_on = [{"name": "celebs", "forgeries": "external"}]
        provenance = {"dataset": "celebs", "trained_on": trained_on, "run_id": "run-1", "seed": 3}
        path = save_checkpoint(folder / "checkpoints" / "best.ckpt", decision=decision, provenance=provenance)
        write_bundle(load_checkpoint(path), folder / "bundle")

    return make_once(shared_folder, "app-bundle", make) / "bundle"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `UNMASK_HOME`; nothing is cached from other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNMASK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("UNMASK_CHECKPOINT", raising=False)
    monkeypatch.setattr("sys.argv", ["main.py"])
    st.cache_resource.clear()
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def paint(seed: int, *, width: int = 96, height: int = 64) -> Image:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def make_png() -> Callable[[int], bytes]:
    return lambda seed: cv2.imencode(".png", paint(seed))[1].tobytes()


@pytest.fixture(scope="session")
def clip_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, [paint(number // 4) for number in range(24)], fps=8)
    return path.read_bytes()


@pytest.fixture
def bundle(home: Path, app_bundle: Path) -> Path:
    return Path(shutil.copytree(app_bundle, home / "outputs/train/first/bundle"))
