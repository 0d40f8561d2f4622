"""What tests of the app in a real browser share: the app as a process, headless Chromium, and what a visitor does."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import unmask.web.app.main

WAIT = 20_000

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]  # fmt: skip
_IDLE = """() => !document.querySelector(
    '[data-testid=stStatusWidget], [data-testid=stProgress], [data-testid=stSpinner], [data-stale=true]')"""


@dataclass(frozen=True)
class App:
    """The app as it runs."""

    url: str
    pid: int
    temporary: Path

    @property
    def resident_mb(self) -> float:
        """Memory that it holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def run_app(home: Path, *, max_upload_mb: int) -> Iterator[App]:
    """Run the app with the models below an `UNMASK_HOME`; its temporary files go to `home/temporary`."""
    temporary = home / "temporary"
    temporary.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", unmask.web.app.main.__file__, "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    command += ["--server.maxUploadSize", str(max_upload_mb)]
    environment = os.environ | {"UNMASK_HOME": str(home), "TMPDIR": str(temporary)}
    server = subprocess.Popen(command, cwd=home, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/_stcore/health", server)
        yield App(url, server.pid, temporary)
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(150):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


@contextmanager
def launch() -> Iterator[Any]:
    """Start Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        yield browser
        browser.close()


def settle(page: Any) -> None:
    """Wait until the app has nothing to do, twice in a row."""
    for _ in range(2):
        page.wait_for_function(_IDLE)
        page.wait_for_timeout(400)


def open_page(page: Any, path: str = "/") -> None:
    page.goto(path)
    page.locator("h1").wait_for()
    settle(page)


def give(page: Any, *files: tuple[str, bytes]) -> None:
    payload = [{"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in files]
    page.locator("input[type=file]").set_input_files(payload)
