import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unmask.evaluation.report import show_figure
from unmask.evaluation.run import evaluate
from unmask.metrics.plots import MAX_POINTS, draw_precision_recall, draw_roc, draw_scores

Maker = Callable[..., Path]


@pytest.fixture
def page(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> str:
    root = make_dataset(name="<script>alert(1)</script>")
    command = "python evaluate.py checkpoint='a & b.ckpt'"
    return evaluate(
        make_checkpoint(), root=root, output=tmp_path / "run", device="cpu", command=command, seed=7
    ).report.read_text()


def test_report_needs_nothing_beside_it(page: str) -> None:
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page)
    assert "@import" not in page
    assert "<link" not in page


def test_text_of_the_data_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;/FaceSwap/c23/003" in page
    assert "&#39;a &amp; b.ckpt&#39;" in page


def test_report_shows_what_was_asked_of_it(page: str) -> None:
    assert page.count("<svg") == 3
    for text in (
        "ROC-AUC",
        "Confusion",
        "Classification report",
        "Coverage",
        "Methods",
        "balanced accuracy on the valid",
    ):
        assert text in page
    assert "9 of the 12 videos in this split have a score" in page
    assert "training: commit" in page


def test_pictures_are_not_called_videos(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    root = make_dataset(kind="picture")
    page = evaluate(make_checkpoint(), root=root, output=tmp_path / "run", device="cpu").report.read_text()
    assert "Per picture" in page
    assert "per frame" not in page


def test_figures_of_fakes_made_here_come_with_a_warning(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    root = make_dataset(name="mine")
    info = json.loads((root / "dataset.json").read_text())
    info["sources"] = [{"name": "mine", "forgeries": "self_made"}]
    (root / "dataset.json").write_text(json.dumps(info))
    evaluation = evaluate(make_checkpoint(), root=root, output=tmp_path / "run", device="cpu")
    result = json.loads(evaluation.result.read_text())
    assert result["sources"] == info["sources"]
    assert result["trained_on"][0]["forgeries"] == "unknown"
    page = evaluation.report.read_text()
    for told in ("made by Unmask itself", "This model was trained on data of unknown origin"):
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


def test_one_class_draws_no_curve_but_its_scores() -> None:
    scored = np.ones(3, dtype=int), np.array([0.1, 0.5, 0.9])
    assert draw_roc({"x": scored}, threshold=0.5) is None
    assert draw_precision_recall({"x": scored}, threshold=0.5) is None
    svg = str(draw_scores(scored, threshold=0.5, unit="videos"))
    assert "fake (3)" in svg
    assert "real (" not in svg


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (12, "12"), (0.5, "0.5000"), (1.0, "1.0000")])  # noqa: RUF001
def test_figures_are_written_as_readers_expect(value: float | None, text: str) -> None:
    assert show_figure(value) == text
