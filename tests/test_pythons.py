from pathlib import Path

import pytest
import yaml
from tests import pythons
from tests.pythons import Interpreter, choose, find_interpreter, list_supported, main

REPOSITORY = Path(__file__).parents[1]


def write_python(folder: Path, name: str, *, version: str) -> Path:
    """Write a python that answers every question with its version."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Python: `bin` is its PATH, `pyenv` its pyenv."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(pythons, "find_uv", lambda: "/bin/false")
    return tmp_path


def test_a_python_is_found_on_the_path_and_else_the_newest_of_pyenv(machine: Path) -> None:
    assert find_interpreter("3.12") is None
    write_python(machine, "pyenv/versions/3.12.9/bin/python", version="3.12")
    newest = write_python(machine, "pyenv/versions/3.12.10/bin/python", version="3.12")
    assert find_interpreter("3.12") == Interpreter("3.12", newest)
    shim = write_python(machine, "bin/python3.12", version="")  # of pyenv, for a version that is not chosen
    assert find_interpreter("3.12") == Interpreter("3.12", newest)
    write_python(machine, "bin/python3.12", version="3.12")
    assert find_interpreter("3.12") == Interpreter("3.12", shim)


@pytest.mark.parametrize(
    ("what", "chosen"),
    [("locked", ["3.11", "3.12", "3.13"]), ("latest", ["3.13"]), ("lowest", ["3.11"]), ("smoke", ["3.12"])],
)
def test_each_run_is_on_the_pythons_at_its_end(monkeypatch: pytest.MonkeyPatch, what: str, chosen: list[str]) -> None:
    monkeypatch.setattr(pythons.sys, "version_info", (3, 13, 0))
    found = [Interpreter(version, Path(f"python{version}")) for version in ("3.11", "3.12", "3.13")]
    assert [interpreter.version for interpreter in choose(what, found)] == chosen


def call_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(pythons.sys, "argv", ["pythons.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_failure_on_one_python_fails_the_run_and_missing_ones_are_named(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("3.11", "3.13"):
        write_python(machine, f"bin/python{version}", version=version)
    monkeypatch.setattr(pythons, "install_locked", lambda interpreter: Path(interpreter.version))
    monkeypatch.setattr(pythons, "run_tests", lambda environment, options: environment.name == "3.13")
    assert call_main(monkeypatch, "locked") == 1
    last = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split(",")[0].split(":")[0] for line in last] == [
        f"Python {v}" for v in ("3.11", "3.13", "3.12", "3.14")
    ]
    assert ["FAILED" in last[0], "passed" in last[1], "not found" in last[2], "not found" in last[3]] == [True] * 4
    assert call_main(monkeypatch, "locked", "--only", "3.13") == 0


def test_a_set_up_that_fails_fails_the_run(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_python(machine, "bin/python3.12", version="3.12")
    monkeypatch.setattr(pythons, "call", lambda *command: pythons.subprocess.run(["/bin/false"], check=True))
    assert call_main(monkeypatch, "lowest") == 1


def test_without_another_python_the_smoke_test_says_so(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call_main(monkeypatch, "smoke") == 0
    assert "Nothing was run" in capsys.readouterr().out


def test_the_workflow_runs_every_supported_python_and_targets_that_exist() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    jobs = workflow["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == list_supported()
    ends = {entry["target"]: entry["python"] for entry in jobs["bounds"]["strategy"]["matrix"]["include"]}
    assert ends == {"test-latest": list_supported()[-1], "test-lowest": list_supported()[0]}
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in ("test", *ends))


def test_the_hooks_are_the_tools_of_make_lint() -> None:
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    lint = (REPOSITORY / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for entry in entries:
        tool = " ".join(entry.removeprefix(".venv/bin/").split()[:2]).partition(" --")[0]
        assert f"$(BIN)/{tool}" in lint
