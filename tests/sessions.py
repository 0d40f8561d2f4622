"""Commands in a session of their own, of which no process may be left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from tests.conftest import REPOSITORY


@contextmanager
def open_session(home: Path, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a Python command in a session of its own; whatever is left of it at the end is killed."""
    with (home / "output.txt").open("a+") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=home, stdout=output, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "UNMASK_HOME": str(home), "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            for left in list_session(process.pid):
                left.kill()
            process.wait()


def list_session(number: int) -> list[psutil.Process]:
    """Return the processes of a session that live."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == number and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Return whether a condition came to hold in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def assert_none_left(process: "subprocess.Popen[str]", number: int, *, seconds: float) -> int:
    """Send a command a signal, and return its exit code; no process of its session may be left after some seconds."""
    process.send_signal(number)
    code = process.wait(timeout=120 if number != signal.SIGKILL else 10)
    assert wait_until(lambda: not list_session(process.pid), seconds=seconds), [
        left.cmdline() for left in list_session(process.pid)
    ]
    return code
