import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.errors import DetectorError
from unmask.faces.haar import HaarCascade
from unmask.media.image import read_image
from unmask.types import Image


def test_drawn_head_is_found_without_landmarks(draw_head: Callable[..., Image]) -> None:
    image = draw_head(height=480, width=640, centre=(300, 250), radius=120)
    for detector in (HaarCascade(), HaarCascade(max_side=320)):
        [faces] = detector.detect([image])
        x1, y1, x2, y2 = faces[0].box
        assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((300, 250), abs=50)
        assert 120 < x2 - x1 < 320
        assert faces[0].landmarks is None
        assert 0.5 <= faces[0].confidence < 1
        assert type(x1) is float


def test_min_size_drops_small_faces(draw_head: Callable[..., Image]) -> None:
    assert HaarCascade(min_size=220).detect([draw_head(radius=60)]) == [[]]


def test_it_can_be_pickled_after_use(draw_head: Callable[..., Image]) -> None:
    detector = HaarCascade()
    before = detector.detect([draw_head(radius=80)])
    assert before[0]
    assert pickle.loads(pickle.dumps(detector)).detect([draw_head(radius=80)]) == before


def test_images_with_nothing_to_see_hold_no_face() -> None:
    assert HaarCascade().detect([np.zeros((20, 20, 3), np.uint8), np.full((90, 120, 3), 255, np.uint8)]) == [[], []]


def test_hash_is_that_of_the_cascade_file() -> None:
    assert HaarCascade().weights_sha256 == "0f7d4527844eb514d4a4948e822da90fbb16a34a0bbbbc6adc6498747a5aafb0"


def test_opencv_without_cascades_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(DetectorError, match=r"'haarcascade_frontalface_default.xml'.*opencv-python-headless<5"):
        _ = HaarCascade().weights_sha256


def test_most_real_photographs_have_their_face(real_data: Path) -> None:
    images = [read_image(path) for path in sorted((real_data / "real_faces").glob("*.jpg"))[::16]]
    assert sum(bool(faces) for faces in HaarCascade().detect(images)) >= 0.8 * len(images)
