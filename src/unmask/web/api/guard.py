"""What a request passes before a route is looked up: connection limits, proxies, hosts, origins and framing."""

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Collection, Container, Sequence
from http import HTTPStatus
from typing import Any

import h11
from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from unmask.web.api.responses import MEDIA_TYPE, Problem, answer, describe_problem
from unmask.web.api.settings import PREFIX, clean_prefix
from unmask.web.api.shares import Places, name_address
from unmask.web.api.uploads import refuse

FORWARDED_HOST = "unmask.forwarded_host"
"""Scope key: the host that a trusted proxy received the request for, empty when unknown."""


class Forwarded:
    """Middleware that applies the headers of trusted proxies: X-Forwarded-For, -Proto, -Host and -Prefix.

    uvicorn handles the first two. The prefix becomes the request's `root_path`, from which FastAPI builds URLs.

    Args:
        app: Wrapped application.
        trusted: Addresses and networks of proxies, or `*` for all.
        root_path: Prefix used when the proxy sends none.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str], root_path: str) -> None:
        self._app, self._root_path = app, clean_prefix(root_path)
        self._believe = ProxyHeadersMiddleware(self._answer, trusted_hosts=list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            client = scope.get("client")
            is_trusted = client is not None and client[0] in self._believe.trusted_hosts
            headers = Headers(scope=scope)
            prefix = _read_prefix(headers) if is_trusted else ""
            # Modify the scope in place: unhandled errors are answered outside this middleware, under the same prefix.
            if prefix or not _holds(scope["path"], self._root_path):
                _move(scope, prefix or self._root_path)
            scope["root_path"] = prefix or self._root_path
            scope[FORWARDED_HOST] = headers.get("x-forwarded-host", "").split(",")[0].strip() if is_trusted else ""
        await self._believe(scope, receive, send)  # type: ignore[arg-type]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["root_path"] and scope["path"] == scope["root_path"]:
            redirect = RedirectResponse(
                f"{scope['root_path']}/"
            )  # without it, the page's relative URLs lack the prefix
            await redirect(scope, receive, send)
        else:
            await self._app(scope, receive, _without_own_name(send))


def _read_prefix(headers: Headers) -> str:
    """Return the prefix that proxies stripped, outermost first; empty if it is missing or invalid."""
    parts = [part.strip().rstrip("/") for part in ",".join(headers.getlist("x-forwarded-prefix")).split(",")]
    prefix = "".join(part if part.startswith("/") or not part else f"/{part}" for part in parts)
    return prefix if PREFIX.fullmatch(prefix) else ""


def _holds(path: str, prefix: str) -> bool:
    """Return whether a path still starts with the prefix, which some proxies do not strip."""
    return path == prefix or path.startswith(f"{prefix}/")


def _move(scope: Scope, prefix: str) -> None:
    """Restore the prefix that a proxy stripped from the path."""
    scope["path"] = prefix + scope["path"]
    if scope.get("raw_path"):
        scope["raw_path"] = prefix.encode() + scope["raw_path"]


def _without_own_name(send: Send) -> Send:
    """Make `Location` relative to the host: behind a proxy, the request's host is not the public one."""

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "location" in headers:
                headers["location"] = re.sub(r"^https?://[^/]*", "", headers["location"]) or "/"
        await send(message)

    return send_on


LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Host names of a service that only this machine can reach."""

_ALIVE = "/healthz"
_READING = ("GET", "HEAD", "OPTIONS")
_PORTS = {"http": ":80", "https": ":443"}
_SECONDS_IN_VAIN = 5.0


class Framing:
    """Middleware that rejects a body with an ambiguous length (RFC 9112, sections 6.1 and 6.3).

    A proxy that trusts the other length header would treat the rest of the body as a new request, or the next request
    as part of the body (request smuggling). So the connection is closed as well.

    Args:
        app: Wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        problem = None
        if "content-length" in headers:
            problem = "The request has both Content-Length and Transfer-Encoding. Send one of them."
        elif scope["http_version"] == "1.0":
            problem = "HTTP/1.0 has no Transfer-Encoding. Send Content-Length, or use HTTP/1.1."
        if problem is None:
            await self._app(scope, receive, send)
        else:
            told = Problem(400, "ambiguous_length", problem, headers={"Connection": "close"})
            await answer(Request(scope, receive), told)(scope, receive, send)


