"""Whom the service turns away before a route is looked for.

Too many at once, web pages of somebody else, and bodies of which two servers could think differently.
"""

from collections.abc import Collection
from http import HTTPStatus

from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from unmask.web.api.problems import Problem, answer
from unmask.web.api.proxy import FORWARDED_HOST
from unmask.web.api.shares import Places, name_address
from unmask.web.api.uploads import refuse

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
