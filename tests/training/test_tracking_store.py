import subprocess
import sys
from pathlib import Path

import pytest

from unmask.errors import TrackingError
from unmask.training.tracking_store import MLflowSettings, open_experiment

OPEN = """
import sys, time
from unmask.training.tracking_store import MLflowSettings, open_experiment
import mlflow
print("ready", flush=True)
sys.stdin.readline()
print(open_experiment(MLflowSettings(None, sys.argv[1], sys.argv[2], "unmask"))[1])
"""


def _settings(folder: Path) -> MLflowSettings:
    return MLflowSettings(None, str(folder / "mlflow.db"), str(folder / "artifacts"), "unmask")


def test_two_jobs_that_start_at_once_on_a_fresh_store_do_not_race(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", OPEN, str(tmp_path / "mlflow.db"), str(tmp_path / "artifacts")]
    jobs = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
    ends = [(*job.communicate(timeout=120), job.returncode) for job in jobs]
    assert [code for *_, code in ends] == [0, 0], ends
    assert len({out for out, *_ in ends}) == 1


def test_deleted_experiment_is_told_with_the_way_back(tmp_path: Path) -> None:
    client, experiment = open_experiment(_settings(tmp_path))
    client.delete_experiment(experiment)
    with pytest.raises(TrackingError, match=rf"'unmask' of .* is deleted.*mlflow experiments restore -x {experiment}"):
        open_experiment(_settings(tmp_path))
