"""The service behind a proxy that strips a prefix, as the proxy's headers or the configuration tell."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from unmask.cli.serve import build_settings
from unmask.config import read_defaults
from unmask.errors import ConfigError
from unmask.web.api.app import create_app
from unmask.web.api.settings import ModelSettings, ServiceSettings

PROXY = ("127.0.0.1", 50000)
STRANGER = ("198.51.100.7", 50000)
Open = Callable[..., TestClient]


@pytest.fixture
def open_client(bundle: Path, tmp_path: Path) -> Open:
    """Returns a client of a service without workers."""

    def open_client(
        *, peer: tuple[str, int] = PROXY, is_loopback: bool = False, connections: int | None = None, **settings: Any
    ) -> TestClient:
        chosen = ServiceSettings(ModelSettings(str(bundle)), tmp_path, **settings)
        app = create_app(chosen, is_loopback=is_loopback, connections=connections)
        app.state.service.store.create()
        return TestClient(app, base_url="http://127.0.0.1:8000", client=peer, raise_server_exceptions=False)

    return open_client


@pytest.fixture(params=["header", "key", "key and prefix left in place"])
def stripped(request: pytest.FixtureRequest, open_client: Open) -> Callable[..., Any]:
    """Returns what asks for an address below the prefix."""
    kept = "/unmask" if "left" in request.param else ""
    by_key = request.param != "header"
    client = open_client(root_path="/unmask/" if by_key else "", is_loopback=True)

    def ask(method: str, path: str, **options: Any) -> Any:
        headers = options.pop("headers", {}) | ({} if by_key else {"X-Forwarded-Prefix": "/unmask"})
        return client.request(method, kept + path, headers=headers, **options)

    return ask


def test_page_and_what_it_loads_are_found_below_the_prefix(stripped: Callable[..., Any]) -> None:
    page = stripped("GET", "/")
    assert page.status_code == 200
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    local = [address for address in addresses if not address.startswith("data:")]
    assert local
    for address in local:
        assert not address.startswith("/"), address
        assert stripped("GET", f"/{address.removeprefix('./')}").status_code == 200
    script = stripped("GET", "/static/page.js").text
    assert not re.search(r"""["'`]/(v1|static)/""", script.replace('lastIndexOf("/v1/jobs/")', ""))


