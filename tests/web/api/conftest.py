from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from unmask.media.encode import write_video
from unmask.media.image import write_jpeg
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.web.api.app import create_app
from unmask.web.api.settings import ModelSettings, ServiceLimits, ServiceSettings


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Path:
    return checkpoint.parents[1] / "bundle"


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image and a video of a drawn person."""
    import numpy as np

    folder, rng = tmp_path_factory.mktemp("media"), np.random.default_rng(1)
    sitter = Sitter(draw_identity(rng), size=192)
    frames = [head.image for head in film(sitter, animate(rng, num_frames=24, fps=25), rng)]
    write_jpeg(folder / "face.jpg", frames[0], quality=95)
    write_video(folder / "clip.mp4", frames, fps=25)
    return folder


def wait_until_ready(client: TestClient) -> None:
    import time

    for _ in range(600):
        if client.get("/readyz").status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError("the service never got ready")


@pytest.fixture(scope="session")
def start(bundle: Path) -> Callable[..., Any]:
    """Returns a context with a client of a service in a folder, with limits of its own."""
    from contextlib import contextmanager

    @contextmanager
    def start(folder: Path, *, limits: dict[str, Any] | None = None, **options: Any) -> Iterator[TestClient]:
        settings = ServiceSettings(
            ModelSettings(str(bundle)), folder, limits=replace(ServiceLimits(), **limits or {}),
            **{"image_workers": 1, **options},
        )  # fmt: skip
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            wait_until_ready(client)
            yield client

    return start


@pytest.fixture(scope="module")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def client(start: Callable[..., Any], service_folder: Path) -> Iterator[TestClient]:
    """A client of one service for the tests of a file; small limits, so that they can be reached."""
    limits = {"image_bytes": 600_000, "video_bytes": 600_000, "files": 3, "idle_seconds": 1.0}
    with start(service_folder, limits=limits) as client:
        yield client
