"""Worker and child processes that exit with their parent, even if it is killed.

`multiprocessing` workers notice the end of their parent through its pipe. Commands run as separate processes (stages
of the demo, jobs of a sweep, ranks of multi-device training) read the process that started them from the environment
and poll it.
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
"""Environment variable that identifies the starting process by more than its pid, which the system may reuse."""

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_END = 10.0
_PR_SET_PDEATHSIG = 1
_WATCH = "watch-starter"


def end_with_parent(*, is_of_main_thread: bool = False) -> None:
    """Make this `multiprocessing` worker exit as soon as its parent does.

    Args:
        is_of_main_thread: Whether the parent's main thread started the worker. If so, the kernel kills the worker too,
            even while other code holds the GIL. The kernel watches the starting thread, not the process, so this is
            unsafe for threads that may end earlier.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if is_of_main_thread and os.getppid() == parent.pid:  # differs when a fork server started the worker
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
    """Initialize a worker process: ignore signals and exit with the parent.

    Terminals and schedulers also signal the workers; only the parent handles signals.

    Args:
        is_of_main_thread: See `end_with_parent`.
        initializer: Function called last, if any.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    end_with_parent(is_of_main_thread=is_of_main_thread)
    if initializer is not None:
        initializer()


@contextlib.contextmanager
def open_pool(num_workers: int, *, initializer: Callable[[], object] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of worker processes. On an error workers finish their current job; on a signal they are killed.

    Args:
        num_workers: Number of processes.
        initializer: Picklable function called in each worker at its start.
    """
    start = partial(start_worker, is_of_main_thread=_is_main_thread(), initializer=initializer)
    # Spawn, not fork: a progress bar's thread may hold a lock at the moment of the fork.
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
    """Return the `DataLoader` arguments that control how its worker processes start.

    Args:
        num_workers: Number of worker processes; 0 loads in the main process.
    """
    if num_workers == 0:
        return {}
    # Forked workers start at once; spawned ones import torch again, which takes half a minute for four of them.
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
    """Record this process in the environment as the starter of its future child processes."""
    name = _name_process(os.getpid())
    if name is not None:
        os.environ[STARTER_VARIABLE] = name


def end_with_starter() -> None:
    """Make this process exit once the Unmask command that started it has ended, if one did.

    It receives SIGTERM first, so that training can write its checkpoint, and SIGKILL some seconds later. So do other
    processes with the same starter that do not watch it themselves, such as a launcher's idle workers.
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
    """Return an ID that outlives pid reuse: machine, pid and start time; None if the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no such process, or not Linux
        return None
    return None if fields[0] in "ZX" else f"{_name_machine()}:{pid}:{fields[19]}"


def _name_machine() -> str:
    """Return the scope in which a pid is unique: boot, pid namespace (container) and SLURM job."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{os.environ.get('SLURM_JOB_ID', '')}"


def _is_of_this_machine(starter: str) -> bool:
    try:
        return starter.rsplit(":", 2)[0] == _name_machine()
    except OSError:  # not Linux
        return False


def _list_started_by(starter: str) -> list[int]:
    """Return the pids of processes whose environment names the starter, this process last."""
    entry = f"{STARTER_VARIABLE}={starter}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # ended in the meantime, or owned by another user
            if folder.name.isdigit() and entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()] + [os.getpid()]


def wait_for(process: "subprocess.Popen[Any]") -> int:
    """Wait for a command and return its exit code; on shutdown, terminate the command first."""
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal has sent it to both processes
        process.wait()
        raise
    except BaseException:
        process.terminate()
        process.wait()
        raise
