"""What happens to processes, jobs and the model when something breaks under them."""

import errno
import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pebble import ProcessExpired, ProcessPool
from pebble.pool.base_pool import PoolStatus
from tests.web.api.test_jobs import send, wait

from unmask.errors import ConfigError
from unmask.inference.predictor import PredictorSettings
from unmask.models.bundle import load_bundle
from unmask.web.api import jobs, service
from unmask.web.api.app import create_app
from unmask.web.api.jobs import JobStore
from unmask.web.api.settings import ModelSettings, ServiceSettings
from unmask.web.api.uploads import copied_model, own_folder
from unmask.web.api.workers import Pool


def judge(client: TestClient, path: Path) -> Any:
    return client.post("/v1/images?heatmaps=false", files=[("files", ("face.jpg", path.read_bytes()))])


def test_service_continues_when_idle_processes_are_killed(
    start: Callable[..., Any], media: Path, tmp_path: Path
) -> None:
    with start(tmp_path) as client:
        score = judge(client, media / "face.jpg").json()["results"][0]["score"]
        workers = multiprocessing.active_children()
        assert len(workers) >= 2
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        time.sleep(1)
        again = judge(client, media / "face.jpg")
        assert (again.status_code, again.json()["results"][0]["score"]) == (200, score)
        assert wait(client, send(client, media / "clip.mp4").json()["id"])["state"] == "done"


def test_images_are_not_blamed_for_a_killed_process(
    start: Callable[..., Any], media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*arguments: Any, **options: Any) -> None:
        raise ProcessExpired("Abnormal termination", code=-signal.SIGTERM)

    with start(tmp_path) as client:
        monkeypatch.setattr(client.app.state.service.workers, "_try_images", end)
        answer = judge(client, media / "face.jpg")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.headers["retry-after"] == "5"


def test_calls_lost_by_a_broken_pool_end_too() -> None:
    pool = Pool(1, int)
    task = pool.schedule(time.sleep, 60)
    pool._pool._context.status = PoolStatus.ERROR  # as if one of its threads had died
    pool.repair()
    with pytest.raises(BrokenProcessPool):
        task.result(timeout=30)
    assert pool.schedule(abs, -1).result(timeout=30) == 1
    pool.stop()
    with pytest.raises(RuntimeError):
        pool.schedule(abs, -1)


def test_pool_that_hangs_at_startup_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.web.api.workers._SECONDS_WITHOUT_WORK", 0.5)
    pool = Pool(1, time.sleep, 600)
    task = pool.schedule(abs, -1)
    pool.repair()
    time.sleep(1)
    assert not task.done()
    monkeypatch.setattr(pool, "_arguments", (0,))
    pool.repair()
    with pytest.raises(BrokenProcessPool):
        task.result(timeout=30)
    monkeypatch.setattr("unmask.web.api.workers._SECONDS_WITHOUT_WORK", 60)
    assert pool.schedule(abs, -1).result(timeout=30) == 1
    pool.stop()


def test_pool_busy_with_long_calls_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1, int)
    assert pool.schedule(abs, -1).result(timeout=30) == 1
    monkeypatch.setattr("unmask.web.api.workers._SECONDS_WITHOUT_WORK", 0.2)
    long, waiting = pool.schedule(time.sleep, 2), pool.schedule(abs, -2)
    while not long.running():
        time.sleep(0.01)
    for _ in range(10):
        pool.repair()
        time.sleep(0.1)
    assert waiting.result(timeout=30) == 2
    assert long.exception() is None
    pool.stop()


