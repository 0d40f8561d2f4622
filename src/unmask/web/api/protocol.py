"""HTTP as uvicorn speaks it, with a limit to how long the head of a request may take to come in."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def limit_heads(seconds: float) -> type[H11Protocol]:
    """Return the protocol; uvicorn itself waits for a head without end, and holds the connection.

    Args:
        seconds: From the first byte of a connection, or of its next request, to the end of the head.
    """

    class PunctualProtocol(H11Protocol):
        """Closes a connection whose request does not begin in time."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Wait for the first head."""
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self.transport.close)

        def data_received(self, data: bytes) -> None:
            """Stop waiting once a head is whole, and wait for the next one from its first byte."""
            super().data_received(data)
            is_at_work = self.cycle is not None and not self.cycle.response_complete
            if is_at_work:
                self._stop_waiting()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._close_if_waiting)

        def _close_if_waiting(self) -> None:
            self._timer = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            """Forget the timer."""
            self._stop_waiting()
            super().connection_lost(exc)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return PunctualProtocol
