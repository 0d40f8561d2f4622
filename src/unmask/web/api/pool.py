"""Processes that score: a pool that is made anew when it breaks."""

import contextlib
import logging
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from threading import RLock, Thread
from typing import Any

from pebble import ProcessPool

logger = logging.getLogger("unmask.web.api")


_SECONDS_WITHOUT_WORK = 300.0  # a process loads the model first, from a disk that may be slow
_SECONDS_TO_END = 30.0  # each process gets three before it is killed


class Pool:
    """A pool of processes that outlives the death of any of them.

    pebble replaces a process that dies at its work. One that dies while it waits may hold the lock that all share, and
    the whole pool is of no use any more; it is replaced then, and what it was given ends with a `BrokenProcessPool`.
    So is one whose processes take up nothing for minutes, such as where they hang as they start.

    Args:
        num_workers: Processes.
        initializer: Called in each as it starts.
        arguments: Of the initializer.
    """

    def __init__(self, num_workers: int, initializer: Callable[..., None], *arguments: Any) -> None:
        self._num_workers, self._initializer, self._arguments = num_workers, initializer, arguments
        self._lock = RLock()
        self._is_stopped = False
        self._open: set[Future[Any]] = set()
        self._idle_since: float | None = None
        self._pool = self._make()

    def _make(self) -> ProcessPool:
        # Spawned: a forked process would share the threads and sockets of this one in an undefined state.
        return ProcessPool(
            max_workers=self._num_workers, context=multiprocessing.get_context("spawn"),
            initializer=self._initializer, initargs=self._arguments,
        )  # fmt: skip

    def schedule(self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> "Future[Any]":
        """Give a call to the next process that is free.

        Args:
            function: Of a module that the processes can import.
            arguments: Of the call.
            timeout: Seconds after which its process is ended; None for none.

        Raises:
            RuntimeError: The pool has been stopped.
        """
        with self._lock:
            self.mend()
            task: Future[Any] = self._pool.schedule(function, args=arguments, timeout=timeout)
            self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    def mend(self) -> None:
        """Make the pool anew if it is broken; to be called now and then."""
        with self._lock:
            if self._is_stopped or (self._pool.active and not self._has_stalled()):
                return
            logger.warning("The processes broke and are started anew.")
            Thread(target=_end, args=(self._pool, self._open), daemon=True).start()  # which may take seconds
            self._pool, self._open, self._idle_since = self._make(), set(), None

    def _has_stalled(self) -> bool:
        """Tell whether calls have waited for long, and no process was at work whenever this was asked."""
        calls = [call for call in self._open.copy() if not call.done()]
        if not calls or any(call.running() for call in calls):
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or time.monotonic()
        return time.monotonic() - self._idle_since > _SECONDS_WITHOUT_WORK

    def stop(self) -> None:
        """End the processes, whatever they do."""
        with self._lock:
            self._is_stopped = True
        _end(self._pool, set())


def _end(pool: ProcessPool, tasks: "set[Future[Any]]") -> None:
    """End a pool, and those of its tasks that it forgot: of its own threads only one may have died."""
    pool.stop()  # type: ignore[no-untyped-call]
    # pebble waits without end for a thread that reads what a killed process did not write to the end.
    ending = Thread(target=_join, args=(pool,), daemon=True)
    ending.start()
    ending.join(_SECONDS_TO_END)
    if ending.is_alive():
        logger.warning("The processes did not end within %g s.", _SECONDS_TO_END)
    for task in list(tasks):
        with contextlib.suppress(InvalidStateError):  # it ended meanwhile
            task.set_exception(BrokenProcessPool("the processes broke"))


def _join(pool: ProcessPool) -> None:
    with contextlib.suppress(RuntimeError):  # of a pool that never started
        pool.join()