def test_pool_that_does_not_stop_is_abandoned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Loaders that earlier tests left to the garbage collector may have processes too.
    before = set(multiprocessing.active_children())
    pool = Pool(1, int)
    task = pool.schedule(time.sleep, 60)
    deadline = time.monotonic() + 60
    while not task.running():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    join = ProcessPool.join
    go_on = threading.Event()
    monkeypatch.setattr(ProcessPool, "join", lambda some: go_on.wait(60) and join(some))
    monkeypatch.setattr("unmask.web.api.workers._SECONDS_TO_END", 0.2)
    pool.stop()
    assert "did not end within 0.2 s" in caplog.text
    assert not task.done()  # a job of a service that stops is gone on with by the next one
    with pytest.raises(RuntimeError):
        pool.schedule(abs, -1)
    go_on.set()
    deadline = time.monotonic() + 10
    # Those that are children now need not be all: pebble may have replaced the process that was stopped.
    while set(multiprocessing.active_children()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(multiprocessing.active_children()) - before


def test_job_whose_result_could_not_be_saved_is_scored_again(
    start: Callable[..., Any], media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_SECONDS_BETWEEN_ROUNDS", 0.2)
    finish, failures = JobStore.finish, []

    def fail_once(store: JobStore, job_id: str, result: dict[str, Any]) -> None:
        if not failures:
            failures.append(job_id)
            raise sqlite3.OperationalError("database or disk is full")
        finish(store, job_id, result)

    monkeypatch.setattr(JobStore, "finish", fail_once)
    with start(tmp_path) as client:
        job = wait(client, send(client, media / "clip.mp4").json()["id"])
        assert failures == [job["id"]]
        assert job["state"] == "done"


def test_maintenance_continues_after_a_failed_round(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_SECONDS_BETWEEN_ROUNDS", 0.05)
    rounds = []
    # Loaders that earlier tests left to the garbage collector may have processes too.
    before = set(multiprocessing.active_children())

    def fail_once(store: JobStore, *, seconds: float) -> int:
        rounds.append(seconds)
        if len(rounds) == 1:
            raise FileNotFoundError("jobs.sqlite-wal")
        return 0

    monkeypatch.setattr(JobStore, "delete_old", fail_once)
    with start(tmp_path):
        for _ in range(100):
            if len(rounds) > 2:
                break
            time.sleep(0.05)
    assert len(rounds) > 2
    assert not set(multiprocessing.active_children()) - before


def test_folder_without_job_is_deleted_once_it_is_not_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(tmp_path)
    store.create()
    (tmp_path / "v").write_bytes(b"x")
    job = store.add(tmp_path / "v", name="a.mp4", most=1)
    assert job is not None
    (gone := tmp_path / ("0" * 32)).mkdir()
    (tmp_path / "mine").mkdir()
    store.delete_old(seconds=1000)
    assert gone.exists()
    monkeypatch.setattr(jobs, "_SECONDS_OF_AN_ORPHAN", -1.0)
    store.delete_old(seconds=1000)
    assert not gone.exists()
    assert (tmp_path / "mine").exists()
    assert store.upload_of(job.id).exists()


def test_open_uploads_count_against_the_queue(start: Callable[..., Any], media: Path, tmp_path: Path) -> None:
    with start(tmp_path, limits={"jobs": 1}) as client:
        with client.app.state.service.one_more_video() as has_place:
            assert has_place
            assert send(client, media / "clip.mp4").json()["code"] == "too_many_jobs"
        assert send(client, media / "clip.mp4").status_code == 202


def test_finished_videos_are_counted(start: Callable[..., Any], media: Path, tmp_path: Path) -> None:
    with start(tmp_path) as client:
        verdict = wait(client, send(client, media / "clip.mp4").json()["id"])["result"]["verdict"]
        wait(client, send(client, media / "face.jpg").json()["id"])
        figures = client.get("/metrics").text
    assert f'unmask_verdicts_total{{kind="video",verdict="{verdict}"}} 1.0' in figures
    assert 'unmask_verdicts_total{kind="video",verdict="error"} 1.0' in figures


def test_second_service_in_a_folder_is_refused(tmp_path: Path) -> None:
    with own_folder(tmp_path / "service"), pytest.raises(ConfigError, match="Another service is using folder="):
        own_folder(tmp_path / "service").__enter__()
    with own_folder(tmp_path / "service"):
        pass  # free again


def test_folder_with_foreign_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match=r"holds 'model'.*Give an empty or new folder"):
        own_folder(tmp_path).__enter__()
    (tmp_path / "model").rmdir()
    (tmp_path / "lost+found").mkdir()
    for _ in range(2):
        with own_folder(tmp_path):
            (tmp_path / "model").mkdir(exist_ok=True)


def test_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("unmask.web.api.uploads.fcntl.flock", fail)
    with pytest.raises(ConfigError, match="file locks"):
        own_folder(tmp_path).__enter__()


def test_unwritable_folder_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot write in folder=/proc/unmask"):
        own_folder(Path("/proc/unmask")).__enter__()


def test_model_in_the_folder_of_the_service_is_not_deleted(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "model")
    (tmp_path / ".model-old").mkdir()
    with copied_model(ModelSettings(str(tmp_path / "model")), tmp_path) as model:
        assert load_bundle(model.path).decision == load_bundle(bundle).decision
        assert not (tmp_path / ".model-old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    load_bundle(tmp_path / "model")


@pytest.mark.parametrize("kind", ["bundle", "checkpoint"])
def test_service_keeps_the_model_it_started_with(bundle: Path, checkpoint: Path, tmp_path: Path, kind: str) -> None:
    original = tmp_path / "original"
    if kind == "bundle":
        shutil.copytree(bundle, original)
    else:
        shutil.copy(checkpoint, original)
    (tmp_path / "service").mkdir()
    with copied_model(ModelSettings(str(original)), tmp_path / "service") as model:
        shutil.rmtree(original) if kind == "bundle" else original.write_bytes(b"another")
        if kind == "bundle":
            assert load_bundle(model.path).decision == load_bundle(bundle).decision
        else:
            assert Path(model.path).read_bytes() == checkpoint.read_bytes()
    assert not list((tmp_path / "service").iterdir())


def test_model_that_workers_cannot_load_is_reported(bundle: Path, tmp_path: Path) -> None:
    model = ModelSettings(str(bundle), PredictorSettings(device="cuda"))
    app = create_app(ServiceSettings(model, tmp_path, image_workers=1))
    told: list[bool] = []
    app.state.service.on_failure = lambda: told.append(True)
    with TestClient(app) as client:
        for _ in range(300):
            if told:
                break
            time.sleep(0.1)
        assert client.get("/readyz").status_code == 503
    assert told == [True]
    assert isinstance(app.state.service.failure, ConfigError)
    assert "device=cuda cannot be used" in str(app.state.service.failure)