def test_reported_urls_have_the_prefix(stripped: Callable[..., Any]) -> None:
    missing = stripped("GET", "/v1/nowhere")
    assert (missing.status_code, missing.json()["instance"]) == (404, "/unmask/v1/nowhere")
    assert "/unmask/openapi.json" in missing.json()["detail"]
    assert "/unmask/openapi.json" in stripped("GET", "/v1/jobs/zero").json()["detail"]
    described = stripped("GET", "/openapi.json").json()
    assert described["servers"][0] == {"url": "/unmask"}
    assert "/v1/images" in described["paths"]
    moved = stripped("GET", "/v1/model/", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (307, "/unmask/v1/model")


def test_busy_service_reports_health_below_the_prefix(open_client: Open) -> None:
    client = open_client(root_path="/unmask", connections=0)
    assert client.get("/unmask/healthz").status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/model").status_code == 503


def test_every_refusal_below_the_prefix_is_a_problem(stripped: Callable[..., Any]) -> None:
    answers = [
        stripped("PUT", "/v1/images"), stripped("GET", "/static/none.js"), stripped("GET", "/static/../x"),
        stripped("POST", "/v1/videos", headers={"Origin": "https://evil.example"}),
        stripped("GET", "/v1/model", headers={"Host": "evil.example"}),
        stripped("DELETE", f"/v1/jobs/{'0' * 32}"),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [405, 404, 404, 403, 421, 404]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["instance"].startswith("/unmask/") or answer.request.url.path.startswith("/x")


def test_prefix_without_slash_redirects_to_the_page(open_client: Open) -> None:
    answer = open_client(root_path="/unmask").get("/unmask", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/unmask/")


def test_job_is_reported_below_the_prefix(start: Callable[..., Any], media: Path, tmp_path: Path) -> None:
    from tests.web.api.test_jobs import send, wait

    with start(tmp_path, root_path="/unmask") as client:
        answer = send(client, media / "clip.mp4")
        assert answer.headers["location"] == f"/unmask/v1/jobs/{answer.json()['id']}"
        job = wait(client, answer.json()["id"])
        drawings = [drawing[kind] for drawing in job["result"]["heatmaps"] for kind in ("crop", "heatmap")]
        assert drawings
        assert all(client.get(address).status_code == 200 for address in drawings if address)
        assert all(address.startswith(answer.headers["location"]) for address in drawings)
        image = wait(client, send(client, media / "face.jpg").json()["id"])
        assert "POST /unmask/v1/images" in image["error"]["detail"]
        files = [("files", ("a.mp4", (media / "clip.mp4").read_bytes())), ("files", ("b.mp4", b"x"))]
        refused = client.post("/v1/images", files=files).json()
        assert "POST /unmask/v1/videos" in refused["errors"][0]["error"]


@pytest.mark.parametrize("prefix", ["//evil.example", "/a b", "/../x", "https://evil.example", '/a"b', "/a//b"])
def test_invalid_prefix_is_ignored(open_client: Open, prefix: str) -> None:
    answer = open_client().get("/v1/nowhere", headers={"X-Forwarded-Prefix": prefix})
    assert answer.json()["instance"] == "/v1/nowhere"


def test_prefixes_of_several_proxies_add_up(open_client: Open) -> None:
    answer = open_client().get("/v1/nowhere", headers={"X-Forwarded-Prefix": "/outer/, /inner"})
    assert answer.json()["instance"] == "/outer/inner/v1/nowhere"


def test_headers_of_untrusted_clients_are_ignored(open_client: Open) -> None:
    headers = {"X-Forwarded-Prefix": "/x", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "evil.example"}
    assert open_client(peer=STRANGER).get("/v1/nowhere", headers=headers).json()["instance"] == "/v1/nowhere"
    headers["Origin"] = "http://evil.example"
    refused = open_client(peer=STRANGER).delete(f"/v1/jobs/{'0' * 32}", headers=headers)
    assert refused.json()["code"] == "foreign_page"
    believed = open_client(peer=STRANGER, trusted_proxies=("198.51.100.0/24",))
    assert believed.get("/v1/nowhere", headers=headers).json()["instance"] == "/x/v1/nowhere"


def test_own_page_works_behind_a_proxy_that_sends_its_own_host(open_client: Open) -> None:
    headers = {"Origin": "http://unmask.example", "X-Forwarded-Host": "unmask.example"}
    assert open_client(is_loopback=True).delete(f"/v1/jobs/{'0' * 32}", headers=headers).status_code == 404


def test_foreign_host_is_refused_whatever_is_forwarded(open_client: Open) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1:8000"}
    assert open_client(is_loopback=True).get("/v1/model", headers=headers).json()["code"] == "foreign_host"


def test_service_accepts_configured_host_names(open_client: Open) -> None:
    for client in (open_client(is_loopback=True, hosts=("Unmask.example",)), open_client(hosts=("unmask.example",))):
        assert client.get("/healthz", headers={"Host": "unmask.example:8443"}).status_code == 200
        assert client.get("/healthz").status_code == 200
        refused = client.get("/healthz", headers={"Host": "evil.example"}).json()
        assert refused["code"] == "foreign_host"
        assert "hosts" in refused["detail"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("root_path", "unmask", r"root_path='unmask'.*/unmask"),
        ("root_path", "https://a.example/unmask", "root_path='https"),
        ("hosts", ["https://a.example"], r"hosts: 'https://a\.example'.*unmask\.example"),
        ("hosts", ["a.example:80"], r"hosts: 'a\.example:80'"),
        ("hosts", ["*"], r"hosts: '\*'"),
    ],
)
def test_invalid_prefix_or_host_is_named(bundle: Path, tmp_path: Path, key: str, value: object, told: str) -> None:
    cfg = read_defaults("serve")
    cfg.checkpoint, cfg.folder, cfg[key] = str(bundle), str(tmp_path), value
    with pytest.raises(ConfigError, match=told):
        create_app(build_settings(cfg))


@pytest.mark.parametrize(
    ("given", "variable", "trusted"),
    [
        (None, None, ("127.0.0.1", "::1")), (None, "10.0.0.1, 10.0.0.2", ("10.0.0.1", "10.0.0.2")),
        (["10.0.0.0/8"], "10.0.0.1", ("10.0.0.0/8",)), ([], None, ()),
    ],
)  # fmt: skip
def test_trusted_proxies_are_those_of_the_key_or_of_uvicorns_variable(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, given: object, variable: str | None, trusted: tuple[str, ...]
) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    if variable is not None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", variable)
    cfg = read_defaults("serve")
    cfg.checkpoint, cfg.forwarded_allow_ips = str(bundle), given
    assert build_settings(cfg).trusted_proxies == trusted
