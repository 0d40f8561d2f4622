import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.pythons import PROJECT, list_supported

REPOSITORY = Path(__file__).parents[1]
DOCUMENTED = [
    *("help", "setup", "demo", "test", "test-pythons", "test-latest", "test-lowest", "smoke", "lint", "format"),
    *("ui", "app", "bench", "clean"),
]


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


@pytest.mark.parametrize("target", [target for target in DOCUMENTED if target not in ("help", "setup", "clean")])
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
    assert "'python3.99'" in done.stdout
    assert "make setup PYTHON=" in done.stdout
    assert all(version in done.stdout for version in list_supported())


def test_setup_with_another_python_says_which_is_needed(checkout: Path) -> None:
    write_python(checkout / "old", version="3.9.1", code=1)
    done = make(checkout, "setup", "PYTHON=./old")
    assert done.returncode != 0
    assert "Python 3.9.1 is not supported" in done.stdout
    assert all(version in done.stdout for version in list_supported())
    assert not (checkout / ".venv" / ".ready").exists()


def test_setup_begins_anew_where_an_environment_was_left_unfinished(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    write_python(checkout / ".venv" / "bin" / "python", version="3.11.0", code=1)  # has no pip
    (checkout / "new").write_text('#!/bin/sh\ncase "$*" in "-m venv"*) echo "asked: $*"; exit 1;; esac\n')
    (checkout / "new").chmod(0o755)
    assert "asked: -m venv --clear .venv" in make(checkout, "setup", "PYTHON=./new").stdout


def test_setup_takes_exactly_the_pythons_that_the_project_names() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    (bounds,) = re.findall(r"not \((\d+), (\d+)\) <= sys\.version_info\[:2\] < \((\d+), (\d+)\)", makefile)
    lowest, above = "{}.{}".format(*bounds[:2]), "{}.{}".format(*bounds[2:])
    assert PROJECT["project"]["requires-python"] == f">={lowest},<{above}"
    supported = list_supported()
    assert (supported[0], f"3.{int(supported[-1].removeprefix('3.')) + 1}") == (lowest, above)
    assert "python_version" not in PROJECT["tool"]["mypy"]  # NumPy has other stubs for each Python
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"


def test_setup_with_another_python_builds_the_environment_anew(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    write_python(checkout / ".venv" / "bin" / "python", version="3.11.0", code=0)
    write_python(checkout / "same", version="3.11.0", code=0)
    write_python(checkout / "other", version="3.13.0", code=0)
    (checkout / ".venv" / ".ready").touch()
    assert make(checkout, "--question", "setup", "PYTHON=./same").returncode == 0
    assert make(checkout, "--question", "setup", PYTHON="./other").returncode == 0  # of the environment: not asked for
    assert "./other -m venv --clear .venv" in make(checkout, "--dry-run", "setup", "PYTHON=./other").stdout


def test_a_python_can_be_named_by_its_version_alone(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    planned = make(checkout, "--dry-run", "setup", "PYTHON=3.13").stdout
    assert "python3.13 -m venv --clear .venv" in planned
    assert "(PYTHON)" not in planned


def test_an_environment_of_another_name_is_set_up_in_its_own_folder(checkout: Path) -> None:
    planned = make(checkout, "--dry-run", "setup", "VENV=.venv-3.13").stdout
    assert "-m venv --clear .venv-3.13" in planned
    assert ".venv/" not in planned


def test_clean_keeps_runs_and_data(checkout: Path) -> None:
    kept = [checkout / name for name in ("outputs", "data", "mlflow.db", ".venv")]
    for path in [*kept, checkout / "build", checkout / ".pytest_cache", checkout / "src" / "__pycache__"]:
        path.mkdir(parents=True)
    assert make(checkout, "clean").returncode == 0
    assert all(path.exists() for path in kept)
    assert not [path for path in checkout.rglob("*") if path.name in ("build", ".pytest_cache", "__pycache__")]
