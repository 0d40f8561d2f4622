"""The service and the app behind nginx and Caddy, as the documentation sets them up; skipped where these are absent."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import sync_playwright
from tests.conftest import REPOSITORY
from tests.web.api.test_server import CHROMIUM, FLAGS, serve, wait

pytestmark = pytest.mark.slow

Configure = Callable[[Path, str, int], list[str]]


def read_snippet(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (REPOSITORY / "docs" / "serving.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def configure_nginx(folder: Path, snippet: str, port: int) -> list[str]:
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.getuid() == 0 else ""  # another one could not write here
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\npid {folder}/pid;\nerror_log stderr;\nworker_processes 1;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\nserver {{\nlisten 127.0.0.1:{port};\n{snippet}\n}}\n}}\n"
    )
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def configure_caddy(folder: Path, snippet: str, port: int) -> list[str]:
    own = "{\nadmin off\nauto_https off\n}\n"
    (folder / "Caddyfile").write_text(f"{own}http://127.0.0.1:{port} {{\n{snippet}\n}}\n")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], address: str, folder: Path, **environment: str) -> Iterator[None]:
    log = folder / "log.txt"
    with log.open("w") as told:
        process = subprocess.Popen(
            command, stdout=told, stderr=told, cwd=folder, env={**os.environ, "HOME": str(folder), **environment}
        )
    try:
        for _ in range(300):
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(address)
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[str]:
    """Takes images of half a megabyte, so that its own refusal can be told from a proxy's."""
    with serve(tmp_path_factory.mktemp("home"), bundle, "service.image_bytes=500000") as (address, _):
        yield address


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[str]:
    """The app as `make app` starts it, with the variable of the documentation."""
    home, port = tmp_path_factory.mktemp("app"), find_port()
    script = REPOSITORY / "src" / "unmask" / "web" / "app" / "main.py"
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.address", "127.0.0.1"]
    command += ["--server.headless", "true", "--", str(bundle)]
    found = re.search(r"STREAMLIT_SERVER_BASE_URL_PATH=(\S+) make app", (REPOSITORY / "docs/serving.md").read_text())
    assert found
    options = {
        "STREAMLIT_SERVER_BASE_URL_PATH": found[1], "STREAMLIT_SERVER_PORT": str(port), "UNMASK_HOME": str(home),
    }  # fmt: skip
    with running(command, f"http://127.0.0.1:{port}/{found[1]}/", home, **options):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest, service: str, app: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Returns its address."""
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    snippet = read_snippet(request.param)
    for documented, address in (("127.0.0.1:8000", service.removeprefix("http://")), ("127.0.0.1:8501", app)):
        assert snippet.count(documented) == 1
        snippet = snippet.replace(documented, address)
    folder, port = tmp_path_factory.mktemp(request.param), find_port()
    configure: Configure = {"nginx": configure_nginx, "caddy": configure_caddy}[request.param]
    address = f"http://127.0.0.1:{port}"
    with running(configure(folder, snippet, port), address, folder):
        yield address


def test_documented_proxy_shows_the_service_under_its_prefix(proxy: str, media: Path) -> None:
    moved = httpx2.get(f"{proxy}/unmask", follow_redirects=False)
    assert moved.status_code in (301, 302)
    assert moved.headers["location"].endswith("/unmask/")
    page = httpx2.get(f"{proxy}/unmask/")
    assert page.status_code == 200
    for name in re.findall(r'(?:href|src)="(\./static/[^"]+)"', page.text):
        assert httpx2.get(f"{proxy}/unmask/{name}").status_code == 200
    assert httpx2.get(f"{proxy}/unmask/openapi.json").json()["servers"] == [{"url": "/unmask"}]
    image = httpx2.post(f"{proxy}/unmask/v1/images", files={"files": ("a.jpg", (media / "face.jpg").read_bytes())})
    assert image.status_code == 200
    job = httpx2.post(f"{proxy}/unmask/v1/videos", files={"files": ("a.mp4", (media / "clip.mp4").read_bytes())})
    assert job.status_code == 202
    location = job.headers["location"]
    assert location == f"/unmask/v1/jobs/{job.json()['id']}"
    done = wait(f"{proxy}/unmask", job.json()["id"])
    assert done["state"] == "done"
    assert httpx2.get(proxy + done["result"]["heatmaps"][0]["crop"]).headers["content-type"] == "image/jpeg"
    assert httpx2.delete(proxy + location).status_code == 204


def test_refusals_behind_the_documented_proxy_are_those_of_the_service(proxy: str) -> None:
    large = httpx2.post(f"{proxy}/unmask/v1/images", files={"files": ("a.jpg", bytes(3_000_000))})
    assert (large.status_code, large.json()["code"]) == (413, "file_too_large")
    assert "(see /unmask/v1/model)" in large.json()["detail"] or "/unmask/v1/model" in large.json()["detail"]
    missing = httpx2.get(f"{proxy}/unmask/v1/nowhere")
    assert missing.json()["instance"] == "/unmask/v1/nowhere"
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert httpx2.post(f"{proxy}/unmask/v1/images", headers=foreign).json()["code"] == "foreign_page"
    own = {"Origin": proxy}  # a browser tells no site to a proxy without TLS
    assert httpx2.post(f"{proxy}/unmask/v1/images", headers=own).json()["code"] == "not_multipart"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_page_and_app_work_behind_the_documented_proxy(proxy: str, media: Path) -> None:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        failed: list[str] = []
        page.on(
            "response",
            lambda answer: (
                failed.append(f"{answer.status} {answer.request.method} {answer.url}") if answer.status >= 400 else None
            ),
        )
        page.goto(f"{proxy}/unmask/")
        page.set_input_files("#choose", [str(media / "face.jpg"), str(media / "clip.mp4")])
        page.wait_for_selector(".timeline:not([hidden]) svg", timeout=60_000)
        page.wait_for_selector(".face img.heat", timeout=60_000)
        page.goto(f"{proxy}/unmask-app/")
        page.wait_for_selector("input[type=file]", state="attached", timeout=60_000)
        page.set_input_files("input[type=file]", str(media / "face.jpg"))
        page.wait_for_selector("text=face.jpg", timeout=60_000)
        browser.close()
    assert not failed
