"""The app in a real browser: headless Chromium, on loopback."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.web.app.chromium import WAIT, give, launch, open_page, run_app, settle

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium here")]

SHOTS = os.environ.get("UNMASK_SHOTS")
"""A folder that screenshots are kept in; else they go where pytest's temporary files go."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, app_bundle: Path) -> Iterator[str]:
    """The app, serving a bundle from an `UNMASK_HOME` that has two."""
    home = tmp_path_factory.mktemp("home")
    for run in ("first", "second"):
        shutil.copytree(app_bundle, home / "outputs/train" / run / "bundle")
    with run_app(home, max_upload_mb=1) as app:
        yield app.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch() as browser:
        yield browser


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """A page of the app, that must neither load from elsewhere, nor open a dialogue, nor scroll sideways."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, permissions=["camera"], base_url=address
    )
    context.set_default_timeout(WAIT)
    page = context.new_page()
    elsewhere: list[str] = []
    dialogues: list[str] = []
    page.on("request", lambda sent: elsewhere.append(sent.url) if is_elsewhere(sent.url, address) else None)
    page.on("dialog", lambda dialogue: (dialogues.append(dialogue.message), dialogue.dismiss()))
    yield page
    context.close()
    assert elsewhere == []
    assert dialogues == []


def is_elsewhere(url: str, address: str) -> bool:
    return not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


@pytest.fixture
def finish(page: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Look at the whole page: nothing is stale, nothing broke, nothing scrolls sideways; keep a screenshot."""

    def finish() -> None:
        settle(page)
        assert page.locator("[data-testid=stException]").count() == 0
        width = page.viewport_size["width"]
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("it => it.scrollWidth - it.clientWidth") == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.set_viewport_size({"width": width, "height": min(main.evaluate("it => it.scrollHeight") + 20, 6000)})
        settle(page)
        folder = Path(SHOTS) if SHOTS else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(folder / f"{request.node.name}.png"))

    return finish


def test_an_image(page: Any, make_png: Callable[[int], bytes], finish: Callable[[], None]) -> None:
    open_page(page)
    give(page, ("photo.png", make_png(1)))
    page.get_by_role("heading", name="Fake").wait_for()
    settle(page)
    assert page.get_by_text("Calibrated probability of a fake").count() == 1
    assert page.locator(".unmask-gauge .needle").count() == 1
    face, heat = page.get_by_alt_text("face 1"), page.get_by_alt_text("heat map")
    beside = face.bounding_box(), heat.bounding_box()
    assert beside[0]["y"] == pytest.approx(beside[1]["y"], abs=2)
    assert beside[0]["x"] + beside[0]["width"] < beside[1]["x"]
    before = heat.get_attribute("src")
    page.get_by_role("slider").press("End")
    settle(page)
    assert heat.get_attribute("src") != before
    finish()


def test_a_batch_with_a_bad_file(page: Any, make_png: Callable[[int], bytes], finish: Callable[[], None]) -> None:
    open_page(page)
    give(page, *((f"{seed}.png", make_png(seed)) for seed in range(4)), ("broken.png", b"\x89PNG\r\n\x1a\n"))
    page.get_by_text("Look closer at").wait_for()
    settle(page)
    assert page.locator("[data-testid=stAlert]").filter(has_text="'broken.png' cannot be read").count() == 1
    assert page.locator("[data-testid=stDataFrame]").count() == 1
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 6
    finish()


def test_a_click_in_the_table_opens_that_file(
    page: Any, make_png: Callable[[int], bytes], finish: Callable[[], None]
) -> None:
    open_page(page)
    names = [f"{seed}.png" for seed in (3, 1, 2, 0)]
    give(page, *((name, make_png(int(name[0]))) for name in names), ("broken.png", b"\x89PNG\r\n\x1a\n"))
    page.get_by_text("Look closer at", exact=True).wait_for()
    settle(page)
    table, card = page.locator("[data-testid=stDataFrame]"), page.locator("[class*=st-key-verdict]")
    table.scroll_into_view_if_needed()
    box, height = table.bounding_box(), 35

    def click(row: int) -> None:
        page.mouse.click(box["x"] + 30, box["y"] + row * height + height / 2)
        page.wait_for_timeout(500)
        settle(page)

    click(5)
    assert card.inner_text().startswith("broken.png")
    click(0)  # sorts by name
    for row, name in enumerate(["0.png", "1.png", "2.png", "3.png"], start=1):
        click(row)
        assert card.inner_text().startswith(name)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    rows = json.loads(Path(download.value.path()).read_text())
    assert {row["path"] for row in rows} == {*names, "broken.png"}
    assert {row["verdict"] for row in rows} == {"fake", None}
    finish()


