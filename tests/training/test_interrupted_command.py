"""The command itself, ended by real signals; each test starts several processes."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

OPTIONS = (
    "model=tiny", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=2", "dataset.batch_size=4",
    "dataset.samples_per_epoch=600", "dataset.num_workers=1", "deterministic=true",
)  # fmt: skip
FIRST_EPOCH = "Epoch 1 of 2"


def _start(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), *arguments],
        env={**os.environ, "UNMASK_HOME": str(home)}, cwd=home, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def _wait_for_first_epoch(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if FIRST_EPOCH in line:
            time.sleep(0.3)  # well within the second epoch
            return
    raise AssertionError("the training ended before its first epoch was over")


def _finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=400)
    return process.returncode, output


def _runs(home: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return list(runs)


def _weights(home: Path) -> dict[str, torch.Tensor]:
    newest = max(home.rglob("checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    weights: dict[str, torch.Tensor] = torch.load(newest, weights_only=True)["state_dict"]
    return weights


@pytest.fixture(scope="module")
def whole(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of a training that nothing interrupts."""
    home = tmp_path_factory.mktemp("whole")
    code, output = _finish(_start(home, f"dataset.root={face_dataset}", *OPTIONS, "logger=none"))
    assert code == 0, output
    return _weights(home)


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGTERM, 143, "KILLED"), (signal.SIGINT, 130, "KILLED"), (signal.SIGKILL, -9, "RUNNING")],
)
def test_resume_last_reaches_the_same_weights_in_the_same_run(
    face_dataset: Path, tmp_path: Path, whole: dict[str, torch.Tensor], number: int, code: int, status: str
) -> None:
    own = ["hydra.run.dir=my own runs"] if number == signal.SIGINT else []
    process = _start(tmp_path, f"dataset.root={face_dataset}", *OPTIONS, *own)
    _wait_for_first_epoch(process)
    process.send_signal(number)
    ended, output = _finish(process)
    assert ended == code, output
    resume = ["resume=last"]
    if number != signal.SIGKILL:
        (advice,) = re.findall("Continue with: (.*)", output)
        _, script, *resume = shlex.split(advice)
        assert script == "train.py"
        assert str(tmp_path) in resume[0]
    (run,) = _runs(tmp_path)
    assert run.info.status == status

    ended, output = _finish(_start(tmp_path, *resume))
    assert ended == 0, output
    (resumed,) = _runs(tmp_path)
    assert (resumed.info.run_id, resumed.info.status) == (run.info.run_id, "FINISHED")
    weights = _weights(tmp_path)
    assert all(torch.equal(whole[name], weights[name]) for name in whole)


def test_second_resume_knows_the_configuration_of_the_first_session(face_dataset: Path, tmp_path: Path) -> None:
    first = ("dataset.samples_per_epoch=16", "logger=none", "trainer.max_epochs=1")
    assert _finish(_start(tmp_path, f"dataset.root={face_dataset}", *OPTIONS, *first))[0] == 0
    for epochs in (2, 3):
        code, output = _finish(_start(tmp_path, "resume=last", f"trainer.max_epochs={epochs}"))
        assert code == 0, output
        assert f"Epoch {epochs} of {epochs}" in output


def test_terminated_sweep_closes_its_runs(face_dataset: Path, tmp_path: Path) -> None:
    process = _start(tmp_path, "-m", f"dataset.root={face_dataset}", *OPTIONS, "seed=0,1")
    _wait_for_first_epoch(process)
    process.send_signal(signal.SIGTERM)
    code, output = _finish(process)
    assert code == 143, output
    assert sorted(run.info.status for run in _runs(tmp_path)) == ["KILLED", "KILLED"]  # the sweep and its first job


def test_two_processes_stop_at_the_same_step(face_dataset: Path, tmp_path: Path) -> None:
    process = _start(tmp_path, f"dataset.root={face_dataset}", *OPTIONS, "trainer.strategy=ddp", "trainer.devices=2")
    _wait_for_first_epoch(process)
    os.killpg(process.pid, signal.SIGTERM)  # as a scheduler does: to all of them, those that decode included
    code, output = _finish(process)
    assert code == 143, output
    (run,) = _runs(tmp_path)
    assert run.info.status == "KILLED"
    code, output = _finish(_start(tmp_path, "resume=last"))
    assert code == 0, output
    assert "Epoch 2 of 2" in output


def test_nan_loss_fails_the_run(face_dataset: Path, tmp_path: Path) -> None:
    lost = ("optimizer=sgd", "optimizer.lr=1e30", "scheduler=none", "trainer.gradient_clip_val=null")
    code, output = _finish(_start(tmp_path, f"dataset.root={face_dataset}", *OPTIONS, *lost))
    assert code == 2
    assert "Error: The loss became nan in epoch 1, batch " in output
    (run,) = _runs(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("TrainingError: The loss became nan in epoch 1")
