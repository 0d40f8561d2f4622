"""Handle Ctrl-C and SIGTERM: training stops at the next point from which it can be resumed."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from unmask.errors import Interrupted

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody wants the training to end.

    A signal while batches are trained is kept until the next one is done, so that the checkpoint holds whole steps; at
    any other time, and the second time, it ends the process at once, by an `Interrupted`.
    """

    def __init__(self) -> None:
        self.is_training = False
        self.signal_number: int | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take over both signals for a while. Only the main thread can; in another one nothing is changed."""
        before = self.take_signals()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def take_signals(self) -> dict[signal.Signals, Any]:
        """Take over both signals, and return who had them."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._notice) for number in SIGNALS}

    def _notice(self, number: int, frame: FrameType | None) -> None:
        is_first, self.signal_number = self.signal_number is None, number
        if not (self.is_training and is_first):
            raise Interrupted(number)
        logger.warning(
            "%s: stopping after this step; while validating, after this epoch. A second time stops at once.",
            signal.Signals(number).name,
        )


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Make an `Interrupted` of SIGTERM, so that what is open is closed; Ctrl-C makes a KeyboardInterrupt by itself."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():  # which alone can
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