def test_a_video(page: Any, clip_bytes: bytes, finish: Callable[[], None]) -> None:
    open_page(page)
    give(page, ("clip.mp4", clip_bytes))
    page.get_by_role("heading", name="Over time").wait_for()
    chart = page.locator(".stVegaLiteChart")
    chart.locator("canvas, svg.marks").first.wait_for()
    settle(page)
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    shown = page.locator("img[alt^='Frame at']")
    before = shown.get_attribute("src")
    place = box["x"] + box["width"] * 0.95, box["y"] + 90
    page.mouse.move(place[0] - 5, place[1])
    page.mouse.move(*place)
    image = page.locator("#vg-tooltip-element.visible img")
    image.wait_for()
    assert image.evaluate("it => it.complete && it.naturalWidth > 50")
    page.mouse.click(*place)
    page.wait_for_function("before => document.querySelector(`img[alt^='Frame at']`).src !== before", arg=before)
    settle(page)
    assert shown.get_attribute("alt") == "Frame at 0:02.9 with its faces marked"
    assert page.get_by_text("Suspicious stretches").count() == 1
    finish()


def test_the_camera(page: Any, finish: Callable[[], None]) -> None:
    open_page(page)
    page.get_by_text("Camera", exact=True).click()
    page.locator("[data-testid=stCameraInput] video").wait_for()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Take Photo").click()
    page.get_by_role("heading", name="Fake").wait_for()
    assert page.get_by_text("camera.jpg").count() == 1
    finish()


def test_two_models(page: Any, make_png: Callable[[int], bytes], finish: Callable[[], None]) -> None:
    open_page(page, "/compare")
    give(page, ("photo.png", make_png(1)))
    page.get_by_role("heading", name=re.compile("Both say: .*Fake")).wait_for()
    settle(page)
    assert not re.search("outputs.train.first.bundle", page.locator("[data-testid=stMain]").inner_html())
    assert page.get_by_alt_text("heat map").count() == 2
    finish()


def test_about_the_model(page: Any, finish: Callable[[], None]) -> None:
    open_page(page, "/about")
    page.get_by_role("heading", name="Where it fails").wait_for()
    assert page.get_by_role("cell", name="celebs", exact=True).count() == 2  # the dataset and its source
    finish()


def test_file_names_are_not_html(page: Any, make_png: Callable[[int], bytes], finish: Callable[[], None]) -> None:
    names = [
        "<img src=x onerror=alert(1)>.png",
        "<script>alert(2)<script>.png",
        "![m](http://127.0.0.1:9/tracker.png).png",
        '"><svg onload=alert(3)>.png',
    ]
    open_page(page)
    elements = page.locator("img[src=x], img[src*=tracker], svg[onload], [onerror]")
    give(page, *((name, make_png(seed)) for seed, name in enumerate(names)), (names[0] + ".bad", b"<b>no image</b>"))
    page.get_by_text("Look closer at").wait_for()
    settle(page)
    assert page.get_by_text("<img src=x onerror=alert(1)>").count() >= 2
    assert elements.count() == 0
    assert page.evaluate("[...document.scripts].filter(it => it.text.includes('alert(')).length") == 0
    finish()


def test_a_file_over_the_limit_is_refused_with_a_message(page: Any, finish: Callable[[], None]) -> None:
    open_page(page)
    give(page, ("huge.mp4", bytes(1_100_000)))
    page.get_by_text("must be 1.0MB or smaller").wait_for()
    assert page.get_by_text("Up to 1 MB per file").is_visible()
    assert page.locator("[class*=st-key-verdict]").count() == 0
    finish()
