"""The real server in a process of its own, as `python serve.py` starts it."""

import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright
from tests.conftest import REPOSITORY
from tests.web.api.test_api_attacks import Payload

from unmask.media.encode import write_video

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def serve(
    home: Path, bundle: Path, *arguments: str, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    log = home / "stderr.txt"
    with log.open("a") as told, (home / "stdout.txt").open("a") as logged:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "serve.py"), f"checkpoint={bundle}", "port=0", *arguments],
            env={**environment, "UNMASK_HOME": str(home)}, cwd=home, text=True, stdout=logged, stderr=told,
        )  # fmt: skip
    try:
        for _ in range(300):
            found = re.findall(r"http://\S+", log.read_text())
            if found and _is_ready(found[-1]):
                break
            time.sleep(0.2)
        yield found[-1], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)


def _is_ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path, bundle: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with serve(home, bundle, "service.idle_seconds=2", "service.image_bytes=1000000") as running:
        yield running


def _open_socket(address: str) -> socket.socket:
    _, host, port = re.split(r"://|:", address)
    return socket.create_connection((host, int(port)), timeout=60)


def test_schemathesis_finds_nothing(server: tuple[str, "subprocess.Popen[str]"], tmp_path: Path) -> None:
    config = Path(__file__).with_name("schemathesis.toml")
    command = ["--config-file", str(config), "run", f"{server[0]}/openapi.json", "--max-examples", "30"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), *command],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]


def test_service_of_a_bundle_loads_no_torch(server: tuple[str, "subprocess.Popen[str]"]) -> None:
    processes = [psutil.Process(server[1].pid), *psutil.Process(server[1].pid).children(recursive=True)]
    assert len(processes) >= 3
    for process in processes:
        loaded = {Path(entry.path).name for entry in process.memory_maps()}
        assert not [name for name in loaded if "torch" in name], process
    assert [process for process in processes if any("onnxruntime" in entry.path for entry in process.memory_maps())]


def test_slow_client_is_cut_off(server: tuple[str, "subprocess.Popen[str]"], home: Path) -> None:
    with _open_socket(server[0]) as client:
        head = "POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        client.sendall(f"{head}Content-Length: 9999\r\n\r\n--x\r\n".encode())
        start = time.monotonic()
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert 1.5 < time.monotonic() - start < 15
    assert not list((home / "service" / "uploads").glob("*"))


def test_head_that_does_not_end_is_cut_off(server: tuple[str, "subprocess.Popen[str]"]) -> None:
    with _open_socket(server[0]) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        start = time.monotonic()
        assert client.recv(65536) == b""
        assert time.monotonic() - start < 15
    with _open_socket(server[0]) as client:  # the second request of a connection too, and a slow one is answered
        for part in (b"GET /healthz HTTP/1.1\r\n", b"Host: localhost\r\n\r\n"):
            client.sendall(part)
            time.sleep(0.5)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /healthz")
        assert client.recv(65536) == b""


def test_endless_upload_is_cut_off_at_the_limit(server: tuple[str, "subprocess.Popen[str]"], home: Path) -> None:
    sent, chunk = 0, bytes(1_000_000)
    with _open_socket(server[0]) as client:
        head = "POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        client.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        try:
            while sent < 2_000_000_000:
                client.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                sent += len(chunk)
        except OSError:
            pass  # the connection was closed on us
    assert sent < 100_000_000  # 16 files of 1 MB may come in, and what the buffers between us hold
    assert not list((home / "service" / "uploads").glob("*"))
    memory = sum(
        process.memory_info().rss
        for process in (psutil.Process(server[1].pid), *psutil.Process(server[1].pid).children(recursive=True))
    )
    assert memory < 1_500_000_000


def wait(address: str, job_id: str) -> dict[str, Any]:
    for _ in range(200):
        job: dict[str, Any] = httpx2.get(f"{address}/v1/jobs/{job_id}").json()
        if job["state"] in ("done", "failed"):
            break
        time.sleep(0.2)
    return job


