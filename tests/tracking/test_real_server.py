"""Train against a real MLflow server, and score with a real model server, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import compose_config

from unmask.tracking.logger import MLflowLogger

pytestmark = pytest.mark.slow

EPOCHS = 6


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """A command that listens on a port."""

    def __init__(self, command: list[str], port: int, *, path: str) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._command, self._path = command, path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, start_new_session=True, stdout=subprocess.DEVNULL)
        for _ in range(240):
            assert self._process.poll() is None, "the server exited"
            try:
                urllib.request.urlopen(f"{self.address}{self._path}", timeout=1)
                return
            except OSError:
                time.sleep(0.5)
        pytest.fail(f"{self._command} does not answer")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)
            self._process.wait(timeout=60)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/far.db", "--artifacts-destination", str(tmp_path / "far")]
    found = Server(command + store, port, path="/health")
    found.start()
    yield found
    found.stop()


@pytest.mark.parametrize("returns", ["after the end", "before the end"])
def test_no_metric_is_lost_when_a_server_dies_during_training(
    server: Server, face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, returns: str
) -> None:
    from mlflow import MlflowClient

    from unmask.cli.train import main
    from unmask.training.callbacks import EpochHistory
    from unmask.training.run import train

    sent: dict[str, list[tuple[int, float]]] = {}
    log, remember = MLflowLogger.log_metrics, EpochHistory.on_train_epoch_end

    def listen(self: MLflowLogger, metrics: Any, step: int | None = None) -> None:
        for key, value in metrics.items():
            if key != "epoch" and np.isfinite(float(value)):
                sent.setdefault(key, []).append((step or 0, float(value)))
        log(self, metrics, step)

    def kill(self: EpochHistory, trainer: Any, module: Any) -> None:
        remember(self, trainer, module)
        if trainer.current_epoch == 1:
            server.stop(signal.SIGKILL)
        if trainer.current_epoch == EPOCHS - 2 and returns == "before the end":
            server.start()
        time.sleep(1.5)  # so that some epochs are sent and others are not

    monkeypatch.setattr(MLflowLogger, "log_metrics", listen)
    monkeypatch.setattr(EpochHistory, "on_train_epoch_end", kill)
    monkeypatch.setattr("unmask.tracking.logger._SECONDS_BETWEEN_BATCHES", 0.5)
    folder = in_folder / "outputs" / "train" / "first"
    folder.mkdir(parents=True)
    cfg = compose_config(
        "train", f"dataset.root={face_dataset}", "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer=cpu",
        f"trainer.max_epochs={EPOCHS}", "dataset.batch_size=8", "dataset.samples_per_epoch=16", "paths.root=.",
        f"logger.tracking_uri={server.address}", "logger.system_metrics_seconds=1", "callbacks.early_stopping=null",
    )  # fmt: skip
    result = train(cfg, folder=folder, overrides=[])
    assert result.run_id is not None
    client = MlflowClient(server.address)
    if returns == "after the end":
        kept = (folder / "unsent" / "messages.jsonl").read_text().splitlines()
        kinds = [json.loads(line)["kind"] for line in kept]
        assert {"metrics", "artifact", "tags", "end"} <= set(kinds)
        server.start()
        assert client.get_run(result.run_id).info.status == "RUNNING"
        monkeypatch.setattr(sys, "argv", ["train.py", "task=send"])
        main()
    assert not (folder / "unsent").exists()
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert len(sent["val/loss"]) == EPOCHS
    for key, points in sent.items():
        stored = sorted((point.step, point.value) for point in client.get_metric_history(result.run_id, key))
        assert [step for step, _ in stored] == [step for step, _ in sorted(points)], key
        assert [value for _, value in stored] == pytest.approx([value for _, value in sorted(points)]), key
    names = {item.path for item in client.list_artifacts(result.run_id)}
    assert {"checkpoints", "bundle", "figures", "model", "config.yaml"} <= names
    best = client.download_artifacts(result.run_id, "checkpoints/best.ckpt", str(in_folder))
    assert Path(best).read_bytes() == Path(result.best_checkpoint).read_bytes()


def test_served_model_returns_our_scores(face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from tests.conftest import train_tiny

    from unmask.models.checkpoint import load_checkpoint

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    programs = str(Path(sys.executable).parent)  # MLflow finds uvicorn on the PATH of an activated environment
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    result = train_tiny(face_dataset, in_folder / "run", "logger=mlflow")
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(in_folder / "run" / "model")]
    serving = Server([*command, "--env-manager", "local", "--host", "127.0.0.1", "-p", str(port)], port, path="/ping")
    serving.start()
    try:
        example = (in_folder / "run" / "model" / "serving_input_example.json").read_bytes()
        images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8)
        network = load_checkpoint(str(result["best_checkpoint"])).build_network()
        grey = np.full((1, 3, 64, 64), 128, np.uint8)
        for body, photos in ((example, grey), (json.dumps({"inputs": {"images": images.tolist()}}).encode(), images)):
            request = urllib.request.Request(
                f"{serving.address}/invocations", body, {"Content-Type": "application/json"}
            )
            answer = json.loads(urllib.request.urlopen(request, timeout=60).read())["predictions"]
            with torch.inference_mode():
                expected = network(torch.from_numpy(photos)).numpy()
            assert answer["logit"] == pytest.approx(expected.tolist(), abs=1e-4)
    finally:
        serving.stop()
