import subprocess
import sys
from pathlib import Path

import pytest

from unmask.errors import ConfigError, TrackingError
from unmask.tracking.logger import MLflowLogger
from unmask.tracking.store import Store, open_experiment

OPEN = """
import sys, time
from unmask.tracking.store import Store, open_experiment
import mlflow
print("ready", flush=True)
sys.stdin.readline()
print(open_experiment(Store(None, sys.argv[1], sys.argv[2], "unmask"))[1])
"""


def _settings(folder: Path) -> Store:
    return Store(None, str(folder / "mlflow.db"), str(folder / "artifacts"), "unmask")


def test_two_jobs_can_open_a_fresh_store_at_once(tmp_path: Path) -> None:
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


def test_deleted_experiment_is_named_with_the_restore_command(tmp_path: Path) -> None:
    client, experiment = open_experiment(_settings(tmp_path))
    client.delete_experiment(experiment)
    with pytest.raises(TrackingError, match=rf"'unmask' of .*mlflow experiments restore -x {experiment}"):
        open_experiment(_settings(tmp_path))


@pytest.mark.parametrize("uri", [None, "sqlite:////srv/mlflow.db", "postgresql://db/mlflow"])
def test_databases_store_artifacts_in_the_configured_folder(tmp_path: Path, uri: str | None) -> None:
    settings = Store(uri, str(tmp_path / "mlflow.db"), str(tmp_path / "my artifacts"), "unmask")
    assert settings.artifact_location == (tmp_path / "my artifacts" / "unmask").as_uri()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "https://mlflow.example", "databricks", "databricks://a"])
def test_servers_choose_the_artifact_location(tmp_path: Path, uri: str) -> None:
    assert Store(uri, "", str(tmp_path), "unmask").artifact_location is None


def test_foreign_experiment_gets_our_view_and_keeps_its_kind(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    client, experiment = open_experiment(settings)
    client.set_experiment_tag(experiment, "mlflow.experimentKind", "finetuning")
    client.delete_experiment_tag(experiment, "mlflow.sharedViewState.unmask")
    open_experiment(settings)
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "finetuning"
    assert "mlflow.sharedViewState.unmask" in tags


def test_unknown_checkpoints_value_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracking.checkpoints=last.*best, all, none"):
        MLflowLogger(tracking_uri=None, tracking_db="", artifact_dir="", experiment_name="unmask", checkpoints="last")


def test_runs_are_named_after_data_model_and_overrides() -> None:
    from tests.conftest import compose_config

    from unmask.training.record import name_run

    given = ["dataset.root=data/ffpp-c23", "optimizer.lr=1e-3", "+trainer.precision=x", "paths.root=/tmp", "task=train"]
    cfg = compose_config("train", "dataset.root=data/ffpp-c23", "model=tiny")
    assert name_run(cfg, given) == "ffpp-c23 tiny optimizer.lr=1e-3 +trainer.precision=x"
    assert len(name_run(cfg, [f"optimizer.lr={'1' * 500}"])) == 120