def test_killed_service_continues_its_jobs(bundle: Path, media: Path, tmp_path: Path) -> None:
    files = {"files": ("clip.mp4", (media / "clip.mp4").read_bytes())}
    with serve(tmp_path, bundle) as (address, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        jobs = [httpx2.post(f"{address}/v1/videos", files=files).json()["id"] for _ in range(3)]
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    psutil.wait_procs(workers, timeout=10)  # they end by themselves
    with serve(tmp_path, bundle) as (address, _):
        for job_id in jobs:
            job = wait(address, job_id)
            assert job["state"] == "done", job


@pytest.mark.parametrize("whom", ["server", "all"])
def test_terminated_service_leaves_no_process_and_continues_its_job(bundle: Path, tmp_path: Path, whom: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1, 640, 640, 3), dtype=np.uint8)
    write_video(tmp_path / "long.mp4", np.repeat(noise, 300, axis=0), fps=25)
    with serve(tmp_path, bundle, "every_n=1") as (address, process):
        files = {"files": ("long.mp4", (tmp_path / "long.mp4").read_bytes())}
        job_id = httpx2.post(f"{address}/v1/videos", files=files).json()["id"]
        while (state := httpx2.get(f"{address}/v1/jobs/{job_id}").json()["state"]) == "queued":
            time.sleep(0.02)
        assert state == "running"
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children if whom == "all" else ():  # as systemd and a terminal's group do
            child.terminate()
        process.terminate()
        assert process.wait(timeout=30) == 143  # what it keeps is put in order first
        assert not psutil.wait_procs(children, timeout=5)[1]
    for stream in ("stdout", "stderr"):
        assert "traceback" not in (tmp_path / f"{stream}.txt").read_text().lower()
    with serve(tmp_path, bundle) as (address, _):
        job = wait(address, job_id)
        assert job["state"] == "done", job


def test_client_still_sending_sees_the_size_error(server: tuple[str, "subprocess.Popen[str]"], home: Path) -> None:
    for _ in range(5):
        answer = httpx2.post(f"{server[0]}/v1/images", files={"files": ("a.jpg", bytes(5_000_000))})
        assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")
    assert not list((home / "service" / "uploads").glob("*"))


