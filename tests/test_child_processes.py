import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.sessions import assert_none_left, list_session, open_session, wait_until

from unmask import processes
from unmask.processes import STARTER_VARIABLE, describe_loader, mark_children

POOL = """
import time
from unmask.processes import open_pool
from unmask.training.interruption import ending_on_sigterm
if __name__ == "__main__":
    with ending_on_sigterm(), open_pool(2) as pool:
        list(pool.map(time.sleep, [600, 600]))
"""

CHILD = """
import os, subprocess, sys, time
from unmask.processes import end_with_starter, mark_children, wait_for
from unmask.training.interruption import ending_on_sigterm
end_with_starter()
mark_children()
with ending_on_sigterm():
    if sys.argv[1] == "0":
        time.sleep(600)
    wait_for(subprocess.Popen([sys.executable, __file__, str(int(sys.argv[1]) - 1)]))
"""

PREPARE = """
import os, time
from pathlib import Path
from unmask.preparation.prepare import prepare
from unmask.errors import Interrupted
from unmask.faces.spec import CropSpec
from unmask.training.interruption import ending_on_sigterm
from unmask.types import Label, Video

class Slow:
    name, weights_sha256 = "slow", ""
    def detect(self, images):
        Path(f"at-work-{os.getpid()}").touch()
        time.sleep(600)

class Listed:
    name = "listed"
    def list_videos(self):
        return [Video(f"listed/{n}", Path(f"{n}.mp4"), Label(n), "original" if n == 0 else "FaceSwap") for n in (0, 1)]

if __name__ == "__main__":
    with ending_on_sigterm():
        prepare(
            Listed(), output=Path("faces"), detector=Slow(), spec=CropSpec("slow", num_frames=1),
            fractions={"train": 0.7, "val": 0.15, "test": 0.15}, seed=0, num_workers=2,
        )
"""


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pool_leaves_no_process(tmp_path: Path, number: int) -> None:
    with open_session(tmp_path, _write(tmp_path / "pool.py", POOL)) as process:
        assert wait_until(lambda: len(list_session(process.pid)) == 4, seconds=30)  # the tracker of resources is one
        assert_none_left(process, number, seconds=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_command_that_another_one_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.delenv(STARTER_VARIABLE, raising=False)
    with open_session(tmp_path, _write(tmp_path / "child.py", CHILD), "2") as process:
        assert wait_until(lambda: len(list_session(process.pid)) == 3, seconds=30)
        assert_none_left(process, number, seconds=8)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_prepare_leaves_no_process_and_no_half_video(tmp_path: Path, number: int) -> None:
    import numpy as np

    from unmask.media.encode import write_video

    for name in "01":
        write_video(tmp_path / f"{name}.mp4", [np.zeros((64, 64, 3), np.uint8)], fps=25)
    with open_session(tmp_path, _write(tmp_path / "run.py", PREPARE)) as process:
        assert wait_until(lambda: len(list(tmp_path.glob("at-work-*"))) == 2, seconds=60)
        assert_none_left(process, number, seconds=5)
    assert not list(tmp_path.glob("faces/crops/*/*"))


def test_starter_of_another_machine_or_start_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import threading, unmask.processes as p; p.end_with_starter(); "
        "print([thread.name for thread in threading.enumerate()])"
    )
    mark_children()
    marked = os.environ[STARTER_VARIABLE]
    for starter, is_watched in ((marked, True), (f"another/machine/:{os.getpid()}:1", False), ("", False)):
        environment = {**os.environ, STARTER_VARIABLE: starter, "PYTHONPATH": str(REPOSITORY / "src")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert ("watch-starter" in done.stdout) is is_watched


def test_system_without_these_means_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STARTER_VARIABLE, raising=False)
    monkeypatch.setattr(processes.sys, "platform", "darwin")
    monkeypatch.setattr(processes, "Path", lambda path: Path("/nowhere") / path.lstrip("/"))
    mark_children()
    assert STARTER_VARIABLE not in os.environ
    processes.end_with_starter()
    processes._ask_kernel()
    assert describe_loader(0) == {}
    assert set(describe_loader(2)) == {"multiprocessing_context", "worker_init_fn"}
