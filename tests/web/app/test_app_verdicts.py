import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.web.app.pages import give, open_app, open_page, said

from unmask.decision import Decision
from unmask.forgeries import Forgeries, SourceRecord, warn_of_training
from unmask.inference import deciding, predictor
from unmask.inference.results import FrameResult, Prediction
from unmask.media.kinds import IMAGE_NAMES, VIDEO_FORMATS
from unmask.types import MediaKind, Verdict
from unmask.web.app.views import plain

MakePng = Callable[[int], bytes]


@pytest.fixture
def drawn(bundle: Path) -> str:
    """What is said against a bundle that was trained on drawn faces."""
    spec = json.loads((bundle / "spec.json").read_text())
    spec["provenance"]["trained_on"] = [{"name": "synthetic", "forgeries": "drawn"}]
    (bundle / "spec.json").write_text(json.dumps(spec))
    return plain(warn_of_training([SourceRecord("synthetic", Forgeries.DRAWN)]))


@pytest.fixture
def half_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every video scores as real in its first frames and as forged in the others, as real on the whole."""

    def rescore(frame: FrameResult, score: float) -> FrameResult:
        return replace(frame, faces=tuple(replace(face, score=score) for face in frame.faces))

    def conclude(name: str, kind: MediaKind, frames: Sequence[FrameResult], **others: Any) -> Prediction:
        scores = [0.01, 0.02, 0.03, 0.7, 0.9, 0.8]
        changed = [rescore(frame, score) for frame, score in zip(frames, scores, strict=True)]
        return deciding.conclude(name, kind, changed, **others | {"decision": Decision(threshold=0.6)})

    monkeypatch.setattr(predictor, "conclude", conclude)


def test_a_half_forged_video_is_uncertain_in_every_place_and_opens_at_its_worst_frame(
    bundle: Path, half_forged: None, clip_bytes: bytes
) -> None:
    page = give(open_app(), ("clip.mp4", clip_bytes))
    (looked,) = page.session_state["results-check"].values()
    prediction, text = looked.prediction, said(page)
    assert prediction.verdict is Verdict.UNCERTAIN
    assert f":orange[:material/help: {plain(prediction.headline)}]" in text
    assert plain(prediction.reason) in text
    assert not [part for part in page.markdown if part.value.startswith("#") and ":green[" in part.value]
    assert page.select_slider[0].value == prediction.frames[4].index
    assert "face 1: 0.900 :red[" in text
    captions = [part.value for part in page.markdown if part.value.startswith("0\\:0")]
    assert len(captions) == 5
    assert captions == sorted(captions)
    assert captions[-1].startswith(plain("0:02.9") + " 0.800 :red[")


def test_both_sides_of_a_comparison_use_the_same_wording(
    bundle: Path, home: Path, half_forged: None, clip_bytes: bytes
) -> None:
    shutil.copytree(bundle, home / "outputs/train/second/bundle")
    page = give(open_page("compare_models"), ("clip.mp4", clip_bytes))
    (looked, _) = page.session_state["results-compare"].values()
    assert said(page).count(plain(looked.prediction.headline)) == 2
    assert said(page).count(plain(looked.prediction.reason)) == 2


def test_a_warning_about_the_training_stands_beside_every_verdict(
    drawn: str, make_png: MakePng, clip_bytes: bytes
) -> None:
    page = open_app()
    assert [warning.value for warning in page.warning] == [drawn]  # before anything was judged
    for file in (("a.png", make_png(1)), ("clip.mp4", clip_bytes)):
        page = give(open_app(), file)
        assert [warning.value for warning in page.warning] == [drawn]
    page = give(page, ("a.png", make_png(1)), ("b.png", make_png(2)))
    assert [warning.value for warning in page.warning] == [drawn, drawn]  # of the table, and of the file in full


def test_a_model_trained_on_forgeries_of_others_has_no_warning(bundle: Path, make_png: MakePng) -> None:
    assert not give(open_app(), ("a.png", make_png(1))).warning


def test_the_page_lists_the_formats_that_are_read_and_takes_any_file(bundle: Path) -> None:
    page = open_app()
    assert all(name in said(page) for name in (*IMAGE_NAMES, *VIDEO_FORMATS))
    assert not page.file_uploader[0].proto.type  # content decides: a phone may call a HEIC anything
