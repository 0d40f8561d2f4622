"""HTTP as uvicorn speaks it, with limits: how many connections there are, and how long a head takes to come in."""

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger("unmask.web.api")


def limit_connections(most: int, *, head_seconds: float) -> type[H11Protocol]:
    """Return the protocol; uvicorn itself holds any number of connections, and waits for a head without end.

    Args:
        most: Connections, with a request or without one.
        head_seconds: From the first byte of a connection, or of its next request, to the end of the head.
    """

    class PunctualProtocol(H11Protocol):
        """Closes a connection that is one too many, or whose request does not begin in time."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Wait for the first head."""
            super().connection_made(transport)
            if len(self.connections) > most:
                logger.warning("too many connections", extra={"connections": most})
                transport.abort()
                return
            self._timer = self.loop.call_later(head_seconds, self.transport.close)

        def data_received(self, data: bytes) -> None:
            """Stop waiting once a head is whole, and wait for the next one from its first byte."""
            super().data_received(data)
            is_at_work = self.cycle is not None and not self.cycle.response_complete
            if is_at_work:
                self._stop_waiting()
            elif self._timer is None:
                self._timer = self.loop.call_later(head_seconds, self._close_if_waiting)

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
