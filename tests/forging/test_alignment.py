import numpy as np
import pytest

from unmask.forging.swap import MEAN_FACE, apply_affine, fit_affine


def test_similarity_is_recovered_exactly() -> None:
    angle, scale = 0.4, 35.0
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = np.array(MEAN_FACE) @ turn.T + (120, 90)
    fit = fit_affine(MEAN_FACE, target)
    np.testing.assert_allclose(fit, np.column_stack([turn, (120, 90)]), atol=1e-6)


def test_narrow_face_is_fitted_better_than_by_a_similarity() -> None:
    target = np.array(MEAN_FACE) * (30, 50)
    fitted = apply_affine(fit_affine(MEAN_FACE, target), np.array(MEAN_FACE))
    widths = fitted[1, 0] - fitted[0, 0], fitted[4, 1] - fitted[1, 1]
    assert widths[0] / widths[1] == pytest.approx(0.6 * 30 / 32, rel=0.12)


def test_points_on_a_line_do_not_shear_the_face() -> None:
    profile = np.array(MEAN_FACE) * (0.02, 1.0)
    fit = fit_affine(profile, np.array(MEAN_FACE) * 40 + 100)
    assert np.isfinite(fit).all()
    assert np.abs(fit[:, :2]).max() < 200
