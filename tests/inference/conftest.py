from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.networks import make_network

from unmask.decision import Decision
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.spec import CropSpec
from unmask.media.encode import write_video
from unmask.models.checkpoint import make_entry
from unmask.models.network import FaceNetwork
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.types import Image


def draw_clip(seed: int, *, num_frames: int, size: int = 192) -> list[Image]:
    rng = np.random.default_rng(seed)
    sitter = Sitter(draw_identity(rng), size=size)
    return [head.image for head in film(sitter, animate(rng, num_frames=num_frames, fps=25), rng)]


@pytest.fixture(scope="session")
def clip_maker() -> Callable[..., list[Image]]:
    return draw_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "talking head.mp4"
    write_video(path, draw_clip(1, num_frames=24), fps=25)
    return path


@pytest.fixture(scope="session")
def spec() -> CropSpec:
    detector = RetinaFaceMobileNet()
    return CropSpec(detector.name, detector.weights_sha256, num_frames=6, crop_size=96)


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    def make(
        spec: CropSpec,
        decision: Decision = Decision(),  # noqa: B008 (frozen)
        *,
        input_size: int = 64,
        gain: float = 20.0,
        build: Callable[[], FaceNetwork] | None = None,
    ) -> Path:
        torch.manual_seed(0)
        network = make_network(name="tiny", input_size=input_size) if build is None else build()
        with torch.no_grad():
            network.head.weight *= gain  # an untrained head says 0.5 of everything
        path = tmp_path / "best.ckpt"
        entry = make_entry(network_config=network.config, crop_spec=spec, decision=decision, provenance={"seed": 1})
        state = {f"network.{key}": value for key, value in network.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 0, "unmask": entry}, path)
        return path

    return make


@pytest.fixture
def whole_image_spec(spec: CropSpec) -> CropSpec:
    return replace(spec, detector="none", detector_sha256="")
