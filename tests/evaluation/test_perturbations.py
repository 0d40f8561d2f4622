import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from unmask.errors import ConfigError
from unmask.evaluation.perturbations import (
    CLEAN,
    CLIP,
    FAMILIES,
    LEVELS,
    Condition,
    View,
    list_conditions,
    perturb,
    perturb_footage,
)
from unmask.media.encode import write_video
from unmask.preparation.reading import open_footage
from unmask.types import Image, Label, Video

SEED = (0, 1, 2)
RANDOM = ("blocks", "noise")


def draw(*, height: int = 300, width: int = 360, seed: int = 0) -> Image:
    """Coloured blotches with sharp edges and some grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (height // 20, width // 20, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def measure_psnr(image: Image, other: Image) -> float:
    error = np.mean((image.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def test_grid_has_the_levels_of_deeperforensics() -> None:
    # github.com/EndlessSora/DeeperForensics-1.0, perturbation/add_distortion_to_video.py: CS, CC, BW, GNC, GB, JPEG, VC
    published = {
        "saturation": (0.4, 0.3, 0.2, 0.1, 0.0), "contrast": (0.85, 0.725, 0.6, 0.475, 0.35),
        "blocks": (16, 32, 48, 64, 80), "noise": (0.001, 0.002, 0.005, 0.01, 0.05), "blur": (7, 9, 13, 17, 21),
        "pixelation": (2, 3, 4, 5, 6), "h264": (30, 32, 35, 38, 40),
    }  # fmt: skip
    assert {name: family.values for name, family in FAMILIES.items() if family.is_of_grid} == published


@pytest.mark.parametrize("name", FAMILIES)
def test_every_level_is_farther_from_the_image_than_the_one_before(name: str) -> None:
    clip = [draw(height=751, width=801)]  # odd sides, which codecs do not take
    original = clip[0].copy()
    results = [perturb(clip, Condition(name, level), seed=SEED) for level in LEVELS]
    assert all(result.shape == original.shape and result.dtype == np.uint8 for result in results)
    psnr = [measure_psnr(original, result) for result in results]
    assert all(weak > strong for weak, strong in pairwise(psnr)), psnr
    assert psnr[0] < 60
    np.testing.assert_array_equal(clip[0], original)


@pytest.mark.parametrize("name", FAMILIES)
def test_seed_decides_about_everything_random(name: str) -> None:
    image = draw()
    first, again, other = (perturb([image], Condition(name, 3), seed=seed) for seed in (SEED, SEED, (0, 1, 3)))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (name not in RANDOM)


def test_clean_is_the_image_itself() -> None:
    image = draw()
    assert perturb([image], CLEAN, seed=SEED) is image


def test_values_are_applied_as_published() -> None:
    image = draw(height=600, width=520)
    grey = perturb([image], Condition("saturation", 5), seed=SEED)
    assert np.ptp(grey.astype(int), axis=2).max() <= 2
    dark = perturb([image], Condition("contrast", 5), seed=SEED)
    np.testing.assert_allclose(dark, image * 0.35, atol=1)
    blurred = perturb([image], Condition("blur", 1), seed=SEED)
    np.testing.assert_array_equal(blurred, cv2.GaussianBlur(image, (7, 7), 7 / 6))
    small = cv2.resize(image, (260, 300), interpolation=cv2.INTER_LINEAR)
    pixelated = perturb([image], Condition("pixelation", 1), seed=SEED)
    np.testing.assert_array_equal(pixelated, cv2.resize(small, (520, 600), interpolation=cv2.INTER_LINEAR))


def test_larger_frames_have_more_blocks() -> None:
    def count(side: int) -> float:
        result = perturb([np.zeros((side, side, 3), np.uint8)], Condition("blocks", 1), seed=SEED)
        return float((result == 128).all(axis=2).sum() / 64)

    assert 14 < count(256) <= 16
    assert 28 < count(520) <= 32
    assert 8 < count(64) <= 16  # the published code draws none


def test_noise_has_the_variance_of_limited_range() -> None:
    # perturbation/distortions.py adds noise between bgr2ycbcr, which scales to 16..235 of 255, and its inverse
    grey = np.full((400, 400, 3), 128, np.uint8)
    noisy = perturb([grey], Condition("noise", 1), seed=SEED)
    luma = cv2.cvtColor(noisy, cv2.COLOR_RGB2YCrCb)[..., 0]
    assert luma.std() == pytest.approx(255 * 0.001**0.5 * 255 / 219, rel=0.05)


def test_h264_passes_through_the_codec_and_uses_the_frames_before(monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[str] = []
    create = av.CodecContext.create

    def record(name: str, mode: Any = None) -> Any:
        created.append(f"{name} {mode}")
        return create(name, mode)

    monkeypatch.setattr("av.CodecContext.create", record)
    image = draw()
    alone = perturb([image], Condition("h264", 4), seed=SEED)
    assert created == ["libx264 w", "h264 r"]
    moving = [np.roll(image, -2 * step, axis=1) for step in range(CLIP - 1, -1, -1)]
    within = perturb(moving, Condition("h264", 4), seed=SEED)
    assert not np.array_equal(alone, within)
    assert measure_psnr(image, within) > 20
    others = [draw(height=64, width=64)] * 4
    np.testing.assert_array_equal(perturb([*others, image], Condition("h264", 4), seed=SEED), alone)


def test_upload_scales_by_the_side_of_the_frame() -> None:
    image = draw(height=200, width=200)
    condition = Condition("downscale", 3)
    np.testing.assert_array_equal(perturb([image], condition, seed=SEED), image)  # smaller than 480 already
    full = perturb([image], condition, seed=SEED, view=View(frame_side=1920))  # a quarter as large
    quarter = cv2.resize(image, (50, 50), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(full, cv2.resize(quarter, (200, 200), interpolation=cv2.INTER_LINEAR))
    close = perturb([image], condition, seed=SEED, view=View(frame_side=1920, zoom=4))  # a crop of 800 frame pixels
    np.testing.assert_array_equal(close, image)


def test_conditions_are_clean_and_every_family_at_every_level() -> None:
    assert len(list_conditions()) == 1 + 10 * 5
    chosen = list_conditions(["noise", "blur"], [5, 1])
    assert [condition.name for condition in chosen] == ["clean", "noise_1", "noise_5", "blur_1", "blur_5"]
    assert [condition.value for condition in chosen] == [None, 0.001, 0.05, 7, 21]


@pytest.mark.parametrize(
    ("families", "levels", "named"),
    [
        (["blurr"], [1], [r"'blurr'", r"robustness\.families", r"Did you mean 'blur'", "saturation", "upload"]),
        (["blur"], [0], [r"level 0", r"robustness\.levels", "1, 2, 3, 4, 5"]),
        (["blur"], [True], [r"level True", r"robustness\.levels"]),
        (["blur"], [], [r"robustness\.levels"]),
        ([], [1], [r"robustness\.families"]),
    ],
)
def test_unknown_families_and_levels_are_named(families: list[str], levels: list[int], named: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        list_conditions(families, levels)
    for pattern in named:
        assert re.search(pattern, str(caught.value)), pattern


@pytest.mark.parametrize(("name", "read"), [("blur", [2, 9]), ("h264", [0, 1, 2, 5, 6, 7, 8, 9])])
def test_footage_is_perturbed_as_it_is_read(tmp_path: Path, name: str, read: list[int]) -> None:
    images = [np.roll(draw(height=96, width=128), 3 * step, axis=1) for step in range(12)]
    write_video(tmp_path / "clip.mp4", images, fps=25, crf=10)
    video = Video("clip", tmp_path / "clip.mp4", Label.REAL, "original")
    footage = open_footage(video, max_pixels=10**6)
    asked: list[int] = []

    def record(positions: Sequence[int]) -> Any:
        asked.extend(positions)
        return footage.read(positions)

    clean = {frame.index: frame.image for frame in footage.read(list(range(12)))}
    condition = Condition(name, 5)
    frames = list(perturb_footage(replace(footage, read=record), condition, seed=(0, 7)).read([2, 9]))
    assert asked == read
    assert [frame.index for frame in frames] == [2, 9]
    for frame in frames:
        first = max(frame.index - FAMILIES[name].num_frames + 1, 0)
        clip = [clean[index] for index in range(first, frame.index + 1)]
        np.testing.assert_array_equal(frame.image, perturb(clip, condition, seed=(0, 7, frame.index)))
    assert perturb_footage(footage, CLEAN, seed=(0, 7)) is footage
