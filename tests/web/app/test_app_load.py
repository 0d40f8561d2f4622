"""The app under load: several visitors at once, and a video of two hours."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.web.app.chromium import App, give, launch, open_page, run_app, settle
from tests.web.app.conftest import paint, save_checkpoint

from unmask.decision import Decision
from unmask.inference.predictor import Predictor
from unmask.media.encode import write_video
from unmask.models.bundle import write_bundle
from unmask.models.checkpoint import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium here")]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The app with a model that looks at 1,500 frames of a video."""
    run = tmp_path / "home/outputs/train/first"
    path = save_checkpoint(run / "checkpoints/best.ckpt", num_frames=1500, decision=Decision(), provenance={})
    write_bundle(load_checkpoint(path), run / "bundle")
    with run_app(tmp_path / "home", max_upload_mb=50) as app:
        yield app


@pytest.fixture
def visit(app: App) -> Iterator[Callable[[], Any]]:
    """Open the app as another visitor."""
    with launch() as browser:

        def visit() -> Any:
            context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=app.url)
            context.set_default_timeout(120_000)
            page = context.new_page()
            open_page(page)
            return page

        yield visit


def left_behind(app: App) -> list[Path]:
    return list(app.temporary.glob("unmask-app-*"))


def test_visitors_get_their_own_results_and_memory_stays_bounded(
    app: App, visit: Callable[[], Any], make_png: Callable[[int], bytes], tmp_path: Path
) -> None:
    files: dict[str, list[tuple[str, bytes]]] = {}
    for number in range(3):
        clip = tmp_path / f"clip-{number}.mp4"
        write_video(clip, [paint(100 * number + frame // 8) for frame in range(240)], fps=24)
        files[f"visitor-{number}"] = [(clip.name, clip.read_bytes())]
        files[f"visitor-{number}"] += [(f"{number}-{seed}.png", make_png(10 * number + seed)) for seed in range(4)]
    expected = predict(tmp_path / "home/outputs/train/first/bundle", files, tmp_path)
    pages = {name: visit() for name in files}
    before = None
    for _ in range(4):
        for name, page in pages.items():
            give(page, *files[name])  # all upload before the first has its result
        for name, page in pages.items():
            page.get_by_text("Look closer at", exact=True).wait_for()
            settle(page)
            assert page.locator("[data-testid=stException]").count() == 0
            assert read_json(page) == {path: expected[path] for path, _ in files[name]}
        before = before or app.resident_mb
        for page in pages.values():
            page.reload()
            page.locator("h1").wait_for()
            settle(page)
    # Streamlit holds what a visitor had for two minutes more, 3 MB here; a hundred MB a visitor would show.
    assert app.resident_mb < before + 90
    assert left_behind(app) == []


def predict(bundle: Path, files: dict[str, list[tuple[str, bytes]]], folder: Path) -> dict[str, float]:
    predictor, scores = Predictor.load(bundle), {}
    for name, data in (file for some in files.values() for file in some):
        (folder / name).write_bytes(data)
        scores[name] = pytest.approx(predictor.predict_file(folder / name).score, abs=1e-4)
    assert len({round(score.expected, 4) for score in scores.values()}) > 3
    return scores


def read_json(page: Any) -> dict[str, float]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    return {row["path"]: row["score"] for row in json.loads(Path(download.value.path()).read_text())}


def test_two_hours_of_video_use_constant_memory(app: App, visit: Callable[[], Any], tmp_path: Path) -> None:
    stills = [paint(number) for number in range(50)]
    write_video(tmp_path / "long.mp4", (stills[second % 50] for second in range(7200)), fps=1)
    page = visit()
    give(page, ("long.mp4", (tmp_path / "long.mp4").read_bytes()))
    said: dict[str, float] = {}
    while not page.get_by_role("heading", name="Over time").count():
        for text in page.locator("[data-testid=stProgress]").all_inner_texts():
            said.setdefault(text, app.resident_mb)
        time.sleep(0.05)
    settle(page)
    moments = [memory for text, memory in said.items() if "of 1500" in text]
    assert len(moments) > 5
    assert moments[-1] - moments[len(moments) // 4] < 40
    assert page.get_by_text("Examined 1,500 of 7,200 frames, from 0:00.0 to 1:59:59.0.").count() == 1
    assert page.locator("[data-testid=stException]").count() == 0
    assert left_behind(app) == []
