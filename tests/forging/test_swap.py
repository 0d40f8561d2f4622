import cv2
import numpy as np
import pytest

from unmask.forging.swap import (
    FORGERS,
    MEAN_FACE,
    Portrait,
    apply_affine,
    fit_affine,
    resynthesise_mouth,
    swap_face,
    swap_face_decoded,
    transfer_expression,
)
from unmask.synthetic.draw import Sitter, film
from unmask.synthetic.identity import Pose, draw_identity
from unmask.types import Array, Image

Couple = tuple[Portrait, Portrait]


def _photograph(seed: int, pose: Pose | None = None, size: int = 256) -> Portrait:
    rng = np.random.default_rng(seed)
    (head,) = film(Sitter(draw_identity(rng), size=size), [pose or Pose()], rng)
    return Portrait(head.image, head.landmarks)


@pytest.fixture(scope="module")
def pair() -> Couple:
    return _photograph(40), _photograph(41, Pose(yaw=0.1, roll=-0.1, mouth_open=0.7))


def _sharpness(image: Image, mask: Array) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F)[mask > 250].std())


@pytest.mark.parametrize("method", FORGERS)
def test_only_what_the_mask_shows_is_changed(method: str, pair: Couple) -> None:
    target, donor = pair
    before = target.image.copy()
    forgery = FORGERS[method](target, donor)
    changed = (forgery.image != target.image).any(axis=2)
    assert forgery.mask.shape == target.image.shape[:2]
    assert not changed[forgery.mask == 0].any()
    assert changed[forgery.mask > 200].mean() > 0.9
    assert 0.02 < (forgery.mask > 127).mean() < 0.4
    np.testing.assert_array_equal(target.image, before)


@pytest.mark.parametrize("method", FORGERS)
def test_forging_is_deterministic(method: str, pair: Couple) -> None:
    first, second = FORGERS[method](*pair), FORGERS[method](*pair)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)


@pytest.mark.parametrize("method", FORGERS)
def test_mask_lies_upon_the_mouth_of_a_turned_face(method: str) -> None:
    target = _photograph(7, Pose(roll=0.3, shift_x=0.4, shift_y=-0.2))
    mask = FORGERS[method](target, _photograph(8)).mask
    x, y = np.mean(target.landmarks[3:], axis=0)
    assert mask[int(y), int(x)] > 250


def test_swaps_cover_the_face_and_expressions_only_eyes_and_mouth(pair: Couple) -> None:
    target, donor = pair
    nose, eye = (tuple(int(axis) for axis in target.landmarks[index]) for index in (2, 0))
    masks = {forge: forge(target, donor).mask for forge in FORGERS.values()}
    assert masks[swap_face][nose[::-1]] == masks[swap_face_decoded][nose[::-1]] == 255
    assert masks[transfer_expression][nose[::-1]] < 128
    assert masks[transfer_expression][eye[::-1]] > 200
    assert masks[resynthesise_mouth][eye[::-1]] == 0


def test_swapped_face_is_the_donors() -> None:
    target, donor = _photograph(40), _photograph(41)
    forgery = swap_face(target, donor)
    fit = fit_affine(donor.landmarks, target.landmarks)
    expected = cv2.warpAffine(donor.image, fit, target.image.shape[1::-1])
    core = forgery.mask > 250

    def likeness(other: Image) -> float:
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[core] for image in (forgery.image, other)]
        return float(np.corrcoef(*grey)[0, 1])

    assert likeness(expected) > 0.95
    assert likeness(expected) > likeness(target.image)


def test_colours_move_towards_the_target(pair: Couple) -> None:
    target, donor = pair
    forgery = swap_face(target, donor)
    fit = fit_affine(donor.landmarks, target.landmarks)
    core = forgery.mask > 250
    raw = cv2.warpAffine(donor.image, fit, target.image.shape[1::-1])[core].mean(axis=0)
    goal, got = target.image[core].mean(axis=0), forgery.image[core].mean(axis=0)
    assert 0 < np.abs(got - goal).sum() < 0.6 * np.abs(raw - goal).sum()


def test_bottleneck_takes_detail_away(pair: Couple) -> None:
    sharp, smooth = swap_face(*pair), swap_face_decoded(*pair)
    assert _sharpness(smooth.image, smooth.mask) < 0.5 * _sharpness(sharp.image, sharp.mask)


def test_resynthesised_mouth_carries_a_periodic_texture() -> None:
    points = apply_affine(np.array([[70.0, 0, 128], [0, 70, 120]]), np.array(MEAN_FACE))
    grey = Portrait(np.full((256, 256, 3), 128, np.uint8), [(x, y) for x, y in points])
    forgery = resynthesise_mouth(grey, grey)
    x, y = (int(axis) for axis in np.mean(grey.landmarks[3:], axis=0))
    row = forgery.image[y, x - 20 : x + 20, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(row - row.mean()))
    assert row.std() > 2
    assert spectrum.max() > 6 * np.median(spectrum)
    np.testing.assert_array_equal(swap_face(grey, grey).image, grey.image)


@pytest.mark.parametrize("method", FORGERS)
def test_odd_sized_image_with_a_face_at_its_border_is_forged(method: str) -> None:
    whole, donor = _photograph(9), _photograph(10, size=151)
    left = int(whole.landmarks[0][0]) - 4
    cut = Portrait(np.ascontiguousarray(whole.image[:201, left:]), [(x - left, y) for x, y in whole.landmarks])
    forgery = FORGERS[method](cut, donor)
    assert forgery.image.shape == cut.image.shape
    assert forgery.mask.max() == 255
