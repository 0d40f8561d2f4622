"""Two processes on the CPU through the real command: what they report is what one process reports."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import REPOSITORY

from unmask.data.tables import FaceDataset, write_dataset
from unmask.evaluation.run import Options, evaluate

pytestmark = pytest.mark.slow

SMALL = (
    "dataset.num_workers=0", "dataset.sampling=natural", "precision=fp32", "trainer.accelerator=cpu",
    "trainer.max_epochs=3", "model.dropout=0",
)  # fmt: skip
# Layer normalisation: what a process computes for a crop does not depend on the others of its batch.
CONVNEXT = ("model=timm", "model.name=test_convnext", "model.weights=null", "model.input_size=64")
TWO = ("trainer=ddp", "trainer.devices=2")


@pytest.fixture(scope="module")
def odd_dataset(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The face dataset less a validation crop, so that two processes cannot have as many each."""
    dataset, root = FaceDataset.load(face_dataset), tmp_path_factory.mktemp("odd")
    faces = dataset.faces.drop(index=dataset.faces.index[dataset.faces["split"] == "val"][3]).reset_index(drop=True)
    assert (faces["split"] == "val").sum() % 2 == 1
    faces = faces.assign(crop=[str(face_dataset / crop) for crop in faces["crop"]])
    write_dataset(root, info=dataset.info, videos=dataset.videos, faces=faces)
    return root


@contextmanager
def _started(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    command = ["nice", "-n", "5", sys.executable, str(REPOSITORY / "train.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | dict(variables or {})
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _train(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return `result.json` of the only run folder, and what the command said."""
    folder.mkdir(parents=True, exist_ok=True)
    with _started(folder, *SMALL, *arguments) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (run,) = (folder / "outputs/train").iterdir()
    return json.loads((run / "result.json").read_text()), said


def _weights(result: dict[str, Any]) -> dict[str, torch.Tensor]:
    state = torch.load(result["last_checkpoint"], weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if key.startswith("network.")}


@pytest.mark.parametrize(
    "options",
    [(), ("callbacks.freeze.num_epochs=1", "callbacks.ema.decay=0.9", "optimizer.head_lr_ratio=10")],
    ids=["plain", "frozen and averaged"],
)
def test_two_processes_train_and_report_as_one_with_a_batch_of_both(
    odd_dataset: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    options = (f"dataset.root={odd_dataset}", "logger=none", *CONVNEXT, *options)
    alone, _ = _train(tmp_path / "one", *options, "dataset.batch_size=16")
    both, said = _train(tmp_path / "two", *options, *TWO, "dataset.batch_size=8")
    assert set(alone["metrics"]) == set(both["metrics"])
    assert both["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)
    for key in ("best_epoch", "objective_key"):
        assert both[key] == alone[key]
    assert both["objective"] == pytest.approx(alone["objective"], abs=1e-6)
    assert both["decision"]["threshold"] == pytest.approx(alone["decision"]["threshold"], abs=1e-5)
    first, second = _weights(alone), _weights(both)
    assert max(float((first[key].float() - second[key].float()).abs().max()) for key in first) < 1e-5
    assert said.count("Epoch 3 of 3") == said.count("Checkpoint  ") == 1  # one process speaks for both


def test_metrics_of_two_processes_match_the_checkpoint_in_one(odd_dataset: Path, tmp_path: Path) -> None:
    options = (f"dataset.root={odd_dataset}", "logger=none", "model=tiny", "dataset.batch_size=8", "optimizer.lr=0.01")
    result, _ = _train(tmp_path, *options, *TWO)  # batch normalisation, of which each process has its own statistics
    found = evaluate(
        result["best_checkpoint"], root=odd_dataset, output=tmp_path / "val", options=Options(split="val", device="cpu")
    )
    for kind, prefix in (("frame", "val/"), ("video", "val/video_")):
        for name in ("auroc", "auprc"):
            assert result["metrics"][f"{prefix}{name}"] == pytest.approx(found.figures[kind][name], abs=1e-6)
    frames = found.figures["frame"]["num"]
    assert frames == len(FaceDataset.load(odd_dataset).faces_of("val"))
    assert result["metrics"]["val/loss"] == pytest.approx(_mean_loss(tmp_path / "val"), abs=1e-4)


def _mean_loss(folder: Path) -> float:
    import pandas as pd

    frames = pd.read_parquet(folder / "scores_frames.parquet")
    scores, labels = (torch.tensor(frames[name].to_numpy(), dtype=torch.float32) for name in ("score", "label"))
    return float(torch.nn.functional.binary_cross_entropy(scores, labels))


def test_processes_on_two_machines_make_one_run_in_one_folder(odd_dataset: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    nodes = ("trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_epochs=1", "model=tiny")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    variables = [store | {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} for rank in range(2)]
    arguments = (*SMALL, f"dataset.root={odd_dataset}", *nodes)
    with (
        _started(tmp_path, *arguments, variables=variables[1]) as second,
        _started(tmp_path, *arguments, variables=variables[0]) as first,
    ):
        said = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    (run,) = (tmp_path / "outputs/train").iterdir()
    result = json.loads((run / "result.json").read_text())
    client = MlflowClient(store["MLFLOW_TRACKING_URI"])
    (tracked,) = client.search_runs([client.get_experiment_by_name("unmask").experiment_id])
    assert (tracked.info.run_id, tracked.info.status) == (result["run_id"], "FINISHED")
    assert "Epoch 1 of 1" in said[0]
    assert "Epoch 1 of 1" not in said[1]
