import numpy as np
import pytest

from unmask.faces.detector import no_detector, shrink


def test_large_pictures_shrink_to_the_longer_side_and_keep_their_shape() -> None:
    image = np.full((300, 1000, 3), 9, np.uint8)
    small, (scale_x, scale_y) = shrink(image, max_side=333)
    assert small.shape == (100, 333, 3)
    assert (333 * scale_x, 100 * scale_y) == pytest.approx((1000, 300))


def test_small_pictures_are_never_enlarged() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    small, scale = shrink(image, max_side=640)
    assert small is image
    assert scale == (1, 1)


def test_a_picture_of_one_line_keeps_a_pixel() -> None:
    assert shrink(np.zeros((1, 2000, 3), np.uint8), max_side=100)[0].shape == (1, 100, 3)


def test_none_stands_in_for_a_detector() -> None:
    assert no_detector() is None  # type: ignore[func-returns-value]
