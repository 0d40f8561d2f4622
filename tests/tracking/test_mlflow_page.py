import html
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from tests.conftest import REPOSITORY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUICK = (
    "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=3",
    "dataset.samples_per_epoch=32", "trainer.log_every_n_steps=1", "logger.log_model=false",
)  # fmt: skip


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _serve(store: str, port: int) -> Iterator[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1"]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([*command, "--port", str(port), "--workers", "1"], start_new_session=True)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _browse(address: str, path: Path) -> str:
    """Open a page, save a screenshot as `path.png`, and return its text."""
    assert CHROMIUM is not None
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        "--window-size=1600,1600", "--virtual-time-budget=40000",
    ]  # fmt: skip
    for name, what in (("screenshot", f"--screenshot={path}.png"), ("text", "--dump-dom")):
        command = [CHROMIUM, *flags, f"--user-data-dir={path}-{name}", what, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return html.unescape(done.stdout)


def _link_curves(server: str, experiment_id: str, run_ids: list[str], metrics: list[str]) -> str:
    entries = {
        "runs": list(run_ids),
        "metric": metrics[0],
        "experiments": [experiment_id],
        "plot_metric_keys": list(metrics),
        "plot_layout": {"autosize": True, "xaxis": {}, "yaxis": {}},
        "deselected_curves": [],
        "last_linear_y_axis_range": [],
    }
    query = "&".join(f"{key}={quote(json.dumps(value, separators=(',', ':')))}" for key, value in entries.items())
    axes = "x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true"
    return f"{server}/#/metric?{query}&{axes}&workflowType=machine_learning"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_comparison_page_of_a_sweep_shows_params_metrics_and_curves(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sweep = ["-m", f"dataset.root={face_dataset}", "optimizer.lr=1e-3,1e-2", "augmentation=none,light"]
    subprocess.run([sys.executable, str(REPOSITORY / "train.py"), *sweep, *QUICK], check=True)
    store = f"sqlite:///{in_folder}/mlflow.db"
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("unmask").experiment_id
    runs = client.search_runs([experiment], "tags.`sweep.job` != ''", order_by=["start_time ASC"])
    assert len(runs) == 4
    from unmask.tracking.store import link_comparison

    ids = [run.info.run_id for run in runs]
    with _serve(store, _free_port()) as address:
        compared = _browse(link_comparison(address, experiment, ids), in_folder / "comparison")
        curves = _browse(_link_curves(address, experiment, ids, ["val/auroc", "val/loss"]), in_folder / "curves")
    for text in ("Comparing 4 Runs", "optimizer.lr", "augmentation", "best/val/auroc", "Parallel Coordinates"):
        assert text in compared, text
    for text in ("val/auroc vs val/loss", *(run.info.run_name for run in runs)):
        assert text in curves, text
    for name in ("comparison", "curves"):
        image = cv2.imread(str(in_folder / f"{name}.png"))
        assert image.shape[:2] == (1600, 1600)
        assert len(np.unique(image[::4, ::4].reshape(-1, 3), axis=0)) > 100  # an empty page has few colours
