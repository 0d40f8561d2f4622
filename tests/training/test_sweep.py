import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.conftest import REPOSITORY

from unmask.errors import ConfigError, TrainingError
from unmask.training.sweep import draw_sweep, finish_sweep

QUICK = (
    "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=1",
    "dataset.samples_per_epoch=16", "trainer.log_every_n_steps=1", "logger.log_model=false",
)  # fmt: skip


def _sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "train.py"), *arguments, *QUICK]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _runs(folder: Path) -> tuple[Any, list[Any]]:
    """Return the parent and its children by number of job."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("unmask").experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("sweep") == "parent"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == len(children) + 1
    return parent, sorted(children, key=lambda run: int(run.data.tags["sweep.job"]))


@pytest.fixture(scope="module")
def swept(face_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep of four jobs, of which one fails, run in this process; and what it printed on standard error."""
    import contextlib
    import io

    from unmask.cli.train import main

    folder = tmp_path_factory.mktemp("swept")
    arguments = ["-m", f"dataset.root={face_dataset},nowhere", *QUICK, "threshold_criterion=eer,luck"]
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.chdir(folder)
        patch.delenv("UNMASK_HOME", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert stopped.value.code == 1
    return folder, errors.getvalue()


def test_sweep_is_one_parent_with_a_child_for_each_job(swept: tuple[Path, str]) -> None:
    parent, children = _runs(swept[0])
    assert [run.info.status for run in children] == ["FINISHED", "FAILED", "FAILED", "FAILED"]
    assert parent.info.status == "FAILED"
    names = [run.info.run_name.partition(" ")[2] for run in children]
    assert names == ["threshold_criterion=eer", "threshold_criterion=luck"] * 2
    assert "threshold_criterion 'luck'" in children[1].data.tags["error"]
    assert "nowhere" in children[2].data.tags["error"]  # it failed before it had a run of its own


def test_parent_holds_the_table_the_best_child_and_the_plot(swept: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    parent, children = _runs(swept[0])
    objectives = {run.info.run_id: run.data.metrics.get("best/val/video_auroc", -1.0) for run in children}
    best = max(objectives.values())
    assert objectives[parent.data.tags["best_run_id"]] == best == parent.data.metrics["sweep/best_objective"]
    assert (parent.data.metrics["sweep/num_jobs"], parent.data.metrics["sweep/num_failed"]) == (4, 3)
    assert parent.data.tags["best.threshold_criterion"] == "eer"
    client = MlflowClient(f"sqlite:///{swept[0]}/mlflow.db")
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {
        "sweep.csv", "sweep.json", "sweep.svg",
    }  # fmt: skip
    table = pd.read_csv(client.download_artifacts(parent.info.run_id, "sweep.csv"))
    assert sorted(table["status"]) == ["done", "failed", "failed", "failed"]
    assert set(table["run_id"]) == set(objectives)


def test_failed_jobs_are_listed_at_the_end(swept: tuple[Path, str]) -> None:
    text = swept[1]
    assert "3 of 4 jobs failed." in text
    assert "Job 1 failed: " in text


def test_sweep_whose_store_went_away_is_closed_by_the_command_it_names(
    swept: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.exceptions import MlflowException

    from unmask.cli.sweep import closing_sweep
    from unmask.cli.train import main
    from unmask.training.sweep_callback import FOLDER_VARIABLE

    def fail(uri: str) -> None:
        raise MlflowException("connection refused")

    (folder,) = swept[0].glob("multirun/train/*")
    monkeypatch.chdir(swept[0])
    with monkeypatch.context() as away:
        away.setattr("unmask.training.sweep.make_client", fail)
        with pytest.raises(SystemExit, match="1"), closing_sweep():
            away.setenv(FOLDER_VARIABLE, str(folder))
    assert len(pd.read_csv(folder / "sweep.csv")) == 4
    command = capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
    main()
    assert "1 sweeps closed, 0 still wait" in capsys.readouterr().out
    assert _runs(swept[0])[0].info.status == "FAILED"
    assert pd.read_csv(folder / "sweep.csv")["run_id"].notna().all()


def test_sweep_whose_store_is_down_ends_before_any_job(face_dataset: Path, in_folder: Path) -> None:
    done = _sweep(in_folder, "-m", f"dataset.root={face_dataset}", "seed=1,2", "logger.tracking_uri=http://127.0.0.1:9")
    assert done.returncode == 2
    assert "MLflow store 'http://127.0.0.1:9'" in done.stderr
    assert not list(in_folder.glob("multirun/*/*/*/result.json"))


def test_resumed_sweep_leaves_what_is_done_and_runs_what_failed(
    swept: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    from unmask.cli.train import main

    parent, children = _runs(swept[0])
    (folder,) = swept[0].glob("multirun/train/*")
    table, result = pd.read_csv(folder / "sweep.csv"), (folder / "0" / "result.json").stat().st_mtime_ns
    monkeypatch.chdir(swept[0])
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "resume_sweep=last"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "3 of 4 jobs failed." in capsys.readouterr().err
    pd.testing.assert_frame_equal(pd.read_csv(folder / "sweep.csv"), table)
    assert (folder / "0" / "result.json").stat().st_mtime_ns == result
    parent_now, children_now = _runs(swept[0])
    assert (parent_now.info.run_id, parent_now.info.status) == (parent.info.run_id, "FAILED")
    assert [run.info.run_id for run in children_now] == [run.info.run_id for run in children]
    client = MlflowClient(f"sqlite:///{swept[0]}/mlflow.db")
    assert len(client.get_metric_history(parent.info.run_id, "sweep/objective")) == 1
    listed = json.loads(Path(client.download_artifacts(parent.info.run_id, "sweep.json")).read_text())
    assert len(listed["data"]) == 4


def _write_sweep(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True)
    record = {"run_id": None, "uri": None, "keys": ["seed"], "arguments": ["-m", "dataset.root=x", "seed=1,2"]}
    (folder / "sweep.json").write_text(json.dumps(record | {"started_in": str(Path.cwd())} | changes))


def test_sweep_is_resumed_by_its_own_command_line(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unmask.cli.sweep import restore_sweep
    from unmask.training.sweep_callback import RESUME_VARIABLE

    monkeypatch.setenv(RESUME_VARIABLE, "")  # set anew below; afterwards it is as before
    folder = in_folder / "multirun" / "train" / "first, second"
    _write_sweep(folder)
    for asked in ("last", str(folder)):
        restored = restore_sweep(["-m", f"resume_sweep={asked}", "hydra/launcher=joblib"])
        own = ["-m", "dataset.root=x", "seed=1,2"]
        assert restored == [*own, "hydra/launcher=joblib", f"hydra.sweep.dir='{folder}'"]
    assert restore_sweep(["-m", "resume_sweep=null", "seed=3"]) == ["-m", "resume_sweep=null", "seed=3"]


@pytest.mark.parametrize(
    ("changes", "arguments", "named"),
    [
        ({}, ["resume_sweep=nowhere"], "nowhere"),
        ({}, ["resume_sweep=last", "seed=3"], "seed=3"),
        ({}, ["resume_sweep=last", "paths.multirun_dir=empty"], "empty"),
        ({"started_in": "/elsewhere"}, ["resume_sweep=last"], "cd '/elsewhere'"),
        ({"launched_by": None}, ["resume_sweep=last"], "is running"),
    ],
)
def test_sweep_that_cannot_be_resumed_is_refused(
    in_folder: Path, changes: dict[str, Any], arguments: list[str], named: str
) -> None:
    from unmask.cli.sweep import restore_sweep
    from unmask.training.sweep_callback import _identify_process

    if "launched_by" in changes:
        changes = {"launched_by": _identify_process()}
    _write_sweep(in_folder / "multirun" / "train" / "first", **changes)
    with pytest.raises(ConfigError, match=named):
        restore_sweep(arguments)


def test_job_of_a_resumed_search_that_failed_stays_failed_if_others_came_after_it(tmp_path: Path) -> None:
    from unmask.training.sweep_callback import take_up_job

    _write_job(tmp_path, 0, lr="0.1", objective=None, error="Too little memory.")
    overrides = ["optimizer.lr=0.1", "seed=0"]
    _write_job(tmp_path, 1, lr="0.2", objective=0.6)
    with pytest.raises(TrainingError, match="Too little memory"):
        take_up_job(tmp_path / "0", overrides=overrides, is_basic=False)
    assert not take_up_job(tmp_path / "0", overrides=overrides, is_basic=True).is_done
    assert not (tmp_path / "0" / "job.json").exists()
    with pytest.raises(ConfigError, match="start it anew"):
        take_up_job(tmp_path / "1", overrides=overrides, is_basic=False)
    done = take_up_job(tmp_path / "1", overrides=["optimizer.lr=0.2", "seed=0"], is_basic=False)
    assert (done.is_done, done.objective) == (True, 0.6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local",),
        ("hydra/launcher=ray", "+hydra.launcher.ray.init.include_dashboard=false"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_launcher_has_one_parent_and_continues_after_a_failure(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, launcher: tuple[str, ...]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = f"dataset.root={face_dataset}"
    done = _sweep(in_folder, "-m", root, *launcher, "threshold_criterion=luck,f1,eer")
    assert done.returncode == 1, done.stderr
    assert "Job 0 failed: Unknown threshold_criterion 'luck'" in done.stderr
    assert "1 of 3 jobs failed." in done.stderr
    parent, children = _runs(in_folder)
    assert [run.info.status for run in children] == ["FAILED", "FINISHED", "FINISHED"]
    assert parent.data.metrics["sweep/num_failed"] == 1


@pytest.mark.slow
def test_optuna_searches_the_space_of_its_file(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = _sweep(in_folder, f"dataset.root={face_dataset}", "sweep=optuna", "hydra.sweeper.n_trials=3")
    assert done.returncode == 0, done.stderr
    parent, children = _runs(in_folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 4
    assert len({run.data.params["optimizer.lr"] for run in children}) == 3
    assert {"best.optimizer.lr", "best.augmentation"} <= set(parent.data.tags)


@pytest.mark.slow
def test_jobs_of_several_devices_run_in_processes_of_their_own(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arguments = ["-m", f"dataset.root={face_dataset}", "trainer=ddp", "trainer.devices=2", "seed=1,2"]
    done = _sweep(in_folder, *arguments)
    assert done.returncode == 0, done.stderr
    parent, children = _runs(in_folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert len(list((in_folder / "multirun/train").iterdir())) == 1


def _write_job(folder: Path, number: int, *, lr: str, objective: float | None, error: str | None = None) -> None:
    (folder / str(number)).mkdir(parents=True)
    status = "done" if error is None else "failed"
    record = {"job": number, "overrides": [f"optimizer.lr={lr}", "seed=0"], "status": status}
    record |= {"objective": objective, "error": error, "folder": str(folder / str(number))}
    (folder / str(number) / "job.json").write_text(json.dumps(record))


def test_untracked_sweep_has_its_table_on_disk(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"run_id": None, "uri": None, "keys": ["optimizer.lr"]}))
    _write_job(tmp_path, 0, lr="0.1", objective=0.6)
    _write_job(tmp_path, 1, lr="0.2", objective=None, error="No.")
    _write_job(tmp_path, 2, lr="0.3", objective=0.9)
    result = finish_sweep(tmp_path, was_interrupted=False)
    assert list(result.table["job"]) == [2, 0, 1]
    assert (result.num_failed, result.run_id) == (1, None)
    assert list(pd.read_csv(tmp_path / "sweep.csv")["optimizer.lr"]) == [0.3, 0.1, 0.2]
    assert (tmp_path / "sweep.svg").read_text().startswith("<svg")


def test_plot_takes_numbers_and_names() -> None:
    table = pd.DataFrame(
        {"optimizer.lr": ["1e-4", "1e-2"], "augmentation": ["none", "light"], "objective": [0.5, float("nan")]}
    )
    assert draw_sweep(table, ["optimizer.lr", "augmentation"]) is not None
    assert draw_sweep(table[1:], ["optimizer.lr"]) is None
    assert draw_sweep(table, []) is None


LONGER = (
    "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer=cpu", "trainer.max_epochs=4",
    "dataset.samples_per_epoch=160", "dataset.batch_size=8", "logger.log_model=false",
)  # fmt: skip


def _kill_in_job(number: int, folder: Path, *arguments: str) -> Path:
    """Run a sweep, kill its process once a job has written a checkpoint, and return the folder of the sweep."""
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "UNMASK_HOME")},
    )
    try:
        deadline = time.monotonic() + 300
        while not (found := list(folder.glob(f"multirun/train/*/{number}/checkpoints/last.ckpt"))):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return found[0].parents[2]


def _tabulate(folder: Path) -> pd.DataFrame:
    (path,) = folder.glob("multirun/train/*/sweep.csv")
    return pd.read_csv(path).drop(columns=["run_id", "folder"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweep", "number"),
    [
        (("-m", "optimizer.lr=1e-3,1e-2", "seed=1,2,3"), 2),
        (("sweep=optuna", "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.n_startup_trials=2"), 2),
        (("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2,3,4"), 2),
        (("-m", "seed=1,2", "trainer=ddp", "trainer.devices=2"), 1),
    ],
    ids=["basic", "optuna", "joblib", "processes"],
)
def test_resumed_sweep_ends_with_the_table_of_an_uninterrupted_one(
    face_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: tuple[str, ...], number: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("UNMASK_HOME", raising=False)
    arguments = [f"dataset.root={face_dataset}", *LONGER, *sweep]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    command = [sys.executable, str(REPOSITORY / "train.py")]
    subprocess.run([*command, *arguments], cwd=whole, check=True, capture_output=True)

    swept = _kill_in_job(number, killed, *arguments)
    done = {path: path.stat().st_mtime_ns for path in swept.glob("*/job.json")}
    results = {path: path.stat().st_mtime_ns for path in swept.glob("*/result.json")}
    assert (swept / str(number) / "result.json") not in results
    assert len(done) >= 1
    resumed = subprocess.run(
        [*command, "-m", "resume_sweep=last"], cwd=killed, check=False, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming after epoch" in (swept / str(number) / "train.log").read_text()
    assert {path: path.stat().st_mtime_ns for path in (*done, *results)} == done | results
    pd.testing.assert_frame_equal(_tabulate(killed), _tabulate(whole))
    assert sorted(path.name for path in (swept / str(number) / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    parent, children = _runs(killed)
    num_jobs = len(_tabulate(whole))
    assert [run.info.status for run in (parent, *children) if run.info.status != "KILLED"] == ["FINISHED"] * (
        num_jobs + 1
    )
    assert {run.data.tags["sweep.job"] for run in children} == {str(job) for job in range(num_jobs)}
