"""What surrounds every answer: problem details (RFC 9457), request IDs, the log line and the metrics."""

import logging
import re
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.errors import OutputError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
DISK_FULL = "The service cannot write to its disk; its log says where and why. Try again later."

_ROUTE = re.compile(r"(?<= )/(?=v1/|openapi\.json)")


class ProblemDetails(BaseModel):
    """Body of every error.

    `code` is stable and meant for programs; `detail` explains what was wrong and how to fix it.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, Any]] | None = None


class Problem(Exception):
    """Error that ends a request.

    Args:
        status: HTTP status.
        code: Stable code for programs.
        detail: Cause, place and fix.
        headers: Response headers, such as `Retry-After`.
        errors: One row per file, if there are several.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = headers or {}
        self.errors = errors


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a route's error responses."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }


def place_routes(text: str, root_path: str) -> str:
    """Prefix the routes in a message with the proxy's prefix, as clients must request them.

    Args:
        text: Message with routes after a space, such as `POST /v1/videos`; file names contain no slash.
        root_path: Prefix of the request.
    """
    return _ROUTE.sub(f"{root_path}/", text) if root_path else text


def describe_problem(problem: Problem, *, instance: str, root_path: str, request_id: str) -> dict[str, Any]:
    """Return the body of `ProblemDetails`."""
    errors = [{**row, "error": place_routes(row["error"], root_path)} for row in problem.errors or ()]
    return {
        "type": f"urn:unmask:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": place_routes(problem.detail, root_path),
        "instance": instance[:500],
        "request_id": request_id,
        **({} if problem.errors is None else {"errors": errors}),
    }


def answer(request: Request, problem: Problem) -> JSONResponse:
    """Return a problem as a response."""
    body = describe_problem(
        problem, instance=request.url.path, root_path=request.scope.get("root_path", ""),
        request_id=request.scope.get("request_id", ""),
    )  # fmt: skip
    headers = {"X-Request-ID": str(body["request_id"]), **problem.headers}  # unhandled errors bypass Observer
    return JSONResponse(body, problem.status, headers=headers, media_type=MEDIA_TYPE)


def _find_methods(request: Request) -> list[str]:
    """Return all methods of a path; Starlette names only those of its first route."""
    path = getattr(request.scope.get("route"), "path", "")
    described = {method.upper() for method in request.app.openapi()["paths"].get(path, ())}
    routes = [route for route in request.app.routes if getattr(route, "path", None) == path]
    return sorted(described.union(*(getattr(route, "methods", None) or () for route in routes)) or {"GET"})


def handle_problems(app: FastAPI) -> None:
    """Answer every error of an app with problem details."""

    @app.exception_handler(Problem)
    def tell_problem(request: Request, problem: Problem) -> JSONResponse:
        return answer(request, problem)

    @app.exception_handler(RequestValidationError)
    def tell_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()]
        return answer(request, Problem(422, "invalid_parameter", f"{'; '.join(found)}. See /openapi.json."))

    @app.exception_handler(HTTPException)
    def tell_http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).name.lower()
        detail = f"{error.detail}: {request.method} {request.url.path[:200]}. The routes are in /openapi.json."
        if error.status_code == HTTPStatus.BAD_REQUEST:
            code, detail = (
                "malformed_body",
                f"{error.detail} Send multipart/form-data, as curl -F files=@photo.jpg does.",
            )
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_find_methods(request))
        return answer(request, Problem(error.status_code, code, detail, headers=headers))

    @app.exception_handler(OutputError)
    def tell_full_disk(request: Request, error: OutputError) -> JSONResponse:
        logger.error("%s", error, extra={"request_id": request.scope.get("request_id")})
        headers = {"Retry-After": "60", "Connection": "close"}  # part of the body may be unread
        return answer(request, Problem(507, "disk_full", DISK_FULL, headers=headers))

    @app.exception_handler(Exception)
    def tell_defect(request: Request, error: Exception) -> JSONResponse:
        logger.error("defect", exc_info=error, extra={"request_id": request.scope.get("request_id")})
        detail = "Internal error, a bug in the service. Its log has the traceback under the request ID."
        return answer(request, Problem(500, "defect", detail))


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
# Clients can invent any number of methods and paths, each of which would become a Prometheus time series.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ANY = "any"


class Figures:
    """Prometheus metrics.

    Args:
        count_jobs: Function that returns the number of jobs by state.
    """

    def __init__(self, count_jobs: Callable[[], dict[Any, int]]) -> None:
        self._registry, self._count_jobs = CollectorRegistry(), count_jobs
        labels = ["method", "route", "status"]
        self.requests = Counter("unmask_requests", "Requests answered", labels, registry=self._registry)
        self.seconds = Histogram(
            "unmask_request_seconds", "Time to the end of an answer", ["method", "route"], registry=self._registry
        )
        self.image_requests = Gauge("unmask_image_requests_open", "Image requests in progress", registry=self._registry)
        self.verdicts = Counter("unmask_verdicts", "Files judged", ["kind", "verdict"], registry=self._registry)
        self._jobs = Gauge("unmask_jobs", "Jobs by state", ["state"], registry=self._registry)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        for state, count in self._count_jobs().items():
            self._jobs.labels(state).set(count)
        return generate_latest(self._registry)


class Observer:
    """Middleware that assigns request IDs, sets security headers, logs and counts. Never the contents of a file.

    Args:
        app: Wrapped application.
        figures: Metrics to update.
    """

    def __init__(self, app: ASGIApp, *, figures: Figures) -> None:
        self._app, self._figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
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
