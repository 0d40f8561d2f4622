import os
import sys
from pathlib import Path

import pytest

from unmask.cli.serve import open_ui as main
from unmask.tracking.store import Store, open_experiment


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines that would have taken this process's place."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: commands.append([program, *arguments[1:]]))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("UNMASK_HOME", raising=False)
    return commands


@pytest.mark.parametrize("variable", [None, "UNMASK_HOME", "MLFLOW_TRACKING_URI"])
def test_ui_shows_the_store_of_the_runs(
    started: list[list[str]],
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str | None,
) -> None:
    folder = in_folder if variable is None else in_folder / "elsewhere"
    uri = f"sqlite:///{folder.resolve()}/mlflow.db"
    if variable is not None:
        monkeypatch.setenv(variable, str(folder) if variable == "UNMASK_HOME" else uri)
    _, experiment = open_experiment(Store(None, str(folder / "mlflow.db"), str(folder / "artifacts"), "faces"))
    main()
    ((program, *arguments),) = started
    assert program == sys.executable
    assert arguments[:4] == ["-m", "mlflow", "ui", "--backend-store-uri"]
    assert arguments[4] == uri
    told = capsys.readouterr().out
    assert f"'faces': http://127.0.0.1:5000/#/experiments/{experiment}/runs?viewStateShareKey=unmask" in told
    assert "Default" not in told


def test_missing_store_is_named_and_not_created(
    started: list[list[str]], in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr().err
    assert end.value.code == 2
    for part in (f"{in_folder}/mlflow.db", "make demo", "UNMASK_HOME", "MLFLOW_TRACKING_URI"):
        assert part in told
    assert list(in_folder.iterdir()) == []
    assert started == []
