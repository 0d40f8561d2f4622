"""Tiny data that every test may use: drawn once per session, shared by the worker processes of pytest-xdist."""

import json
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from unmask.config import config_dir, register_schemas
from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS, write_dataset
from unmask.faces.spec import CropSpec
from unmask.media.image import write_jpeg

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

REPOSITORY = Path(__file__).parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"


def compose_config(name: str, *overrides: str) -> DictConfig:
    """Compose a command's configuration as its command line would."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose(name, overrides=list(overrides))
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg


@pytest.fixture(autouse=True)
def no_bar_stays() -> Iterator[None]:
    """Fail a test that leaves a progress bar behind, whose threads may wait for each other when it is collected."""
    yield
    for thread in threading.enumerate():
        if type(thread).__module__.partition(".")[0] == "rich":
            thread.join(5)  # one that was told to end may take a moment
            assert not thread.is_alive(), "Close the generator that shows a progress bar, whatever happens under it."


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session that all worker processes see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def make_once(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Let one process make a folder and the others wait for it."""
    path = folder / name
    with FileLock(folder / f"{name}.lock"):
        if not (folder / f"{name}.done").exists():
            make(path)
            (folder / f"{name}.done").touch()
    return path


@pytest.fixture(scope="session")
def synthetic_root(shared_folder: Path) -> Path:
    """Eight drawn people, forged in four ways, in six frames each."""
    from unmask.sources.synthetic import SyntheticFaces

    def make(path: Path) -> None:
        source = SyntheticFaces(path, num_identities=8, num_frames=6, size=128, val_fraction=0.25, test_fraction=0.25)
        source.create(num_workers=0)

    return make_once(shared_folder, "synthetic", make)


@pytest.fixture(scope="session")
def face_dataset(shared_folder: Path, synthetic_root: Path) -> Path:
    """The face dataset of `synthetic_root`: four crops of 64 px a video."""
    from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
    from unmask.faces.spec import CropSpec
    from unmask.preparation.prepare import prepare
    from unmask.sources.ffpp import FaceForensics

    def make(path: Path) -> None:
        detector = RetinaFaceMobileNet()
        spec = CropSpec(detector.name, detector.weights_sha256, crop_size=64, num_frames=4)
        source = FaceForensics(synthetic_root, name="synthetic", splits=synthetic_root / "splits")
        fractions = {"train": 0.7, "val": 0.15, "test": 0.15}
        prepare(source, output=path, detector=detector, spec=spec, fractions=fractions, seed=0, num_workers=0)

    return make_once(shared_folder, "faces", make)


def train_tiny(dataset: Path, folder: Path, *overrides: str) -> dict[str, object]:
    """Train the tiny network in this process as `train.py` would, and return its `result.json`."""
    from unmask.training.run import train

    folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"dataset.root={dataset}", "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.max_epochs=1",
        "trainer.accelerator=cpu", "logger=none", f"paths.root={folder}", *overrides,
    ]  # fmt: skip
    train(compose_config("train", *arguments), folder=folder, overrides=list(overrides))
    result: dict[str, object] = json.loads((folder / "result.json").read_text())
    return result


@pytest.fixture(scope="session")
def checkpoint(shared_folder: Path, face_dataset: Path) -> Path:
    """The best checkpoint of a tiny network, two epochs on `face_dataset`."""
    folder = make_once(
        shared_folder, "training", lambda path: train_tiny(face_dataset, path, "trainer.max_epochs=2") and None
    )
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start the test in an empty folder, and let everything be written below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNMASK_HOME", raising=False)
    return tmp_path


@pytest.fixture
def audio_only(tmp_path: Path) -> Path:
    """A file with a video's name that holds sound alone."""
    import av
    import numpy as np

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture
def huge_png(tmp_path: Path) -> Callable[..., Path]:
    """Writes a PNG whose header promises any size; there are no pixels behind it."""

    def make(width: int, height: int) -> Path:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")
        path = tmp_path / f"{width}x{height}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
        return path

    return make


Rows = dict[str, tuple[int, int]]


@pytest.fixture
def make_faces(tmp_path: Path) -> Callable[..., Path]:
    """Writes a face dataset with so many (real, fake) crops of each split, one video a crop; fakes are brighter."""

    def make(counts: Rows, *, name: str = "faces") -> Path:
        root, videos, faces = tmp_path / name, [], []
        for split, labels in counts.items():
            for label, count in enumerate(labels):
                for number in range(count):
                    method = "FaceSwap" if label else "original"
                    video_id = f"drawn/{method}/c23/{split}{number:03d}"
                    crop = f"crops/{video_id}/000000_0.jpg"
                    write_jpeg(root / crop, np.full((40, 40, 3), 60 + 120 * label, np.uint8), quality=95)
                    common = {"video_id": video_id, "label": label, "method": method, "split": split}
                    videos.append(
                        dict.fromkeys(VIDEO_COLUMNS)
                        | common
                        | {"kind": "video", "group": len(videos), "identities": [f"{split}{label}{number}"]}
                        | {"path": f"{number}.mp4", "outcome": "ok"}
                    )
                    faces.append(dict.fromkeys(FACE_COLUMNS) | common | {"crop": crop, "frame_index": 0, "track": 0})
        spec = CropSpec("haar", crop_size=40, num_frames=1)
        write_dataset(
            root,
            info={"name": "drawn", "preprocessing": spec.to_dict()},
            videos=pd.DataFrame(videos, columns=list(VIDEO_COLUMNS)),
            faces=pd.DataFrame(faces, columns=list(FACE_COLUMNS)),
        )
        return root

    return make
