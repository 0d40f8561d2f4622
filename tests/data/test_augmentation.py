import cv2
import numpy as np
import pytest
from hydra.utils import instantiate
from tests.conftest import compose_config

from unmask.data.augmentation import Augmentation

CROP = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def _build(*overrides: str) -> Augmentation:
    augmentation: Augmentation = instantiate(compose_config("train", *overrides).augmentation)
    return augmentation


PRESETS = ["light", "strong", "compression", "deepfakebench", "dfdc_winner", "robust", "sbi"]
LANDMARKS = np.array([[24, 27], [40, 27], [32, 36], [26, 45], [38, 45]], np.float32)


@pytest.mark.parametrize("name", PRESETS)
def test_seed_repeats_the_draws_and_another_changes_them(name: str) -> None:
    augmentation, drawn = _build(f"augmentation={name}"), []
    for seed in (1, 1, 2):
        augmentation.set_seed(seed)
        drawn.append([augmentation(CROP, LANDMARKS).tobytes() for _ in range(8)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 1


@pytest.mark.parametrize("name", PRESETS)
def test_augmented_crops_stay_images(name: str) -> None:
    augmentation = _build(f"augmentation={name}", "model.input_size=64")
    before = CROP.copy()
    for _ in range(30):
        crop = augmentation(CROP, LANDMARKS)
        assert (crop.shape, crop.dtype, crop.flags["C_CONTIGUOUS"]) == (CROP.shape, np.uint8, True)
    assert (before == CROP).all()


def test_none_changes_nothing() -> None:
    assert (_build("augmentation=none")(CROP) == CROP).all()


def test_each_step_is_reachable_by_name_and_null_leaves_it_out() -> None:
    steps = ["augmentation.steps.brightness=null", "augmentation.steps.jpeg=null", "augmentation.steps.flip.p=1"]
    assert (_build("augmentation=light", *steps)(CROP) == CROP[:, ::-1]).all()
    assert (_build("augmentation=light", *steps[:2], "augmentation.steps.flip=null")(CROP) == CROP).all()


def test_steps_are_drawn_apart_from_each_other() -> None:
    # Compose.set_random_seed gives every step the same first draw, so that two of p=0.5 always come together.
    import albumentations as A

    augmentation = Augmentation({"flip": A.HorizontalFlip(p=0.5), "flop": A.VerticalFlip(p=0.5)})
    results = set()
    for seed in range(40):
        augmentation.set_seed(seed)
        results.add(augmentation(CROP).tobytes())
    assert len(results) == 4


def test_step_within_a_choice_is_reachable_by_name() -> None:
    others = ["saturation", "contrast", "noise", "blur", "downscale", "h264"]
    steps = [f"augmentation.steps.perturbation.steps.{name}=null" for name in others]
    steps += ["augmentation.steps.flip=null", "augmentation.steps.perturbation.p=1"]
    augmented = _build("augmentation=robust", *steps)(np.zeros((64, 64, 3), np.uint8))
    assert set(np.unique(augmented)) == {0, 128}


def test_cut_out_follows_the_landmarks_through_the_steps_before() -> None:
    import albumentations as A

    from unmask.data.transforms import LandmarkCutout

    shift = A.Affine(translate_px={"x": (9, 9), "y": (-6, -6)}, border_mode=cv2.BORDER_REPLICATE, p=1)
    augmentation = Augmentation({"shift": shift, "cutout": LandmarkCutout(part_p=1)})
    centres = set()
    for seed in range(20):
        augmentation.set_seed(seed)
        rows, columns = np.nonzero(augmentation(np.full((64, 64, 3), 255, np.uint8), LANDMARKS)[..., 0] == 0)
        centres.add((round(columns.mean()), round(rows.mean())))
    assert centres == {(41, 21), (41, 26), (41, 39)}  # eyes, nose, mouth


def test_cut_out_lies_on_the_face_of_a_mirrored_crop() -> None:
    import albumentations as A

    from unmask.data.transforms import LandmarkCutout

    marked = np.full((64, 64, 3), 255, np.uint8)
    for flip in (0, 1):
        augmentation = Augmentation({"flip": A.HorizontalFlip(p=flip), "cutout": LandmarkCutout(part_p=1)})
        shifted = LANDMARKS - (14, 0)
        centres = []
        for seed in range(10):
            augmentation.set_seed(seed)
            centres.append(np.nonzero(augmentation(marked, shifted)[..., 0] == 0)[1].mean())
        assert np.allclose(centres, 45 if flip else 18, atol=1.5)


def test_cut_out_without_a_part_blackens_half_of_the_face_or_image() -> None:
    steps = ["augmentation.steps.cutout.part_p=0"]
    steps += [f"augmentation.steps.{name}=null" for name in
              ("jpeg", "noise", "blur", "flip", "resize", "colour", "gray", "affine")]  # fmt: skip
    white = np.full((64, 64, 3), 255, np.uint8)
    for half in ("half_face_p", "half_image_p"):
        other = "half_image_p" if half == "half_face_p" else "half_face_p"
        overrides = [f"augmentation.steps.cutout.{half}=1", f"augmentation.steps.cutout.{other}=0"]
        augmentation = _build("augmentation=dfdc_winner", *steps, *overrides)
        shares = []
        for seed in range(8):
            augmentation.set_seed(seed)
            shares.append((augmentation(white, LANDMARKS) == 0).mean())
        low, high = (0.1, 0.4) if half == "half_face_p" else (0.45, 0.55)
        assert low < min(shares) <= max(shares) < high


def test_video_compression_is_stronger_with_a_higher_factor() -> None:
    from unmask.media.encode import recode_image

    smooth = np.asarray(np.indices((65, 64)).sum(axis=0)[..., None] + np.arange(3) * 20, np.uint8)
    noisy = np.clip(smooth + np.random.default_rng(0).normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    errors = [np.abs(recode_image(noisy, crf=crf).astype(int) - noisy).mean() for crf in (10, 25, 40)]
    assert errors == sorted(errors)
    assert 0 < errors[0] < errors[2] < 30
    assert recode_image(noisy, crf=30).shape == noisy.shape
