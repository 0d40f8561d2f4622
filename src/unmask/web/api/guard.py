"""What a request passes before a route is looked up: connection limits, proxies, hosts, origins and framing."""

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Any

import h11
from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from unmask.web.api.responses import MEDIA_TYPE, Problem, answer, describe_problem
from unmask.web.api.settings import PREFIX, clean_prefix
from unmask.web.api.shares import Places, name_address
from unmask.web.api.uploads import refuse

FORWARDED_HOST = "unmask.forwarded_host"
"""Key of a scope: the name that a trusted proxy was asked by, empty where unknown."""

_REDIRECT = 307


class Forwarded:
    """Middleware that believes trusted proxies: X-Forwarded-For, -Proto, -Host and -Prefix.

    The first two are uvicorn's. A prefix becomes the `root_path` of the request, from which FastAPI makes addresses.

    Args:
        app: What answers.
        trusted: Addresses and networks of proxies, or `*` for all.
        root_path: The prefix where a proxy names none.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str], root_path: str) -> None:
        self._app, self._root_path = app, clean_prefix(root_path)
        self._believe = ProxyHeadersMiddleware(self._answer, trusted_hosts=list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            client = scope.get("client")
            is_trusted = client is not None and client[0] in self._believe.trusted_hosts
            headers = Headers(scope=scope)
            prefix = _read_prefix(headers) if is_trusted else ""
            # In its place: a defect is told outside of this, under the same prefix.
            if prefix or not _holds(scope["path"], self._root_path):
                _move(scope, prefix or self._root_path)
            scope["root_path"] = prefix or self._root_path
            scope[FORWARDED_HOST] = headers.get("x-forwarded-host", "").split(",")[0].strip() if is_trusted else ""
        await self._believe(scope, receive, send)  # type: ignore[arg-type]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["root_path"] and scope["path"] == scope["root_path"]:
            await _redirect(f"{scope['root_path']}/", send)  # or the page's relative addresses would miss the prefix
        else:
            await self._app(scope, receive, _without_own_name(send))


def _read_prefix(headers: Headers) -> str:
    """Return the prefix that proxies stripped, the outermost first; empty where it is none."""
    parts = [part.strip().rstrip("/") for part in ",".join(headers.getlist("x-forwarded-prefix")).split(",")]
    prefix = "".join(part if part.startswith("/") or not part else f"/{part}" for part in parts)
    return prefix if PREFIX.fullmatch(prefix) else ""


def _holds(path: str, prefix: str) -> bool:
    """Tell whether a path begins with a prefix, which some proxies leave in its place."""
    return path == prefix or path.startswith(f"{prefix}/")


def _move(scope: Scope, prefix: str) -> None:
    """Put a prefix before a path from which a proxy stripped it."""
    scope["path"] = prefix + scope["path"]
    if scope.get("raw_path"):
        scope["raw_path"] = prefix.encode() + scope["raw_path"]


def _without_own_name(send: Send) -> Send:
    """Leave names out of `Location`: behind a proxy, the one that a request names is not the one that people know."""

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "location" in headers:
                headers["location"] = re.sub(r"^https?://[^/]*", "", headers["location"]) or "/"
        await send(message)

    return send_on


async def _redirect(address: str, send: Send) -> None:
    headers = [(b"location", address.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": _REDIRECT, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""What a request calls a service that this machine alone can reach."""

_ALIVE = "/healthz"
_READING = ("GET", "HEAD", "OPTIONS")
_PORTS = {"http": ":80", "https": ":443"}
_SECONDS_IN_VAIN = 5.0


class Framing:
    """Middleware that refuses a body whose end is told twice (RFC 9112, sections 6.1 and 6.3).

    A proxy that goes by the other of the two would take the rest of the body for a request of its own, or the next
    request for a part of the body. So the connection ends, too.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        problem = None
        if "content-length" in headers:
            problem = "The request has both Content-Length and Transfer-Encoding. Send one of them."
        elif scope["http_version"] == "1.0":
            problem = "HTTP/1.0 knows no Transfer-Encoding. Send Content-Length, or speak HTTP/1.1."
        if problem is None:
            await self._app(scope, receive, send)
        else:
            told = Problem(400, "ambiguous_length", problem, headers={"Connection": "close"})
            await answer(Request(scope, receive), told)(scope, receive, send)


class Preflight(CORSMiddleware):
    """CORS, of which a refusal is a problem as every other."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        is_preflight = scope.get("method") == "OPTIONS" and "access-control-request-method" in headers
        refusal = self.preflight_response(headers) if is_preflight and "origin" in headers else None
        if refusal is None or refusal.status_code < HTTPStatus.BAD_REQUEST:
            await super().__call__(scope, receive, send)
            return
        detail = (
            f"A web page of {headers['origin'][:100]} must not ask so: {bytes(refusal.body).decode()}. If it may, "
            f"start the service with its origin in cors_origins."
        )
        kept = {name: value for name, value in refusal.headers.items() if name.startswith(("access-", "vary"))}
        problem = Problem(refusal.status_code, "foreign_page", detail, headers=kept)
        await answer(Request(scope, receive), problem)(scope, receive, send)


class Crowd:
    """Middleware that answers so many requests at a time, and sends others away for a while.

    Args:
        app: What answers.
        most: Requests at a time; of one address no more than are still free.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app, self._places = app, Places(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        # Whoever restarts a service that does not say it is alive must not do so because it has much to do.
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
            detail = f"{most} requests are open (connections). Try again in some seconds."
            return Problem(503, "busy", detail, headers=retry)
        detail = (
            f"{self._places.count(client)} of your requests are open, and the other places of {most} (connections) are "
            f"kept for others. Wait for some of yours to end."
        )
        return Problem(429, "share_used_up", detail, headers=retry)


class Guard:
    """Middleware that keeps out what web pages of somebody else make a browser send.

    Such a page can have its own name lead to this machine and read what is answered (DNS rebinding), so a service of
    this machine alone answers to the names of this machine alone. And it can send forms blindly, so nothing is
    changed for it.

    Args:
        app: What answers.
        hosts: That `Host` may name, without a port; None for any.
        origins: Of other pages that may ask; `*` for all.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, origins: Collection[str]) -> None:
        self._app, self._hosts, self._origins = app, hosts, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        problem = self._find_problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await _turn_away(problem, scope, receive, send)

    def _find_problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        # A page that leads its own name here cannot choose this one header, which X-Forwarded-Host it can.
        host = headers.get("host", "")
        if self._hosts is not None and host and _cut_port(host) not in self._hosts:  # every browser names a host
            detail = (
                f"The service answers to {', '.join(self._hosts)}, and not to '{host[:100]}'. Ask one of these, let "
                f"the proxy before it send one of these as Host, or start it with this name in hosts."
            )
            return Problem(421, "foreign_host", detail)
        if scope["method"] not in _READING and self._is_of_other_page(headers, scope.get(FORWARDED_HOST) or host):
            detail = (
                f"A web page of another origin sent this ({headers.get('origin', 'unknown')[:100]}). If it may ask, "
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
        return bool(origin) and not _is_of_host(origin, host)  # browsers tell no site to a service without TLS


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
    except Problem as told:  # this one, or that the body came in too slowly
        await answer(request, told)(scope, receive, send)


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
