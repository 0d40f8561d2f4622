"""The OpenAPI description, beyond what FastAPI finds out by itself."""

from typing import Any

from fastapi import FastAPI

from unmask.web.api.problems import ProblemDetails, describe
from unmask.web.api.settings import ServiceSettings
from unmask.web.api.uploads import FIELD

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def describe_service(app: FastAPI, settings: ServiceSettings) -> None:
    """Describe the body of errors, how many files are taken, and keys where they are asked for.

    Args:
        app: Its `openapi` is wrapped.
        settings: Of the service.
    """
    original = app.openapi

    def describe_all() -> dict[str, Any]:
        schema = original()
        schemas = schema["components"]["schemas"]
        schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which never leaves
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
    """Add what `unmask.web.api.guard` answers before a route is looked for."""
    for methods in paths.values():
        for method, operation in methods.items():
            for status, told in describe(*([] if method == "get" else [403]), 421, 503).items():
                operation["responses"].setdefault(str(status), told)
