import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from tests.conftest import compose_config

from unmask.data.dataset import find_landmarks
from unmask.data.sbi import SelfBlending
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError
from unmask.forging.swap import fit_outline, order_landmarks
from unmask.media.image import decode_crop_file
from unmask.types import Image

LANDMARKS = np.array([[95, 110], [160, 110], [128, 145], [102, 180], [154, 180]], np.float32)
BARE = ["augmentation=sbi", *(f"augmentation.steps.{name}=null" for name in
        ("flip", "affine", "rgb_shift", "brightness", "jpeg"))]  # fmt: skip


def _build(*overrides: str) -> SelfBlending:
    blending: SelfBlending = instantiate(compose_config("train", *overrides).augmentation)
    return blending


def _image() -> Image:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)


def test_outline_encloses_the_landmarks_and_is_convex() -> None:
    for with_forehead in (True, False):
        outline = fit_outline(LANDMARKS, with_forehead=with_forehead).astype(np.float32)
        assert all(cv2.pointPolygonTest(outline, tuple(map(float, point)), False) > 0 for point in LANDMARKS)
        area = cv2.contourArea(outline)
        assert area == pytest.approx(cv2.contourArea(cv2.convexHull(outline)), rel=0.02)
    assert fit_outline(LANDMARKS)[:, 1].min() < fit_outline(LANDMARKS, with_forehead=False)[:, 1].min() - 20


def test_outline_moves_with_the_landmarks() -> None:
    turned = np.array([[0, -1], [1, 0]])
    moved = fit_outline(LANDMARKS @ turned.T * 0.5 + 7)
    assert np.allclose(moved, fit_outline(LANDMARKS) @ turned.T * 0.5 + 7, atol=1e-3)


def test_mirrored_landmarks_change_sides() -> None:
    mirrored = LANDMARKS * (-1, 1) + (255, 0)
    assert (order_landmarks(mirrored) == mirrored[[1, 0, 2, 4, 3]]).all()
    assert (order_landmarks(LANDMARKS) == LANDMARKS).all()


def test_fake_differs_from_its_real_crop_inside_the_face_alone_where_the_source_is_changed() -> None:
    blending, crop, inside_only = _build(*BARE), _image(), 0
    outline = np.round(fit_outline(LANDMARKS)).astype(np.int32)
    face = cv2.dilate(cv2.fillPoly(np.zeros((256, 256), np.uint8), [outline], 1), np.ones((41, 41), np.uint8)) > 0
    for seed in range(30):
        blending.set_seed(seed)
        real = blending(crop, LANDMARKS)
        blending.set_seed(seed)
        fake = blending.forge(crop, LANDMARKS)
        assert (real == crop).all()
        changed = np.abs(fake.astype(int) - real).max(axis=2)
        assert changed[face].mean() > 1
        inside_only += int(changed[~face].max() <= 1)
    assert 8 <= inside_only <= 22  # else the target was changed, so that source and target differ all over


def test_real_crop_and_its_fake_go_through_the_steps_alike() -> None:
    # With a blend that changes nothing, both must come out the same, however the steps are drawn.
    still = [f"augmentation.{key}=0" for key in ("shift_x", "shift_y", "scale", "deformation")]
    still += [f"augmentation.source_steps.{name}=null" for name in ("rgb_shift", "brightness", "sharpness")]
    blending, crop, seen = _build("augmentation=sbi", *still), _image(), set()
    for seed in range(20):
        blending.set_seed(seed)
        real = blending(crop, LANDMARKS)
        blending.set_seed(seed)
        fake = blending.forge(crop, LANDMARKS)
        assert np.abs(real.astype(int) - fake).mean() < 1
        seen.add(real.tobytes())
    assert len(seen) == 20


def test_fakes_repeat_with_the_seed() -> None:
    blending, crop, drawn = _build("augmentation=sbi"), _image(), []
    for seed in (1, 2, 1):
        blending.set_seed(seed)
        drawn.append(blending.forge(crop, LANDMARKS).tobytes())
    assert drawn[0] == drawn[2] != drawn[1]


def test_outline_lies_on_the_face_of_a_prepared_crop(face_dataset: Path) -> None:
    dataset = FaceDataset.load(face_dataset)
    table = dataset.faces_of("train")
    landmarks = find_landmarks(table, spec=dataset.spec, root=face_dataset)
    for points, crop in zip(landmarks, table["crop"], strict=True):
        height, width = decode_crop_file(face_dataset / crop).shape[:2]
        assert ((points > 0) & (points < (width, height))).all()
        centre = fit_outline(points).mean(axis=0)
        assert np.abs(centre - np.array([width, height]) / 2).max() < 0.15 * width


def test_crops_without_landmarks_are_refused_with_the_way_out(face_dataset: Path) -> None:
    dataset = FaceDataset.load(face_dataset)
    table = dataset.faces_of("train").assign(landmarks=None)
    with pytest.raises(DatasetError, match=r"landmarks.*detector=retinaface_mobilenet.*augmentation=light"):
        find_landmarks(table, spec=dataset.spec, root=face_dataset)


def test_a_fake_takes_milliseconds() -> None:
    blending, crop = _build("augmentation=sbi"), _image()
    durations = []
    for seed in range(40):
        start = time.perf_counter()
        blending.set_seed(seed)
        blending.forge(crop, LANDMARKS)
        durations.append(time.perf_counter() - start)
    assert np.median(durations) < 0.02  # 2 ms on an idle core
