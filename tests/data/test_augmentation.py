import numpy as np
import pytest
from hydra.utils import instantiate
from tests.conftest import compose_config

from unmask.data.augmentation import Augmentation

CROP = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def _build(*overrides: str) -> Augmentation:
    augmentation: Augmentation = instantiate(compose_config("train", *overrides).augmentation)
    return augmentation


@pytest.mark.parametrize("name", ["light", "strong"])
def test_seed_repeats_the_draws_and_another_changes_them(name: str) -> None:
    augmentation, drawn = _build(f"augmentation={name}"), []
    for seed in (1, 1, 2):
        augmentation.set_seed(seed)
        drawn.append([augmentation(CROP).tobytes() for _ in range(8)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 1


@pytest.mark.parametrize("name", ["light", "strong"])
def test_augmented_crops_stay_pictures(name: str) -> None:
    augmentation = _build(f"augmentation={name}")
    before = CROP.copy()
    for _ in range(10):
        crop = augmentation(CROP)
        assert (crop.shape, crop.dtype, crop.flags["C_CONTIGUOUS"]) == (CROP.shape, np.uint8, True)
    assert (before == CROP).all()


def test_none_changes_nothing() -> None:
    assert (_build("augmentation=none")(CROP) == CROP).all()


def test_each_step_is_reachable_by_name_and_null_leaves_it_out() -> None:
    steps = ["augmentation.steps.brightness=null", "augmentation.steps.jpeg=null", "augmentation.steps.flip.p=1"]
    assert (_build("augmentation=light", *steps)(CROP) == CROP[:, ::-1]).all()
    assert (_build("augmentation=light", *steps[:2], "augmentation.steps.flip=null")(CROP) == CROP).all()
