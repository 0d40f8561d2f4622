"""SIGKILL at any moment, and the same command again: the same tables and crops, byte for byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.preparation.test_shards import _contents
from tests.sessions import open_session, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("kind", "least"), [("whole", 45), ("common", 60), ("separate", 60)])
def test_death_at_any_change_of_a_file_leaves_no_trace(tmp_path: Path, kind: str, least: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.preparation.killed", kind, str(tmp_path)], cwd=REPOSITORY, check=False, text=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least  # of crops, journals, notes, tables, lists and the report


def _command(synthetic_root: Path, *more: str) -> tuple[str, ...]:
    source = ("source=ffpp", f"source.root={synthetic_root}", f"source.splits={synthetic_root}/splits")
    return (str(REPOSITORY / "prepare.py"), *source, "output=faces", "num_workers=2", "crop.crop_size=64",
            "crop.num_frames=4", *more)  # fmt: skip


def _run(home: Path, *command: str) -> None:
    home.mkdir(exist_ok=True)
    with open_session(home, *command) as process:
        assert process.wait(600) == 0, (home / "output.txt").read_text()


@pytest.mark.parametrize("shards", [(), ("shard=1/2", "shard=2/2")], ids=["whole", "shards"])
def test_death_at_random_moments_with_two_workers(
    synthetic_root: Path, tmp_path: Path, shards: tuple[str, ...]
) -> None:
    _run(tmp_path / "whole", *_command(synthetic_root))
    home, moments = tmp_path / "killed", random.Random(0)
    home.mkdir()
    for shard in shards or ("shard=null",):
        command = _command(synthetic_root, shard)
        suffix = f".{shard.removeprefix('shard=').replace('/', '-of-')}" if shards else ""
        journal = home / "faces" / f"prepare{suffix}.jsonl"
        for least in moments.sample(range(1, 15), 3):
            with open_session(home, *command) as process:
                wait_until(
                    lambda: process.poll() is not None or (
                        journal.is_file() and len(journal.read_text().splitlines()) >= least  # noqa: B023
                    ),
                    seconds=300,
                )  # fmt: skip
                time.sleep(moments.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
        _run(home, *command)
    if shards:
        assert not (home / "faces" / "dataset.json").exists()
        _run(home, command[0], "task=merge", "output=faces")
    assert _contents(home / "faces") == _contents(tmp_path / "whole" / "faces")
    assert len(_contents(home / "faces")) >= 3 + 150
    assert not [path for path in (home / "faces").rglob("*") if ".part" in path.name or path.name.startswith(".")]
