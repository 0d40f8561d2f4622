"""Around every request: an id, one line of log, figures for Prometheus. Never the contents of a file."""

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("unmask.web.api")

_ID = re.compile(r"[\w.-]{1,64}")
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
_UNKNOWN = "unknown"
# Clients make up methods and paths without end, of which each would be a series of its own for Prometheus.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ANY = "any"


class Figures:
    """What Prometheus reads.

    Args:
        count_jobs: Returns the number of jobs by state.
    """

    def __init__(self, count_jobs: Callable[[], dict[Any, int]]) -> None:
        self._registry, self._count_jobs = CollectorRegistry(), count_jobs
        labels = ["method", "route", "status"]
        self.requests = Counter("unmask_requests", "Requests answered", labels, registry=self._registry)
        self.seconds = Histogram(
            "unmask_request_seconds", "Time to the end of an answer", ["method", "route"], registry=self._registry
        )
        self.pictures = Gauge("unmask_picture_requests_open", "Picture requests at work", registry=self._registry)
        self.verdicts = Counter("unmask_verdicts", "Files judged", ["kind", "verdict"], registry=self._registry)
        self._jobs = Gauge("unmask_jobs", "Jobs by state", ["state"], registry=self._registry)

    def render(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        for state, count in self._count_jobs().items():
            self._jobs.labels(state).set(count)
        return generate_latest(self._registry)


class Observer:
    """Middleware that gives a request its id, logs and counts it.

    Args:
        app: What answers.
        figures: To count in.
    """

    def __init__(self, app: ASGIApp, *, figures: Figures) -> None:
        self._app, self._figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        scope["request_id"] = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status, start = 500, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = scope["request_id"]
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._note(scope, status=status, seconds=time.perf_counter() - start)

    def _note(self, scope: Scope, *, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", _UNKNOWN)
        method = scope["method"] if route != _UNKNOWN and scope["method"] in _METHODS else _ANY
        self._figures.requests.labels(method, route, str(status)).inc()
        self._figures.seconds.labels(method, route).observe(seconds)
        told = {"request_id": scope["request_id"], "method": method, "route": route, "status": status}
        logger.info("request", extra=told | {"seconds": round(seconds, 4)})
