from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.networks import make_network

from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS, write_dataset
from unmask.decision import Decision
from unmask.faces.spec import CropSpec
from unmask.media.image import write_jpeg
from unmask.models.checkpoint import make_entry

METHODS = ("original", "Deepfakes", "FaceSwap")
NUM_VIDEOS, NUM_FRAMES = 4, 3


@pytest.fixture
def crop_spec() -> CropSpec:
    return CropSpec("haar", crop_size=32, num_frames=NUM_FRAMES)


@pytest.fixture
def make_dataset(tmp_path: Path, crop_spec: CropSpec) -> Callable[..., Path]:
    """Write tables and crops, dark for reals and bright for fakes; the last video of each method has no face."""

    def make(*, name: str = "drawn", methods: tuple[str, ...] = METHODS, kind: str = "video") -> Path:
        root, rng = tmp_path / "faces <b>", np.random.default_rng(0)
        videos, faces = [], []
        for method in methods:
            label = int(method != "original")
            for number in range(NUM_VIDEOS):
                video = dict.fromkeys(VIDEO_COLUMNS) | {
                    "video_id": f"{name}/{method}/c23/{number:03d}", "path": f"{number}.mp4", "kind": kind,
                    "label": label, "method": method, "split": "test", "group": number, "identities": [str(number)],
                    "outcome": "ok" if number < NUM_VIDEOS - 1 else "no_face",
                }  # fmt: skip
                videos.append(video)
                for frame in range(NUM_FRAMES if video["outcome"] == "ok" else 0):
                    crop = f"crops/{video['video_id']}/{frame}_0.jpg"
                    image = rng.normal(60 + 120 * label, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                    write_jpeg(root / crop, image, quality=95)
                    faces.append(
                        dict.fromkeys(FACE_COLUMNS)
                        | {"crop": crop, "video_id": video["video_id"], "frame_index": frame, "track": 0}
                        | {"label": label, "method": method, "split": "test"}
                    )
        info = {"name": name, "preprocessing": crop_spec.to_dict()}
        tables = pd.DataFrame(videos, columns=list(VIDEO_COLUMNS)), pd.DataFrame(faces, columns=list(FACE_COLUMNS))
        write_dataset(root, info=info, videos=tables[0], faces=tables[1])
        return root

    return make


@pytest.fixture
def make_checkpoint(tmp_path: Path, crop_spec: CropSpec) -> Callable[..., Path]:
    """Write a checkpoint whose network gives bright crops a high score."""

    def make(*, decision: Decision | None = None, **spec: object) -> Path:
        torch.manual_seed(0)
        network = make_network(name="tiny", input_size=32).eval()
        levels = torch.arange(0, 256, 15, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 32, 32)
        with torch.no_grad():
            network.head.weight *= 20
            logits = network(levels)
            sign = torch.sign(logits[-1] - logits[0])
            network.head.weight *= sign
            network.head.bias.fill_(-(sign * (logits - network.head.bias)).mean())
        entry = make_entry(
            network_config=network.config,
            crop_spec=replace(crop_spec, **spec),  # type: ignore[arg-type]
            decision=decision or Decision(threshold=0.5, criterion="balanced_accuracy"),
            provenance={"commit": "abc123"},
        )
        state = {f"network.{key}": value for key, value in network.state_dict().items()}
        path = tmp_path / "best.ckpt"
        torch.save({"state_dict": state, "epoch": 0, "unmask": entry}, path)
        return path

    return make
