import sys
from pathlib import Path

import pytest

from unmask.cli.train import leave_folder_to_first


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py", "trainer=ddp"])
    return sys.argv


def test_first_process_has_the_run_folder(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    leave_folder_to_first()
    assert arguments == ["train.py", "trainer=ddp"]


def test_another_process_writes_where_it_is_removed(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    leave_folder_to_first()
    (folder, output) = sys.argv[2:]
    path = Path(folder.removeprefix("hydra.run.dir="))
    assert path.is_dir()
    assert output == "hydra.output_subdir=null"


def test_folder_of_the_command_line_is_for_all_processes(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments.append('hydra.run.dir="outputs/train/first"')  # as Lightning tells the processes that it starts
    monkeypatch.setenv("LOCAL_RANK", "1")
    leave_folder_to_first()
    assert sys.argv == ["train.py", "trainer=ddp", 'hydra.run.dir="outputs/train/first"']
