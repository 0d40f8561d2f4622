import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

from unmask.cli.main import COMMANDS, main
from unmask.paths import CONSOLE_VARIABLE, show_command

Run = Callable[..., tuple[int, str, str]]

UNMASK = Path(sys.executable).with_name("unmask")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv(CONSOLE_VARIABLE, "")
    monkeypatch.delenv(CONSOLE_VARIABLE)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return (code, *capfd.readouterr())

    return run


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_every_command_is_listed(run: Run, arguments: tuple[str, ...]) -> None:
    code, shown, _ = run(*arguments)
    assert code == 0
    assert {line.split()[0] for line in shown.splitlines() if line.startswith("  ")} == set(COMMANDS)


def test_a_misspelt_command_gets_a_suggestion_and_the_list(run: Run) -> None:
    code, _, told = run("trian", "dataset.root=x")
    assert code == 2
    for text in ("'trian'", "'train'", *COMMANDS):
        assert text in told


def test_the_version_is_printed(run: Run) -> None:
    from unmask import __version__

    assert run("--version") == (0, f"unmask {__version__}\n", "")


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "predict", "serve"])
def test_a_command_takes_the_flags_and_keys_of_its_script(run: Run, name: str) -> None:
    code, shown, _ = run(name, "--cfg", "job", *(["paths.root=elsewhere"]))
    assert code == 0
    assert "root: elsewhere" in shown
    assert getattr(sys.modules["__main__"].__spec__, "name", None) == f"unmask.cli.{name}"


def test_commands_are_shown_as_they_were_typed(run: Run) -> None:
    assert show_command("train.py", "a=b c") == "python train.py 'a=b c'"
    run("train", "--cfg", "job", "dataset.root=x")
    assert show_command("train.py", "a=b c") == "unmask train 'a=b c'"


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.skipif(not UNMASK.exists(), reason="the console script is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unmask pre", {"prepare", "predict"}),
        ("unmask train optimizer=ad", {"optimizer=adam", "optimizer=adamw"}),
        ("unmask train optimizer.weight", {"optimizer.weight_decay="}),
        ("unmask app ", set()),
        ("python train.py scheduler=co", {"scheduler=cosine"}),
    ],
)
def test_bash_completes_commands_options_and_keys(line: str, expected: set[str]) -> None:
    script = f"""
        eval "$({"unmask" if line.startswith("unmask") else "python train.py"} -sc install=bash)"
        COMP_LINE="{line}" COMP_POINT={len(line)}
        read -ra COMP_WORDS <<< "$COMP_LINE"
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        hydra_bash_completion
        echo "${{COMPREPLY[@]}}"
    """
    environment = os.environ | {"PATH": f"{UNMASK.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert set(done.stdout.split()) == expected, done.stderr
