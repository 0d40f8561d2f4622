import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.web.app.chromium import launch

from unmask.decision import Decision
from unmask.evaluation.run import Options, evaluate
from unmask.metrics.plots import MAX_POINTS, draw_precision_recall, draw_roc, draw_scores
from unmask.page import show_figure

Maker = Callable[..., Path]


@pytest.fixture
def page(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> str:
    root = make_dataset(name="<script>alert(1)</script>")
    command = "python evaluate.py checkpoint='a & b.ckpt'"
    return evaluate(
        make_checkpoint(),
        root=root,
        output=tmp_path / "run",
        options=Options(device="cpu", command=command, seed=7),
    ).report.read_text()


def test_report_is_self_contained(page: str) -> None:
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:image/jpeg;base64,)""", page)
    assert "@import" not in page
    assert "<link" not in page


def test_text_of_the_data_is_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;/FaceSwap/c23/003" in page
    assert "&#39;a &amp; b.ckpt&#39;" in page


def test_report_has_every_section(page: str) -> None:
    assert page.count("<svg") == 5
    for text in (
        "ROC-AUC",
        "Confusion",
        "Classification report",
        "Threshold",
        "Coverage",
        "Methods",
        "balanced accuracy",
    ):
        assert text in page
    assert re.search(r"9 of the 12 videos", page)
    assert "abc123" in page[page.index("<h2>Provenance") :]


def test_provenance_names_are_readable(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    content = torch.load(checkpoint, weights_only=True)
    sources = [{"name": "synthetic", "forgeries": "drawn"}]
    content["unmask"]["provenance"] |= {"is_dirty": False, "run_name": "trial <1>", "trained_on": sources}
    torch.save(content, checkpoint)
    evaluation = evaluate(checkpoint, root=make_dataset(), output=tmp_path / "run", options=Options(device="cpu"))
    page, result = evaluation.report.read_text(), json.loads(evaluation.result.read_text())
    assert "Model: trial &lt;1&gt; (tiny), trained on synthetic (drawn faces)" in page
    assert result["provenance"]["training: uncommitted changes"] == "no"
    assert "<dt>uncommitted changes</dt><dd><code>no</code></dd>" in page
    assert "is dirty" not in page
    assert page.index('role="note"') < page.index("<section")


def test_mistakes_are_shown_with_embedded_images(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(decision=Decision(threshold=1.0, criterion="f1"))
    page = evaluate(
        checkpoint, root=make_dataset(), output=tmp_path / "run", options=Options(device="cpu")
    ).report.read_text()
    assert "Fake, called real" in page
    assert "Real, called fake" not in page
    assert page.count('<img class="fake" src="data:image/jpeg;base64,') == 12
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "mistakes.csv", "report.html", "result.json", "scores_frames.parquet", "scores_videos.parquet",
    ]  # fmt: skip


def test_report_without_mistakes_has_no_section_for_them(page: str) -> None:
    assert "<img" not in page
    assert "<h2>Wrong calls" not in page


@pytest.mark.parametrize("method", ["original", "Deepfakes"])
def test_one_class_gives_no_empty_cards_or_rows(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path, method: str
) -> None:
    root = make_dataset(methods=(method,))
    page = evaluate(
        make_checkpoint(), root=root, output=tmp_path / "run", options=Options(device="cpu")
    ).report.read_text()
    cards = page[page.index('<div class="cards">') : page.index("<section")]
    assert cards.count('class="card"') == 2
    assert show_figure(None) not in cards
    absent = "fake" if method == "original" else "real"
    assert f"<div>{absent}</div>" not in page
    assert f"<tr><td>{absent}</td>" not in page
    assert "macro avg" not in page


def test_tables_scroll_in_their_own_container_or_are_stacked_on_a_phone(page: str) -> None:
    assert page.count("<table") == page.count('<div class="wide" tabindex="0"><table')
    stacked = page[page.index('<table class="stacked">') : page.index("Each method")]
    rows = re.findall("<tr><td.*", stacked)
    assert len(rows) == 2
    assert all(row.count("<td") == row.count("data-label=") + 1 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_is_wider_than_the_screen(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path, width: int
) -> None:
    root = make_dataset(methods=("original", "A_method_with_a_name_that_no_phone_has_room_for", "FaceSwap"))
    checkpoint = make_checkpoint(decision=Decision(threshold=1.0))
    report = evaluate(checkpoint, root=root, output=tmp_path / "run", options=Options(device="cpu")).report
    with launch() as browser:
        shown = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        shown.goto(report.as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        cut = "[...document.querySelectorAll('.wide')].filter(it => it.scrollWidth > it.clientWidth).length"
        assert width < 390 or shown.evaluate(cut) == 0


def test_images_are_not_called_videos(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    root = make_dataset(kind="image")
    page = evaluate(
        make_checkpoint(), root=root, output=tmp_path / "run", options=Options(device="cpu")
    ).report.read_text()
    assert "per image" in page
    assert "per frame" not in page


def test_metrics_on_self_made_fakes_carry_a_warning(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    root = make_dataset(name="mine")
    info = json.loads((root / "dataset.json").read_text())
    info["sources"] = [{"name": "mine", "forgeries": "self_made"}]
    (root / "dataset.json").write_text(json.dumps(info))
    evaluation = evaluate(make_checkpoint(), root=root, output=tmp_path / "run", options=Options(device="cpu"))
    result = json.loads(evaluation.result.read_text())
    assert result["sources"] == info["sources"]
    assert result["trained_on"][0]["forgeries"] == "unknown"
    page = evaluation.report.read_text()
    for told in ("made by Unmask itself", "data of unknown origin"):
        assert told in page
        assert any(told in note for note in result["notes"])


def test_curves_of_many_scores_stay_small() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200_000)
    curves = {"per frame": (labels, np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1))}
    for draw in (draw_roc, draw_precision_recall):
        svg = draw(curves, threshold=0.5)
        assert svg is not None
        assert len(svg) < 60_000 + 50 * MAX_POINTS


def test_one_class_has_a_score_plot_but_no_curves() -> None:
    scored = np.ones(3, dtype=int), np.array([0.1, 0.5, 0.9])
    assert draw_roc({"x": scored}, threshold=0.5) is None
    assert draw_precision_recall({"x": scored}, threshold=0.5) is None
    svg = str(draw_scores(scored, threshold=0.5, unit="videos"))
    assert "fake (3)" in svg
    assert "real (" not in svg


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (12, "12"), (0.5, "0.5000"), (1.0, "1.0000")])  # noqa: RUF001
def test_metrics_are_formatted_for_readers(value: float | None, text: str) -> None:
    assert show_figure(value) == text


def _curves(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path, text: str | None) -> str:
    """Evaluate a checkpoint whose run folder has these curves, and return the report."""
    path = tmp_path / "training" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    shutil.move(make_checkpoint(), path)
    if text is not None:
        (tmp_path / "training" / "curves.csv").write_text(text)
    return evaluate(
        path, root=make_dataset(), output=tmp_path / "run", options=Options(device="cpu")
    ).report.read_text()


def test_report_shows_the_training_curves(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    text = "epoch,step,lr,train/loss,val/loss,val/auroc\n1,5,0.1,0.9,0.8,\n2,10,0.05,0.5,0.7,0.75\n"
    page = _curves(make_dataset, make_checkpoint, tmp_path, text)
    shown = page[page.index("Training curves") :]
    assert shown.count("<svg") == 3  # there is no accuracy
    assert str(tmp_path / "training" / "curves.csv") in shown


@pytest.mark.parametrize("text", [None, "", "epoch,step\n", "epoch,step\nnone,5\n", "step\n5\n"])
def test_report_without_readable_curves_says_so(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path, text: str | None
) -> None:
    page = _curves(make_dataset, make_checkpoint, tmp_path, text)
    shown = page[page.index("Training curves") :]
    assert shown.count("<svg") == 0
    assert re.search(r"no readable <code>[^<]*curves\.csv", shown)
