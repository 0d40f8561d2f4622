from typing import Any

import numpy as np
import pytest

from unmask.errors import ConfigError, DetectorError, SpecMismatchError
from unmask.faces.detector import WholeImage, build_detector, check_detector, describe_detector, no_detector, shrink
from unmask.faces.haar import HaarCascade
from unmask.faces.spec import CropSpec


def test_large_images_shrink_to_the_longer_side_and_keep_their_shape() -> None:
    image = np.full((300, 1000, 3), 9, np.uint8)
    small, (scale_x, scale_y) = shrink(image, max_side=333)
    assert small.shape == (100, 333, 3)
    assert (333 * scale_x, 100 * scale_y) == pytest.approx((1000, 300))


def test_small_images_are_never_enlarged() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    small, scale = shrink(image, max_side=640)
    assert small is image
    assert scale == (1, 1)


def test_an_image_of_one_line_keeps_a_pixel() -> None:
    assert shrink(np.zeros((1, 2000, 3), np.uint8), max_side=100)[0].shape == (1, 100, 3)


def test_none_stands_in_for_a_detector() -> None:
    assert no_detector() is None  # type: ignore[func-returns-value]


def test_specs_name_our_own_detectors_by_short_names_and_others_by_their_target() -> None:
    node = {"_target_": "unmask.faces.haar.HaarCascade", "max_side": 320, "weights": None}
    described = describe_detector(HaarCascade(max_side=320), node)
    assert (described["detector"], described["detector_options"]) == ("haar", {"max_side": 320})
    assert describe_detector(None, {"_target_": "unmask.faces.detector.no_detector"})["detector"] == "none"

    class Corners(HaarCascade):
        name = "haar"

    described = describe_detector(Corners(), {"_target_": "mylab.faces.Corners", "device": "cpu"})
    assert (described["detector"], described["detector_options"]) == ("mylab.faces.Corners", {})


def test_the_crops_of_whole_images_have_no_margin_whatever_the_default_is() -> None:
    node = {"_target_": "unmask.faces.detector.WholeImage", "fit": "squash"}
    spec = CropSpec(**describe_detector(WholeImage(fit="squash"), node))
    assert (spec.detector, spec.detector_options) == ("whole", {"fit": "squash"})
    assert (spec.margin, spec.aligned) == (1.0, False)
    built = build_detector(spec, file="a.ckpt")
    assert isinstance(built, WholeImage)
    assert built.fit == "squash"


@pytest.mark.parametrize(("width", "height"), [(30, 20), (20, 30), (1, 1)])
def test_a_whole_image_is_one_face_as_large_as_it_is(width: int, height: int) -> None:
    ((face,),) = WholeImage().detect([np.zeros((height, width, 3), np.uint8)])
    assert (face.box, face.landmarks, face.confidence) == ((0.0, 0.0, width, height), None, 1.0)


def test_an_unknown_fit_is_refused_in_the_constructor_and_in_a_spec() -> None:
    for build in (lambda: WholeImage(fit="stretch"), lambda: CropSpec("whole", "", {"fit": "stretch"})):
        with pytest.raises(ConfigError, match=r"detector\.fit='stretch'.*letterbox or squash"):
            build()


def test_the_detector_of_a_spec_is_built_with_its_options() -> None:
    spec = CropSpec("haar", HaarCascade().weights_sha256, {"max_side": 320})
    detector = build_detector(spec, file="a.ckpt")
    assert isinstance(detector, HaarCascade)
    assert detector.max_side == 320
    assert isinstance(build_detector(CropSpec("none"), file="a.ckpt"), WholeImage)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (CropSpec("mtcnn"), ("a.ckpt", "mtcnn", "retinaface_mobilenet, retinaface, haar, none")),
        (CropSpec("haar", "ab"), ("haar", "'ab'", "detector_weights=")),
        (CropSpec("haar", "ab", {"colour": 1}), ("haar", "colour", "a.ckpt")),
    ],
)
def test_a_detector_that_is_not_that_of_the_crops_is_refused(spec: CropSpec, named: tuple[str, ...]) -> None:
    with pytest.raises(SpecMismatchError) as caught:
        build_detector(spec, file="a.ckpt")
    assert all(part in str(caught.value) for part in named)


class Wrong:
    def detect(self, images: object) -> object:
        return [{"box": (0, 0, 1, 1)}]


@pytest.mark.parametrize("detector", [object(), Wrong()])
def test_what_is_not_a_detector_is_refused_before_a_video_is_read(detector: Any) -> None:
    with pytest.raises(DetectorError, match=r"'mylab\.Faces' .*detect\(images\)"):
        check_detector(detector, name="mylab.Faces")
    with pytest.raises(DetectorError, match=r"'torch\.nn\.Identity' .*detect"):
        build_detector(CropSpec("torch.nn.Identity"), file="a.ckpt")
