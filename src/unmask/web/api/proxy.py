"""Behind a proxy: under which prefix and name, and to whom, it shows the service."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from unmask.web.api.settings import PREFIX, clean_prefix

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
