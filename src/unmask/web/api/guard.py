"""Whom the service turns away before a route is looked for: too many at once, and web pages of somebody else."""

from collections.abc import Collection

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from unmask.web.api.problems import Problem, answer
from unmask.web.api.uploads import refuse

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""What a request calls a service that this machine alone can reach."""

_ALIVE = "/healthz"
_READING = ("GET", "HEAD", "OPTIONS")
_PORTS = {"http": ":80", "https": ":443"}
_SECONDS_IN_VAIN = 5.0


class Crowd:
    """Middleware that answers so many requests at a time, and sends others away for a while.

    Args:
        app: What answers.
        most: Requests at a time.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app, self._most, self._num_open = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        # Whoever restarts a service that does not say it is alive must not do so because it has much to do.
        if scope["type"] != "http" or scope["path"] == _ALIVE:
            await self._app(scope, receive, send)
            return
        if self._num_open >= self._most:
            detail = f"{self._most} requests are open (connections). Try again in some seconds."
            await _turn_away(Problem(503, "busy", detail, headers={"Retry-After": "5"}), scope, receive, send)
            return
        self._num_open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._num_open -= 1


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
        problem = self._find_problem(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await _turn_away(problem, scope, receive, send)

    def _find_problem(self, method: str, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if self._hosts is not None and host and _cut_port(host) not in self._hosts:  # every browser names a host
            detail = (
                f"The service is of this machine alone: it answers to {', '.join(self._hosts)}, and not to "
                f"'{host[:100]}'. Ask one of these, or let the proxy before it send one of these as Host."
            )
            return Problem(421, "foreign_host", detail)
        if method not in _READING and self._is_of_other_page(headers, host):
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
    request = Request(scope, receive)
    try:
        await refuse(request, problem, seconds=_SECONDS_IN_VAIN)
    except Problem as told:  # this one, or that the body came in too slowly
        await answer(request, told)(scope, receive, send)