class Preflight(CORSMiddleware):
    """CORS whose refused preflights are answered as problem details."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        is_preflight = scope.get("method") == "OPTIONS" and "access-control-request-method" in headers
        refusal = self.preflight_response(headers) if is_preflight and "origin" in headers else None
        if refusal is None or refusal.status_code < HTTPStatus.BAD_REQUEST:
            await super().__call__(scope, receive, send)
            return
        detail = (
            f"Web pages of {headers['origin'][:100]} may not send this request: {bytes(refusal.body).decode()}. To "
            f"allow them, start the service with this origin in cors_origins."
        )
        kept = {name: value for name, value in refusal.headers.items() if name.startswith(("access-", "vary"))}
        problem = Problem(refusal.status_code, "foreign_page", detail, headers=kept)
        await answer(Request(scope, receive), problem)(scope, receive, send)


class Crowd:
    """Middleware that limits concurrent requests, and asks clients beyond the limit to retry.

    uvicorn's `limit_concurrency` would let one client take every place, and counts health checks too.

    Args:
        app: Wrapped application.
        most: Concurrent requests; one address gets no more places than are still free.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app, self._places = app, Places(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        # A busy service must still pass its health check, or the supervisor restarts it.
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) == _ALIVE:
            await self._app(scope, receive, send)
            return
        client = name_address(scope["client"][0]) if scope.get("client") else None
        if not self._places.take(client):
            await _turn_away(self._find_problem(client), scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._places.give(client)

    def _find_problem(self, client: str | None) -> Problem:
        most, retry = self._places.total, {"Retry-After": "5"}
        if client is None or self._places.is_full:
            detail = f"{most} requests are open (connections). Retry in a few seconds."
            return Problem(503, "busy", detail, headers=retry)
        detail = (
            f"{self._places.count(client)} of your requests are open, and the remaining places of {most} (connections) "
            f"are reserved for other clients. Wait until some of yours finish."
        )
        return Problem(429, "share_used_up", detail, headers=retry)


class Guard:
    """Middleware that rejects requests which foreign web pages make a browser send.

    Such a page can resolve its own host name to this machine and read the answers (DNS rebinding), so a service on
    loopback answers only to the names of this machine. It can also submit forms blindly (CSRF), so requests that
    change something are refused. Starlette's TrustedHostMiddleware does not fit: it answers plain text with status
    400, and cuts IPv6 hosts such as `[::1]:8000` at their first colon.

    Args:
        app: Wrapped application.
        hosts: Accepted `Host` names without port; None for any.
        origins: Origins of other pages that may send requests; `*` for all.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, origins: Collection[str]) -> None:
        self._app, self._hosts, self._origins = app, hosts, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        problem = self._find_problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await _turn_away(problem, scope, receive, send)

    def _find_problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        # A rebinding page controls X-Forwarded-Host, but not Host.
        host = headers.get("host", "")
        if self._hosts is not None and host and _cut_port(host) not in self._hosts:  # every browser sends Host
            detail = (
                f"The service answers to {', '.join(self._hosts)}, and not to '{host[:100]}'. Use one of these names, "
                f"let the proxy send one of them as Host, or start the service with this name in hosts."
            )
            return Problem(421, "foreign_host", detail)
        if scope["method"] not in _READING and self._is_of_other_page(headers, scope.get(FORWARDED_HOST) or host):
            detail = (
                f"A web page of another origin sent this ({headers.get('origin', 'unknown')[:100]}). To allow it, "
                f"start the service with its origin in cors_origins."
            )
            return Problem(403, "foreign_page", detail)
        return None

    def _is_of_other_page(self, headers: Headers, host: str) -> bool:
        origin, site = headers.get("origin", ""), headers.get("sec-fetch-site", "")
        if origin in self._origins or "*" in self._origins:
            return False
        if site:
            return site == "cross-site"
        return bool(origin) and not _is_of_host(origin, host)  # browsers send no Sec-Fetch-Site without TLS


def _cut_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _is_of_host(origin: str, host: str) -> bool:
    scheme, _, place = origin.lower().partition("://")
    usual = _PORTS.get(scheme, "")
    return place.removesuffix(usual) == host.lower().removesuffix(usual)


async def _turn_away(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    scope.setdefault("root_path", "")
    request = Request(scope, receive)
    try:
        await refuse(request, problem, seconds=_SECONDS_IN_VAIN)
    except Problem as told:  # this problem, or a 408 for a slow body
        await answer(request, told)(scope, receive, send)


logger = logging.getLogger("unmask.web.api")


_NOT_HTTP = Problem(
    400, "not_http", "The request is not valid HTTP (RFC 9112), or its head is too long. Use an HTTP client."
)


class PunctualProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, with a limit on connections and on the time that a request head may take.

    uvicorn itself holds any number of connections (`limit_concurrency` only answers 503 once a head has arrived), and
    waits for a head without limit. `limit_connections` sets the class attributes.
    """

    places: Places
    head_seconds: float
    proxies: Container[str]

    _timer: asyncio.TimerHandle | None = None
    _peer: str | None = None
    _has_place = False

    def connection_made(self, transport: Any) -> None:
        """Take a place and wait for the first head."""
        super().connection_made(transport)
        host = self.client[0] if self.client else None
        self._peer = None if host is None or host in self.proxies else name_address(host)
        self._has_place = self.places.take(self._peer)
        if not self._has_place:
            logger.warning("too many connections", extra={"connections": self.places.total})
            transport.abort()
            return
        self._timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def data_received(self, data: bytes) -> None:
        """Stop the timer once a head is complete, and start it at the first byte of the next one."""
        super().data_received(data)
        is_at_work = self.cycle is not None and not self.cycle.response_complete
        if is_at_work:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._close_if_waiting)

    def _close_if_waiting(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer and give the place back."""
        self._stop_timer()
        if self._has_place:
            self._has_place = False
            self.places.give(self._peer)
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with problem details."""
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


def limit_connections(most: int, *, head_seconds: float, trusted: Sequence[str] = ()) -> type[H11Protocol]:
    """Return the protocol for `uvicorn.Config(http=...)`.

    Args:
        most: Connections, idle ones included.
        head_seconds: Time from the first byte of a connection, or of its next request, to the end of the head.
        trusted: Proxies, which may hold any number; another address gets no more places than are still free.
    """
    proxies = ProxyHeadersMiddleware(_answer_nothing, trusted_hosts=list(trusted)).trusted_hosts
    limits = {"places": Places(most), "head_seconds": head_seconds, "proxies": proxies}
    return type("LimitedProtocol", (PunctualProtocol,), limits)


async def _answer_nothing(*_: Any) -> None:
    """Stand in for the application, which uvicorn's list of trusted addresses requires."""
