"""The REST API as a FastAPI application, and its OpenAPI description."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from unmask import __version__
from unmask.web.api.guard import LOOPBACK, Crowd, Forwarded, Framing, Guard, Preflight
from unmask.web.api.responses import Figures, Observer, Problem, ProblemDetails, describe, handle_problems
from unmask.web.api.routes import Health, check_key, router
from unmask.web.api.service import Service
from unmask.web.api.settings import ServiceSettings
from unmask.web.api.uploads import FIELD

STATIC = Path(__file__).parent / "static"


def create_app(settings: ServiceSettings, *, is_loopback: bool = False, connections: int | None = None) -> FastAPI:
    """Create the application, which starts its workers on startup.

    Args:
        settings: Settings of the service.
        is_loopback: Whether it listens on loopback, and so accepts only host names of this machine.
        connections: Maximum number of concurrent requests; None for no limit.

    Raises:
        UnmaskError: Invalid settings.
    """
    service = Service(settings)

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # FastAPI's documentation pages load scripts from a CDN.
    app = FastAPI(
        title="Unmask", version=__version__, lifespan=live, docs_url=None, redoc_url=None,
        description="Decides whether the faces in images and videos are real or fake.",
    )  # fmt: skip
    app.state.service = service
    app.include_router(router)
    _add_health(app, service)
    _add_page(app)
    handle_problems(app)
    # The middleware added last runs first: refused requests are logged, and allowed origins can read the reason.
    hosts = (*LOOPBACK, *(host.lower() for host in settings.hosts)) if is_loopback or settings.hosts else None
    app.add_middleware(Guard, hosts=hosts, origins=settings.cors_origins)
    if connections is not None:
        app.add_middleware(Crowd, most=connections)
    if settings.cors_origins:
        app.add_middleware(
            Preflight, allow_origins=list(settings.cors_origins), allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID"],
            expose_headers=["Location", "Retry-After", "X-Request-ID"],
        )  # fmt: skip
    app.add_middleware(Framing)
    app.add_middleware(Observer, figures=service.figures)
    app.add_middleware(Forwarded, trusted=settings.trusted_proxies, root_path=settings.root_path)
    describe_service(app, settings)
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    figures: Figures = service.figures

    # Load balancers send HEAD too, for which FastAPI needs a separate route.
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", response_model=Health)
    def report_health() -> dict[str, str]:
        """Report that the service is running."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", response_model=Health, responses=describe(503))
    def report_readiness() -> dict[str, str]:
        """Report whether the workers have loaded the model."""
        if not service.workers.is_ready:
            raise Problem(503, "not_ready", "The workers are loading the model.", headers={"Retry-After": "2"})
        return {"status": "ok"}

    @app.get(
        "/metrics",
        response_class=Response,
        dependencies=[Depends(check_key)],
        responses={200: {"content": {"text/plain": {}}, "description": "For Prometheus"}, **describe(401)},
    )
    def report_metrics() -> Response:
        """Report counts and durations for Prometheus."""
        return Response(figures.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    def send_page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def describe_service(app: FastAPI, settings: ServiceSettings) -> None:
    """Add error bodies, the number of files and the required keys to the OpenAPI description.

    Args:
        app: Application whose `openapi` is wrapped.
        settings: Settings of the service.
    """
    original = app.openapi

    def describe_all() -> dict[str, Any]:
        schema = original()
        schemas = schema["components"]["schemas"]
        schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, never sent
            schemas.pop(name, None)
        for path, most in (("/v1/images", settings.limits.files), ("/v1/videos", 1)):
            body = schema["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
            body["properties"][FIELD]["maxItems"] = most
        _describe_refusals(schema["paths"])
        if settings.api_keys:
            schema["components"]["securitySchemes"] = _SCHEMES
            for path, methods in schema["paths"].items():
                for method in methods.values() if path.startswith("/v1/") or path == "/metrics" else ():
                    method["security"] = [{name: []} for name in _SCHEMES]
        return schema

    app.openapi = describe_all  # type: ignore[method-assign]


def _describe_refusals(paths: dict[str, Any]) -> None:
    """Add the responses that `unmask.web.api.guard` sends before routing."""
    for methods in paths.values():
        for method, operation in methods.items():
            for status, told in describe(*([] if method == "get" else [403]), 421, 503).items():
                operation["responses"].setdefault(str(status), told)
