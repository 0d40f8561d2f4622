"""Processes that end with the one that started them, whatever ends that one.

Two kinds are started. Workers of `multiprocessing` see the end of their parent by the pipe that it holds. Commands that
run as processes of their own (stages of the demo, jobs of a sweep, processes of a training on several devices) find in
the environment who started them, and watch it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

STARTER_VARIABLE = "UNMASK_STARTER"
"""Names the command that started this process, so that its pid given anew is not taken for it."""

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_END = 10.0
_PR_SET_PDEATHSIG = 1
_WATCH = "watch-starter"


def end_with_parent(*, is_of_main_thread: bool = False) -> None:
    """Let this worker process of `multiprocessing` end as soon as its parent has.

    Args:
        is_of_main_thread: Whether the parent's main thread started it. Then the kernel ends it too, even where other
            code holds the interpreter; the kernel looks at the thread, so one that may end sooner cannot be used.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if is_of_main_thread and os.getppid() == parent.pid:  # a fork server stands between them otherwise
        _ask_kernel()
        if os.getppid() != parent.pid:
            os._exit(1)
    threading.Thread(target=_exit_after, args=(parent,), name="watch-parent", daemon=True).start()


def _ask_kernel() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def start_worker(*, is_of_main_thread: bool = False, initializer: Callable[[], object] | None = None) -> None:
    """Make a worker process ready: it ends with its parent, which alone decides what a signal means.

    A terminal or a scheduler sends signals to the workers too.

    Args:
        is_of_main_thread: See `end_with_parent`.
        initializer: Called at the end.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    end_with_parent(is_of_main_thread=is_of_main_thread)
    if initializer is not None:
        initializer()


@contextlib.contextmanager
def open_pool(num_workers: int, *, initializer: Callable[[], object] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Have worker processes for a while. An error lets them finish what they do; a signal ends them at once.

    Args:
        num_workers: Processes.
        initializer: Picklable; called in each as it starts.
    """
    start = partial(start_worker, is_of_main_thread=_is_main_thread(), initializer=initializer)
    # Spawned, not forked: the thread of a progress bar may hold a lock at the moment of a fork.
    pool = ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn"), initializer=start)
    with pool:
        try:
            yield pool
        except BaseException as error:
            if not isinstance(error, Exception):
                _kill_workers(pool)
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _kill_workers(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()


def describe_loader(num_workers: int) -> dict[str, Any]:
    """Return the arguments of a `DataLoader` that say how its worker processes start.

    Args:
        num_workers: Processes; with 0 there are none.
    """
    if num_workers == 0:
        return {}
    # Forked workers start in no time; spawned ones import torch anew, half a minute for four of them.
    context = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    return {
        "multiprocessing_context": context,
        "worker_init_fn": partial(_start_loader_worker, is_of_main_thread=_is_main_thread()),
    }


def _start_loader_worker(number: int, *, is_of_main_thread: bool) -> None:
    del number
    start_worker(is_of_main_thread=is_of_main_thread)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def mark_children() -> None:
    """Name this process in the environment as the starter of those that it starts from now on."""
    name = _name_process(os.getpid())
    if name is not None:
        os.environ[STARTER_VARIABLE] = name


def end_with_starter() -> None:
    """Let this process end when the command that started it has ended; nothing where no command of ours did.

    It is asked to end as by SIGTERM, so that a training writes its checkpoint, and killed some seconds later. Other
    processes of the same starter that do not watch it, such as the idle workers of a launcher, end with it.
    """
    starter = os.environ.get(STARTER_VARIABLE)
    is_watching = any(thread.name == _WATCH for thread in threading.enumerate())
    if starter is None or is_watching or not _is_of_this_machine(starter) or starter == _name_process(os.getpid()):
        return
    threading.Thread(target=_watch, args=(starter,), name=_WATCH, daemon=True).start()


def _watch(starter: str) -> None:
    pid = int(starter.rsplit(":", 2)[1])
    while _name_process(pid) == starter:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for left in _list_started_by(starter):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(left, number)
        time.sleep(_SECONDS_TO_END)


def _name_process(pid: int) -> str | None:
    """Return what names a process for good: where its pid holds, the pid, and when it started; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no such process, or no Linux
        return None
    return None if fields[0] in "ZX" else f"{_name_machine()}:{pid}:{fields[19]}"


def _name_machine() -> str:
    """Return where a pid holds: this start of this machine, this container; a job of SLURM is on its own."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{os.environ.get('SLURM_JOB_ID', '')}"


def _is_of_this_machine(starter: str) -> bool:
    try:
        return starter.rsplit(":", 2)[0] == _name_machine()
    except OSError:  # no Linux
        return False


def _list_started_by(starter: str) -> list[int]:
    """Return the processes whose environment names the starter, this one last."""
    entry = f"{STARTER_VARIABLE}={starter}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            if folder.name.isdigit() and entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()] + [os.getpid()]


def wait_for(process: "subprocess.Popen[Any]") -> int:
    """Wait for a command, and return its exit code; where this process is to end, let the command end first."""
    try:
        return process.wait()
    except KeyboardInterrupt:  # which the terminal sends to both
        process.wait()
        raise
    except BaseException:
        process.terminate()
        process.wait()
        raise