def test_model_that_would_run_code_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Payload(tmp_path / "ran")}, protocol=2))
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "serve.py"), "checkpoint=evil.ckpt", "port=0"], cwd=tmp_path,
        env={**os.environ, "UNMASK_HOME": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "evil.ckpt" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ran").exists()
    assert [path.name for path in (tmp_path / "service").rglob("*")] == ["unmask.lock"]


def refuse_start(home: Path, bundle: Path, *arguments: str) -> str:
    """Return what a service says that does not start."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "serve.py"), f"checkpoint={bundle}", *arguments],
        env={**os.environ, "UNMASK_HOME": str(home)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_port_in_use_is_named(server: tuple[str, "subprocess.Popen[str]"], bundle: Path, tmp_path: Path) -> None:
    port = server[0].rpartition(":")[2]
    told = refuse_start(tmp_path, bundle, f"port={port}")
    assert f"host=127.0.0.1 port={port}" in told
    assert "another port" in told


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("host=nowhere.invalid", "host of this machine"),
        ("host=192.0.2.1", "host of this machine"),
        ("port=99999", "another port"),
        ("connections=0", "connections=0"),
        ("device=cuda:9", "device=cuda:9 cannot be used"),
    ],
)
def test_invalid_setting_is_named(bundle: Path, tmp_path: Path, argument: str, told: str) -> None:
    assert told in refuse_start(tmp_path, bundle, "port=0", argument)


def test_second_service_in_a_folder_is_refused_on_the_command_line(
    server: tuple[str, "subprocess.Popen[str]"], home: Path, bundle: Path
) -> None:
    assert "Another service is using folder=" in refuse_start(home, bundle, "port=0")


def test_log_is_json_whoever_writes_it(server: tuple[str, "subprocess.Popen[str]"], home: Path) -> None:
    with _open_socket(server[0]) as client:
        client.sendall(b"no HTTP at all\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400")
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    assert httpx2.get(f"{server[0]}/v1/nowhere", headers=upgrade).json()["code"] == "not_found"
    lines = [json.loads(line) for line in (home / "stdout.txt").read_text().splitlines()]
    assert {"unmask.web.api", "uvicorn.error"} <= {line["logger"] for line in lines}
    assert {"Invalid HTTP request received.", "request", "ready"} <= {line["event"] for line in lines}
    first, second, *_ = (home / "stderr.txt").read_text().splitlines()
    assert server[0] in first
    assert "host=0.0.0.0" in second
    assert not list(home.rglob("serve.log"))
    assert not [path for path in (home / "outputs").rglob("*") if path.parent.name == "serve"]


def test_overloaded_service_answers_503_and_limits_connections(bundle: Path, tmp_path: Path) -> None:
    with serve(tmp_path, bundle, "connections=2", "service.idle_seconds=4") as (address, _):
        body = b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        with _open_socket(address) as first, _open_socket(address) as second:
            for client in (first, second):
                client.sendall(body + b"Content-Length: 9999\r\n\r\n--x\r\n")
            time.sleep(0.5)
            answer = httpx2.get(f"{address}/v1/model")
            assert (answer.status_code, answer.json()["code"]) == (503, "busy")
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-request-id"] == answer.json()["request_id"]
            assert httpx2.get(f"{address}/healthz").status_code == 200
            with _open_socket(address), _open_socket(address), _open_socket(address) as third:
                start = time.monotonic()
                with contextlib.suppress(ConnectionResetError):
                    assert third.recv(65536) == b""
                assert time.monotonic() - start < 2
        assert 'route="unknown",status="503"' in httpx2.get(f"{address}/metrics").text
        assert httpx2.get(f"{address}/v1/model").status_code == 200


@pytest.fixture
def other_page(tmp_path: Path) -> Iterator[str]:
    """A page of another site: browsers take `localhost` and `127.0.0.1` for two."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://localhost:{other.server_port}/"
        other.shutdown()


def test_processes_end_with_a_service_that_is_killed(bundle: Path, tmp_path: Path) -> None:
    with serve(tmp_path, bundle) as (_, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.kill()
        gone, alive = psutil.wait_procs(workers, timeout=10)
        assert gone
        assert not alive


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_foreign_page_reaches_nothing(server: tuple[str, "subprocess.Popen[str]"], other_page: str) -> None:
    assert httpx2.get(f"{server[0]}/v1/model", headers={"Host": "evil.example"}).json()["code"] == "foreign_host"
    jobs = re.findall("unmask_jobs{.*", httpx2.get(f"{server[0]}/metrics").text)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(other_page)
        page.evaluate(
            """async (address) => {
                const body = new FormData();
                body.append("files", new Blob(["x"]), "a.mp4");
                await fetch(`${address}/v1/videos`, { method: "POST", mode: "no-cors", body });
            }""",
            server[0],
        )
        browser.close()
    figures = httpx2.get(f"{server[0]}/metrics").text
    assert 'unmask_requests_total{method="any",route="unknown",status="403"} 1.0' in figures
    assert re.findall("unmask_jobs{.*", figures) == jobs


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_judges_images_and_videos(
    server: tuple[str, "subprocess.Popen[str]"], media: Path, tmp_path: Path, width: int, huge_png: Callable[..., Path]
) -> None:
    shutil.copy(media / "face.jpg", hostile := tmp_path / "<img src=x onerror=document.title='owned'>.jpg")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((server[0], "blob:", "data:")) else problems.append(asked.url),
        )
        page.goto(server[0])
        page.set_input_files("#choose", [str(hostile), str(huge_png(30_000, 30_000))])
        page.wait_for_selector(".headline:not([hidden])", timeout=60_000)
        page.set_input_files("#choose", [str(media / "clip.mp4")])
        page.wait_for_selector(".timeline:not([hidden]) svg", timeout=60_000)
        page.wait_for_selector(".face img.heat", timeout=60_000)
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        _check_words(page, page.locator("article", has_text="clip.mp4"), server[0])
        assert page.locator("article h2", has_text="onerror").count() == 1
        assert page.locator("article h2 img").count() == 0
        assert "more than the" in page.locator("article", has_text="30000x30000").inner_text()
        large = {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": bytes(1_200_000)}
        face = {"mimeType": "image/jpeg", "buffer": (media / "face.jpg").read_bytes()}
        page.set_input_files("#choose", [large, *({"name": f"{number}.jpg", **face} for number in range(17))])
        refused = page.locator("article", has_text="large.jpg").locator(".state").inner_text()
        assert "1.2 MB" in refused
        assert "1 MB" in refused.replace("1.2 MB", "")
        expect(page.locator(".headline:not([hidden])")).to_have_count(19, timeout=60_000)
        assert page.title() == "Unmask"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not problems
        browser.close()


def _check_words(page: Page, video: Locator, address: str) -> None:
    """Check that the card of a video says what the API says, and that its result can be downloaded."""
    model = httpx2.get(f"{address}/v1/model").json()
    expect(page.locator("#model")).to_contain_text(model["title"])
    expect(page.locator("#warning")).to_have_text(model["warning"])
    expect(page.locator("#formats")).to_contain_text("JPEG")
    with page.expect_download() as loading:
        video.locator(".download").click()
    told = json.loads(Path(loading.value.path()).read_text())
    assert told["model"]["trained_on"] == model["trained_on"]
    expect(video.locator(".headline")).to_have_text(told["headline"])
    expect(video.locator(".reason")).to_contain_text(told["reason"])
    expect(video.locator(".warning")).to_have_text(told["warning"])
    expect(video.locator(".examined")).to_contain_text(f"{told['num_examined']} of {told['num_frames']}")
    assert video.locator("svg circle").count() == sum(len(frame["faces"]) for frame in told["frames"])
    assert video.locator("svg polyline").count() == 0
    expect(video.locator(".persons")).to_contain_text("Face 1: ")
    expect(video.locator(".scale")).to_be_visible()
    expect(video.locator("figcaption").first).to_contain_text("face 1")
