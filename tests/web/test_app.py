import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import unmask.web.app
from unmask.decision import Decision
from unmask.faces.spec import CropSpec
from unmask.inference.drawing import COLOURS, draw_faces
from unmask.inference.results import FaceResult
from unmask.media.encode import write_video
from unmask.models.checkpoint import make_entry
from unmask.models.network import FaceNetwork
from unmask.types import Verdict
from unmask.web.app import find_newest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNMASK_HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["app.py"])
    return tmp_path


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    network = FaceNetwork(name="tiny", input_size=32)
    entry = make_entry(
        network_config=network.config,
        crop_spec=CropSpec("none", num_frames=3),
        decision=Decision(threshold=0.0),
        provenance={},
    )
    path = folder / "outputs/train/run/checkpoints/best.ckpt"
    path.parent.mkdir(parents=True)
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 0, "unmask": entry}, path)
    return path


def open_page() -> AppTest:
    page = AppTest.from_file(unmask.web.app.__file__, default_timeout=30).run()
    assert not page.exception
    return page


def test_without_a_checkpoint_the_page_says_how_to_make_one() -> None:
    page = open_page()
    assert "no checkpoint yet" in page.info[0].value
    assert "python train.py dataset.root=" in page.code[0].value
    assert not page.get("file_uploader")


def test_a_picture_gets_a_verdict_score_and_threshold(checkpoint: Path) -> None:
    page = open_page()
    assert page.text_input[0].value == str(checkpoint.relative_to(Path.cwd()))
    picture = cv2.imencode(".png", np.full((40, 60, 3), 90, np.uint8))[1].tobytes()
    page.file_uploader[0].set_value([("a *face*.png", picture, "image/png")]).run()
    assert not page.exception
    assert any("Fake" in text.value for text in page.markdown)
    assert [metric.label for metric in page.metric] == ["Score, P(fake)", "Threshold"]
    assert 0 < float(page.metric[0].value) < 1
    assert page.metric[1].value == "0.0000"
    assert len(page.get("image")) == 1


def test_a_video_shows_its_score_over_time(checkpoint: Path, folder: Path) -> None:
    write_video(folder / "clip.mp4", [np.full((32, 32, 3), value, np.uint8) for value in (10, 100, 200)], fps=5)
    page = open_page()
    data = (folder / "clip.mp4").read_bytes()
    page.file_uploader[0].set_value([("clip.mp4", data, "video/mp4")]).run()
    assert not page.exception
    assert len(page.get("vega_lite_chart")) == 1
    assert len(page.get("image")) == 1


def test_a_damaged_file_is_named_as_it_was_uploaded(checkpoint: Path) -> None:
    page = open_page()
    page.file_uploader[0].set_value([("broken.png", b"\x89PNG\r\n\x1a\n", "image/png")]).run()
    assert not page.exception
    assert "broken.png" in page.error[0].value
    assert "/tmp" not in page.error[0].value


def test_a_checkpoint_of_something_else_is_an_error_on_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"other": 1}, folder / "other.ckpt")
    monkeypatch.setattr(sys, "argv", ["app.py", "other.ckpt"])
    assert "checkpoint of something else" in open_page().error[0].value


def test_the_newest_best_checkpoint_is_found(checkpoint: Path, folder: Path) -> None:
    newer = folder / "outputs/a/checkpoints/best-v1.ckpt"
    newer.parent.mkdir(parents=True)
    newer.touch()
    os.utime(newer, (2e9, 2e9))
    (newer.parent / "last.ckpt").touch()
    assert find_newest(folder / "outputs") == newer
    assert find_newest(folder / "nowhere") is None


def test_boxes_have_the_colour_of_their_verdict_and_leave_the_picture_alone() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    faces = [FaceResult(0, (20.0, 30.0, 60.0, 80.0), 0.9, 0.9, Verdict.FAKE)]
    marked = draw_faces(image, faces)
    assert tuple(marked[80, 40]) == COLOURS[Verdict.FAKE]
    assert not image.any()


def test_labels_of_faces_beyond_the_border_stay_in_the_picture() -> None:
    faces = [FaceResult(0, (-30.0, -20.0, 130.0, 120.0), 0.9, 0.1, Verdict.REAL)]
    marked = draw_faces(np.zeros((100, 100, 3), np.uint8), faces)
    assert (marked == COLOURS[Verdict.REAL]).all(axis=2).any()
