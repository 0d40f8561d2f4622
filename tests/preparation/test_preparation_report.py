import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.web.app.chromium import launch

from unmask.data.tables import FaceDataset
from unmask.media.image import write_jpeg
from unmask.preparation import report
from unmask.preparation.report import choose_crops, count_by_method, write_report
from unmask.types import Label

Maker = Callable[..., Path]
COUNTS = {"train": (3, 12), "val": (2, 0), "test": (1, 1)}


@pytest.fixture
def dataset(make_faces: Maker) -> FaceDataset:
    dataset = FaceDataset.load(make_faces(COUNTS))
    dataset.videos.loc[dataset.videos["video_id"] == "drawn/original/c23/val001", "outcome"] = "no_face"
    return dataset


def test_page_has_counts_and_crops_and_asks_nobody(dataset: FaceDataset) -> None:
    explored = write_report(dataset)
    assert explored.report == dataset.root / "report.html"
    page = explored.report.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:image/jpeg;base64,)""", page)
    assert "@import" not in page
    assert "<link" not in page
    assert "prefers-color-scheme: dark" in page
    assert page.count('<img class="real" src="data:image/jpeg;base64,') == 6
    assert page.count('<img class="fake" src="data:image/jpeg;base64,') == report.NUM_SHOWN
    assert re.search(r"<td>no_face</td><td>1</td><td>0</td>", page)
    assert "drawn/original/c23/val001" in page
    for section in ("What differs between real and fake", "Methods", "Splits and outcomes", "Crops", "Provenance"):
        assert f"<h2>{section}</h2>" in page


def test_methods_are_counted_row_by_row(dataset: FaceDataset) -> None:
    columns = ["method", "class", "videos", "crops", "train", "val", "test", "without crops"]
    rows = [["original", "real", 6, 6, 3, 2, 1, 1], ["FaceSwap", "fake", 13, 13, 12, 0, 1, 0]]
    pd.testing.assert_frame_equal(count_by_method(dataset), pd.DataFrame(rows, columns=columns))


def test_crops_are_spread_over_the_videos(dataset: FaceDataset) -> None:
    chosen = choose_crops(dataset, most=3)
    assert list(chosen) == [(Label.REAL, "original"), (Label.FAKE, "FaceSwap")]
    names = [crop.split("/")[4] for crop in chosen[Label.FAKE, "FaceSwap"]]
    assert names == ["train000", "train006", "test000"]


def test_crop_that_cannot_be_read_is_counted(dataset: FaceDataset, caplog: pytest.LogCaptureFixture) -> None:
    (dataset.root / "crops/drawn/original/c23/test000/000000_0.jpg").write_bytes(b"no image")
    page = write_report(dataset).report.read_text()
    assert page.count('<img class="real"') == 5
    assert "1 more could not be read" in page
    assert "test000" in caplog.text


def test_images_stay_within_their_size(dataset: FaceDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_BYTES", 0)
    page = write_report(dataset).report.read_text()
    assert "<img" not in page
    assert "8 more could not be read or would make this file too large" in page


def test_text_of_the_data_is_escaped(make_faces: Maker) -> None:
    dataset = FaceDataset.load(make_faces(COUNTS))
    for table in (dataset.videos, dataset.faces):
        table["method"] = table["method"].replace("FaceSwap", "<script>alert(1)</script>")
    page = write_report(dataset).report.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_property_that_differs_is_marked(dataset: FaceDataset, caplog: pytest.LogCaptureFixture) -> None:
    dataset.videos["width"] = np.where(dataset.videos["label"] == 1, 640, 1280)
    explored = write_report(dataset)
    page = explored.report.read_text()
    assert [(cue.name, cue.auc) for cue in explored.cues if cue.is_warning] == [("width (px)", 1.0)]
    assert re.search(r'role="note">Real and fake differ in width \(px\) \(real 1280, fake 640', page)
    assert re.search(r'<tr class="high"><td class="text">width \(px\)', page)
    assert "width (px)" in caplog.text


def test_properties_that_do_not_differ_are_one_sentence(dataset: FaceDataset) -> None:
    dataset.videos["height"], dataset.videos["fps"] = 480, 25.0
    dataset.videos["width"] = np.where(dataset.videos["label"] == 1, 640, 1280)
    page = write_report(dataset).report.read_text()
    assert "height (px) 480; frame rate (1/s) 25." in page
    assert page.count('<td class="text">width (px)') == 1
    assert '<td class="text">height (px)' not in page


def test_one_class_has_no_comparison(make_faces: Maker) -> None:
    page = write_report(FaceDataset.load(make_faces({"test": (2, 0)}))).report.read_text()
    assert "one class only" in page


def test_tables_scroll_or_are_stacked_on_a_phone(dataset: FaceDataset) -> None:
    page = write_report(dataset).report.read_text()
    assert page.count("<table") == page.count('<div class="wide" tabindex="0"><table')
    for table in re.findall(r'<table class="stacked[^>]*>.*?</table>', page, re.DOTALL):
        rows = [row for row in re.findall("<tr[^>]*>.*?</tr>", table, re.DOTALL) if "<td" in row]
        assert rows
        assert all(row.count("<td") == row.count("data-label=") + 1 for row in rows)


def test_prepare_writes_the_page(face_dataset: Path) -> None:
    page = (face_dataset / "report.html").read_text()
    for text in ("synthetic (drawn)", "Deepfakes", "NeuralTextures", "h264 100%", "retinaface_mobilenet"):
        assert text in page


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(dataset: FaceDataset, width: int, scheme: str) -> None:
    long = "A_method_with_a_name_that_no_phone_has_room_for"
    dataset.faces["method"] = dataset.faces["method"].replace("FaceSwap", long)
    dataset.videos["method"] = dataset.videos["method"].replace("FaceSwap", long)
    dataset.videos["codec"] = "h264"
    with launch() as browser:
        shown = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
        shown.goto(write_report(dataset).report.as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        cut = "[...document.querySelectorAll('.wide')].filter(it => it.scrollWidth > it.clientWidth).length"
        assert width < 390 or shown.evaluate(cut) == 0
        light = shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 249)"
        assert light == (scheme == "light")


def test_crops_in_place_are_shown(tmp_path: Path, make_faces: Maker) -> None:
    dataset = FaceDataset.load(make_faces(COUNTS))
    write_jpeg(tmp_path / "elsewhere.jpg", np.zeros((50, 30, 3), np.uint8), quality=90)
    dataset.faces["crop"] = str(tmp_path / "elsewhere.jpg")
    assert write_report(dataset).report.read_text().count("<img") == 6 + 8
