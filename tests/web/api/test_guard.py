import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from unmask.web.api.app import create_app
from unmask.web.api.guard import Crowd
from unmask.web.api.settings import ModelSettings, ServiceSettings

JOB = f"/v1/jobs/{'0' * 32}"
Open = Callable[..., TestClient]


@pytest.fixture
def open_client(bundle: Path, tmp_path: Path) -> Open:
    """Returns a client of a service without workers, which are not needed to be turned away."""

    def open_client(*, cors_origins: tuple[str, ...] = (), **options: Any) -> TestClient:
        app = create_app(ServiceSettings(ModelSettings(str(bundle)), tmp_path, cors_origins=cors_origins), **options)
        app.state.service.store.create()
        return TestClient(app, base_url="http://127.0.0.1:8000")

    return open_client


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LocalHost:80", "[::1]:8000", "[::1]"])
def test_loopback_service_accepts_names_of_this_machine(open_client: Open, host: str) -> None:
    assert open_client(is_loopback=True).get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil:80"])
def test_loopback_service_refuses_other_names(open_client: Open, host: str) -> None:
    client = open_client(is_loopback=True)
    answer = client.get("/v1/model", headers={"Host": host})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (421, "foreign_host")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == problem["request_id"]
    assert f"'{host}'" in problem["detail"]
    assert "hosts" in problem["detail"]
    assert 'unmask_requests_total{method="any",route="unknown",status="421"} 1.0' in client.get("/metrics").text
    assert open_client().get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://[broken"},
        {"Origin": "null"},
    ],
)
def test_foreign_pages_cannot_change_anything(open_client: Open, headers: dict[str, str]) -> None:
    client = open_client(cors_origins=("https://news.example",))
    files = [("files", ("a.mp4", bytes(1000)))]
    for answer in (client.post("/v1/videos", files=files, headers=headers), client.delete(JOB, headers=headers)):
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert "cors_origins" in answer.json()["detail"]
    assert client.get(JOB, headers=headers).status_code == 404  # which such a page cannot read
    assert 'unmask_requests_total{method="any",route="unknown",status="403"} 2.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://unmask.example", "Host": "unmask.example:80"},
        {"Origin": "https://unmask.example:443", "Host": "unmask.example"},
        {"Origin": "https://unmask.example", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://news.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_own_page_programs_and_allowed_origins_are_accepted(open_client: Open, headers: dict[str, str]) -> None:
    assert open_client(cors_origins=("https://news.example",)).delete(JOB, headers=headers).status_code == 404


def test_wildcard_allows_every_origin(open_client: Open) -> None:
    headers = {"Origin": "https://any.example", "Sec-Fetch-Site": "cross-site"}
    assert open_client(cors_origins=("*",)).delete(JOB, headers=headers).status_code == 404


def test_allowed_page_can_read_why_it_is_refused(open_client: Open) -> None:
    client = open_client(cors_origins=("https://news.example",), connections=0)
    answer = client.get("/v1/model", headers={"Origin": "https://news.example"})
    assert answer.status_code == 503
    assert answer.headers["access-control-allow-origin"] == "https://news.example"


async def ask(app: Any, path: str) -> list[dict[str, Any]]:
    """Speaks ASGI itself, as a server does."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "server": ("a", 80)}
    await app(scope, receive, send)
    return sent


def test_requests_above_the_limit_get_retry_after() -> None:
    async def check() -> None:
        go_on = asyncio.Event()

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/slow":
                await go_on.wait()
            elif scope["path"] == "/broken":
                raise RuntimeError
            await send({"type": "http.response.start", "status": 200, "headers": []})

        crowd = Crowd(answer, most=2)
        with suppress(RuntimeError):
            await ask(crowd, "/broken")  # leaves its place as others do
        waiting = [asyncio.create_task(ask(crowd, "/slow")) for _ in range(2)]
        await asyncio.sleep(0)
        start, body = await ask(crowd, "/")
        assert start["status"] == 503
        assert {(b"retry-after", b"5"), (b"content-type", b"application/problem+json")} <= set(start["headers"])
        assert json.loads(body["body"])["code"] == "busy"
        assert "2 requests are open (connections)" in json.loads(body["body"])["detail"]
        assert (await ask(crowd, "/healthz"))[0]["status"] == 200  # it is alive, however much it has to do
        go_on.set()
        assert [sent[0]["status"] for sent in await asyncio.gather(*waiting)] == [200, 200]
        assert (await ask(crowd, "/"))[0]["status"] == 200

    asyncio.run(check())


def test_openapi_describes_refusals(open_client: Open) -> None:
    paths = open_client().get("/openapi.json").json()["paths"]
    assert {"403", "421", "503"} <= paths["/v1/videos"]["post"]["responses"].keys()
    assert {"403", "421", "503"} <= paths["/v1/jobs/{job_id}"]["delete"]["responses"].keys()
    assert "403" not in paths["/v1/model"]["get"]["responses"]


def test_internal_error_has_its_request_id(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client()
    service = client.app.state.service  # type: ignore[attr-defined]
    monkeypatch.setattr(service, "model", None)
    client = TestClient(client.app, raise_server_exceptions=False)
    answer = client.get("/v1/model", headers={"X-Request-ID": "case-8"})
    assert (answer.status_code, answer.json()["code"]) == (500, "defect")
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "case-8"
