"""HTTP as uvicorn speaks it, with limits: how many connections there are, and how long a head takes to come in."""

import asyncio
import json
import logging
import uuid
from collections.abc import Sequence
from typing import Any

import h11
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from unmask.web.api.problems import MEDIA_TYPE, Problem, describe_problem
from unmask.web.api.shares import Places, name_address

logger = logging.getLogger("unmask.web.api")


_NOT_HTTP = Problem(
    400, "not_http", "What came in is not HTTP as RFC 9112 has it, or its head is too long. Ask with an HTTP client."
)


def limit_connections(most: int, *, head_seconds: float, trusted: Sequence[str] = ()) -> type[H11Protocol]:
    """Return the protocol; uvicorn itself holds any number of connections, and waits for a head without end.

    Args:
        most: Connections, with a request or without one.
        head_seconds: From the first byte of a connection, or of its next request, to the end of the head.
        trusted: Proxies, which may have any number of them; any other address has no more than are still free.
    """
    places = Places(most)
    proxies = ProxyHeadersMiddleware(_answer_nothing, trusted_hosts=list(trusted)).trusted_hosts

    class PunctualProtocol(H11Protocol):
        """Closes a connection that is one too many, or whose request does not begin in time."""

        _timer: asyncio.TimerHandle | None = None
        _peer: str | None = None
        _has_place = False

        def connection_made(self, transport: Any) -> None:
            """Wait for the first head."""
            super().connection_made(transport)
            host = self.client[0] if self.client else None
            self._peer = None if host is None or host in proxies else name_address(host)
            self._has_place = places.take(self._peer)
            if not self._has_place:
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
            if self._has_place:
                self._has_place = False
                places.give(self._peer)
            super().connection_lost(exc)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def send_400_response(self, msg: str) -> None:
            """Answer what is not HTTP, in the words of every other problem."""
            request_id = uuid.uuid4().hex
            body = json.dumps(describe_problem(_NOT_HTTP, instance="", root_path="", request_id=request_id)).encode()
            headers = {
                "content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close",
                "x-request-id": request_id, "x-content-type-options": "nosniff",
            }  # fmt: skip
            head = h11.Response(status_code=_NOT_HTTP.status, headers=list(headers.items()), reason=b"Bad Request")
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return PunctualProtocol


async def _answer_nothing(*_: Any) -> None:
    """Stand for an application, which uvicorn's list of trusted addresses asks for."""
