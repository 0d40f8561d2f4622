import json
import logging
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from unmask.tracking.logger import MLflowLogger
from unmask.tracking.store import Store, open_experiment
from unmask.tracking.unsent import _DELIVERIES, Message, Outbox, send_unsent


class FakeClient:
    """MLflow client whose store can become unavailable."""

    def __init__(self) -> None:
        self.is_up = True
        self.received: list[tuple[str, Any]] = []

    def log_batch(self, run_id: str, **content: Any) -> None:
        from mlflow.exceptions import MlflowException

        if not self.is_up:
            raise MlflowException("connection refused")
        entries = [entry for part in content.values() for entry in part]
        self.received += [(entry.key, entry.value) for entry in entries]


@pytest.fixture
def store() -> FakeClient:
    return FakeClient()


@pytest.fixture
def outbox(store: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr("unmask.tracking.unsent._SECONDS_BETWEEN_TRIES", 0.0)
    return Outbox(store, uri="http://far", run_id="1", folder=tmp_path)


def _tag(value: int) -> Message:
    return Message("tags", {"tags": {"t": str(value)}})


def test_messages_are_sent_at_once_without_files(outbox: Outbox, store: FakeClient, tmp_path: Path) -> None:
    outbox.send(_tag(1))
    outbox.send(Message("metrics", {"points": [["val/auroc", 0.5, 0, 1]]}))
    assert store.received == [("t", "1"), ("val/auroc", 0.5)]
    assert list(tmp_path.iterdir()) == []


def test_unsent_messages_are_kept_and_sent_in_order(
    outbox: Outbox, store: FakeClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox.send(_tag(1))
    store.is_up = False
    with caplog.at_level(logging.WARNING):
        for number in (2, 3, 4):
            outbox.send(_tag(number))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(tmp_path / "unsent") in caplog.text
    assert (store.received, outbox.num_unsent) == ([("t", "1")], 3)
    store.is_up = True
    outbox.send(_tag(5))
    assert [value for _, value in store.received] == ["1", "2", "3", "4", "5"]
    assert list(tmp_path.iterdir()) == []


def test_message_kept_while_another_process_sends_is_not_lost(
    outbox: Outbox, store: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.is_up = False
    outbox.send(_tag(1))
    is_sending, may_continue = threading.Event(), threading.Event()
    sender = FakeClient()
    log = sender.log_batch

    def wait(run_id: str, **content: Any) -> None:
        is_sending.set()
        assert may_continue.wait(30)
        log(run_id, **content)

    monkeypatch.setattr(sender, "log_batch", wait)
    sending = threading.Thread(target=Outbox(sender, uri="http://far", run_id="1", folder=tmp_path).flush)
    keeping = threading.Thread(target=outbox.send, args=[_tag(2)])
    sending.start()
    assert is_sending.wait(30)
    keeping.start()
    keeping.join(0.5)
    may_continue.set()
    sending.join(30)
    keeping.join(30)
    assert sender.received == [("t", "1")]
    store.is_up = True
    assert outbox.flush()
    assert store.received == [("t", "2")]


def test_incomplete_last_line_is_skipped(outbox: Outbox, store: FakeClient, tmp_path: Path) -> None:
    store.is_up = False
    outbox.send(_tag(1))
    with (tmp_path / "unsent" / "messages.jsonl").open("a") as file:
        file.write('{"kind": "tags", "da')
    store.is_up = True
    assert outbox.flush()
    assert store.received == [("t", "1")]


def test_unavailable_store_is_not_retried_at_every_message(
    store: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(store, uri="http://far", run_id="1", folder=tmp_path)
    store.is_up = False
    outbox.send(_tag(1))
    monkeypatch.setattr(FakeClient, "log_batch", lambda *_, **__: pytest.fail("retried too early"))
    outbox.send(_tag(2))
    assert outbox.num_unsent == 2


def test_rejected_messages_are_kept_separately_with_a_warning(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    def refuse(self: FakeClient, run_id: str, **content: Any) -> None:
        raise MlflowException("too long", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(FakeClient, "log_batch", refuse)
    outbox.send(_tag(1))
    assert "tags: too long" in caplog.text
    assert str(tmp_path / "unsent/refused.jsonl") in caplog.text
    assert json.loads((tmp_path / "unsent/refused.jsonl").read_text())["data"] == {"tags": {"t": "1"}}
    assert outbox.num_unsent == 0


def test_unsent_messages_of_all_runs_are_sent(tmp_path: Path, store: FakeClient) -> None:
    settings = Store(None, str(tmp_path / "mlflow.db"), str(tmp_path / "artifacts"), "unmask")
    client, experiment = open_experiment(settings)
    run_id = client.create_run(experiment).info.run_id
    store.is_up = False
    folder = tmp_path / "outputs" / "train" / "first"
    lost = Outbox(store, uri=settings.uri, run_id=run_id, folder=folder)
    (tmp_path / "note.txt").write_text("note")
    lost.send(Message("params", {"params": {"seed": "0"}}))
    lost.send(Message("artifact", {"path": str(tmp_path / "note.txt"), "folder": None}))
    lost.send(Message("end", {"status": "FINISHED", "milliseconds": 1000}))
    assert lost.num_unsent == 3
    assert send_unsent([tmp_path / "outputs"]) == (1, 0)
    run = client.get_run(run_id)
    assert (run.info.status, run.info.end_time, run.data.params) == ("FINISHED", 1000, {"seed": "0"})
    assert [item.path for item in client.list_artifacts(run_id)] == ["note.txt"]
    assert send_unsent([tmp_path / "outputs"]) == (0, 0)


def test_files_of_a_moved_run_folder_are_sent(
    tmp_path: Path, store: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Store(None, str(tmp_path / "mlflow.db"), str(tmp_path / "artifacts"), "unmask")
    client, experiment = open_experiment(settings)
    run_id = client.create_run(experiment).info.run_id
    logger = MLflowLogger(
        tracking_uri=None, tracking_db=str(tmp_path / "mlflow.db"), artifact_dir=str(tmp_path / "artifacts"),
        experiment_name="unmask", system_metrics_seconds=0,
    )  # fmt: skip
    first = tmp_path / "first"
    (first / "figures").mkdir(parents=True)
    (first / "figures" / "roc.svg").write_text("<svg/>")
    logger.open(folder=first, run_id=run_id)
    logger.outbox = Outbox(store, uri=settings.uri, run_id=run_id, folder=first)
    store.is_up = False
    logger.set_tags({"t": "1"})
    logger.log_folder(first / "figures", "figures")
    first.rename(tmp_path / "moved")
    assert send_unsent([tmp_path]) == (1, 0)
    assert [item.path for item in client.list_artifacts(run_id, "figures")] == ["figures/roc.svg"]
    assert not list((tmp_path / "moved").glob("unsent"))


def _lose_run(folder: Path, home: Path) -> tuple[Any, str]:
    """Leave an unsent message of a run in a folder; return a client of its store and the run ID."""
    settings = Store(None, str(home / "mlflow.db"), str(home / "artifacts"), "unmask")
    client, experiment = open_experiment(settings)
    run_id = client.create_run(experiment).info.run_id
    away = FakeClient()
    away.is_up = False
    lost = Outbox(away, uri=settings.uri, run_id=run_id, folder=folder)
    lost.send(_tag(7))
    return client, run_id


def test_printed_command_sends_the_unsent_messages(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unmask.cli.tasks import print_unsent
    from unmask.cli.train import main

    print_unsent(in_folder)
    assert capsys.readouterr().err == ""
    name = "it's (a) run, = ü"
    client, run_id = _lose_run(in_folder / name, in_folder)
    print_unsent(Path(name))
    command = capsys.readouterr().err.splitlines()[-1]
    (in_folder / "elsewhere").mkdir()
    monkeypatch.chdir(in_folder / "elsewhere")
    python, *arguments = shlex.split(command)
    assert (python, *arguments[:2]) == ("python", "train.py", "task=send")
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    assert "1 runs sent, 0 still wait" in capsys.readouterr().out
    assert client.get_run(run_id).data.tags["t"] == "7"
    print_unsent(in_folder)
    assert capsys.readouterr().err == ""


def test_missing_send_dir_is_named(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unmask.cli.train import main

    monkeypatch.setattr(sys, "argv", ["train.py", "task=send", "send_dir=gone"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "send_dir='gone'" in capsys.readouterr().err


@pytest.mark.slow
def test_training_prints_the_command_at_its_end(
    face_dataset: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from unmask.cli.train import main

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("unavailable")

    deliveries = dict(_DELIVERIES)
    monkeypatch.setattr("unmask.tracking.unsent._DELIVERIES", dict.fromkeys(deliveries, fail))
    folder = in_folder / "my runs" / "first"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", [
        "train.py", f"dataset.root={face_dataset}", "model=tiny", "dataset.num_workers=0", "precision=fp32",
        "trainer=cpu", "trainer.max_epochs=1", f'hydra.run.dir="{folder}"', "logger.log_model=false",
        "logger.system_metrics_seconds=0",
    ])  # fmt: skip
    main()
    command = capsys.readouterr().err.splitlines()[-1].strip()
    monkeypatch.setattr("unmask.tracking.unsent._DELIVERIES", deliveries)
    monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
    main()
    assert "1 runs sent, 0 still wait" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{in_folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("unmask").experiment_id])
    assert run.info.status == "FINISHED"
    assert "best/val/auroc" in run.data.metrics
