from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from unmask.decision import Decision
from unmask.faces.detector import WholeImage
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet
from unmask.faces.spec import CropSpec, InputSpec
from unmask.inference.backend import TorchBackend
from unmask.inference.predictor import Predictor
from unmask.inference.scene import SceneCheck, note_scene
from unmask.media.encode import write_video
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import animate, draw_identity
from unmask.types import Face, Image


class Mean(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(1, 2, 3)) / 255


@pytest.fixture(scope="module")
def portrait() -> Image:
    """A drawn head that fills its image as in a portrait."""
    rng = np.random.default_rng(4)
    sitter = Sitter(draw_identity(rng), size=192)
    return next(iter(film(sitter, animate(rng, num_frames=1, fps=25), rng))).image


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(
        TorchBackend(Mean(), device=torch.device("cpu")),
        detector=WholeImage(),
        crop_spec=CropSpec("none", num_frames=8),
        input_spec=InputSpec(size=32),
        decision=Decision(),
    )


def put(portrait: Image, *lefts: int) -> Image:
    """A scene that holds a head, or several."""
    scene = np.full((520, 640, 3), 110, np.uint8)
    for left in lefts:
        scene[40:232, left : left + 192] = portrait
    return scene


def test_a_scene_given_to_a_model_of_crops_is_a_note_that_says_why(portrait: Image, predictor: Predictor) -> None:
    assert predictor.predict_image(portrait).notes == ()
    for scene, reason in (
        (put(portrait, 20), "%"),
        (put(portrait, 20, 300), "2 faces"),
        (np.full((200, 200, 3), 90, np.uint8), "no face"),
        (np.full((200, 500, 3), 90, np.uint8), "500 x 200"),
    ):
        (note,) = predictor.predict_image(scene).notes
        assert "detector=none" in note
        assert reason in note


def test_a_video_of_scenes_says_so_too(portrait: Image, predictor: Predictor, tmp_path: Path) -> None:
    write_video(tmp_path / "scene.mp4", [put(portrait, 20)] * 6, fps=5)
    write_video(tmp_path / "crops.mp4", [portrait] * 6, fps=5)
    (note,) = predictor.predict_video(tmp_path / "scene.mp4").notes
    assert "3 of the 3 frames" in note
    prediction = predictor.predict_video(tmp_path / "crops.mp4")
    assert prediction.notes == ()
    assert (prediction.num_examined, prediction.num_frames) == (6, 6)


def test_a_model_with_a_detector_is_not_checked(predictor: Predictor) -> None:
    other = Predictor(
        predictor.backend,
        detector=WholeImage(),
        crop_spec=CropSpec("haar"),
        input_spec=predictor.input_spec,
        decision=Decision(),
    )
    assert other.predict_image(np.full((200, 500, 3), 90, np.uint8)).notes == ()


def test_without_the_detectors_weights_the_shape_alone_tells_and_nothing_is_fetched(
    portrait: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path))
    check = SceneCheck()
    assert check.explain(put(portrait, 20, 300)) is None
    assert check.explain(np.zeros((100, 300, 3), np.uint8)) is not None
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_do_not_end_a_prediction(
    portrait: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path))
    (tmp_path / "retinaface_mobilenet025.onnx").write_bytes(b"damaged")
    assert SceneCheck().explain(portrait) is None


def test_a_small_face_in_the_background_makes_no_scene_of_a_crop() -> None:
    class Two(RetinaFaceMobileNet):
        def detect(self, images: Sequence[Image]) -> list[list[Face]]:
            large, small = Face((60.0, 60.0, 240.0, 240.0), None, 0.9), Face((40.0, 40.0, 80.0, 80.0), None, 0.9)
            return [[large, small] for _ in images]

    assert SceneCheck(Two()).explain(np.zeros((100, 100, 3), np.uint8)) is None


def test_images_too_small_to_find_a_face_in_are_no_scenes() -> None:
    assert SceneCheck().explain(np.zeros((64, 64, 3), np.uint8)) is None


def test_one_odd_frame_of_a_video_is_no_note() -> None:
    assert note_scene([None, "no face is found in it", None], is_video=True) == []
    assert note_scene([], is_video=True) == []
