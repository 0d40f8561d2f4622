import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
DOCUMENTED = ["help", "setup", "demo", "test", "lint", "format", "ui", "app", "bench", "clean"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make looks at, without an environment."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=known | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def write_python(path: Path, *, version: str, code: int) -> None:
    """Write a python that answers every command with an exit code."""
    path.write_text(f'#!/bin/sh\ntest "$1" = --version && echo "Python {version}" && exit 0\nexit {code}\n')
    path.chmod(0o755)


def test_make_alone_prints_every_target_with_its_help(checkout: Path) -> None:
    lines = make(checkout).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["make", target] for target in DOCUMENTED]
    assert all(len(line.split()) > 3 for line in lines)


def test_no_file_can_hide_a_target(checkout: Path) -> None:
    text = (checkout / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, flags=re.MULTILINE))
    assert targets == set(re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)[0].split())


@pytest.mark.parametrize("target", ["demo", "test", "lint", "format", "ui", "app", "bench"])
def test_a_target_sets_everything_up_first(checkout: Path, target: str) -> None:
    planned = make(checkout, "--dry-run", target).stdout
    install = planned.index("pip install --python .venv/bin/python --no-deps --require-hashes -r requirements.lock")
    assert planned.index("-m venv") < install < planned.rindex(".venv/bin/")


def test_a_second_setup_does_nothing(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".ready").touch()
    assert "Nothing to be done" in make(checkout, "setup").stdout
    os.utime(checkout / ".venv" / ".ready", (0, 0))  # older than the lock
    assert make(checkout, "--question", "setup").returncode == 1


def test_setup_without_python_says_what_to_install(checkout: Path) -> None:
    done = make(checkout, "setup", "PYTHON=python3.99")
    assert done.returncode != 0
    assert "No 'python3.99' found. Install Python 3.11 or 3.12, or name one: make setup PYTHON=" in done.stdout


def test_setup_with_another_python_says_which_is_needed(checkout: Path) -> None:
    write_python(checkout / "old", version="3.9.1", code=1)
    done = make(checkout, "setup", "PYTHON=./old")
    assert done.returncode != 0
    assert "Python 3.9.1 is not supported. Use Python 3.11 or 3.12" in done.stdout
    assert not (checkout / ".venv" / ".ready").exists()


def test_setup_begins_anew_where_an_environment_was_left_unfinished(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    write_python(checkout / ".venv" / "bin" / "python", version="3.11.0", code=1)  # has no pip
    (checkout / "new").write_text('#!/bin/sh\ncase "$*" in "-m venv"*) echo "asked: $*"; exit 1;; esac\n')
    (checkout / "new").chmod(0o755)
    assert "asked: -m venv --clear .venv" in make(checkout, "setup", "PYTHON=./new").stdout


def test_clean_keeps_runs_and_data(checkout: Path) -> None:
    kept = [checkout / name for name in ("outputs", "data", "mlflow.db", ".venv")]
    for path in [*kept, checkout / "build", checkout / ".pytest_cache", checkout / "src" / "__pycache__"]:
        path.mkdir(parents=True)
    assert make(checkout, "clean").returncode == 0
    assert all(path.exists() for path in kept)
    assert not [path for path in checkout.rglob("*") if path.name in ("build", ".pytest_cache", "__pycache__")]
