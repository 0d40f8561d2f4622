from pathlib import Path

import pytest
import torch
from tests.conftest import train_tiny
from tests.networks import make_network

from unmask.data.augmentation import Augmentation
from unmask.data.datamodule import FaceDataModule
from unmask.errors import ConfigError
from unmask.faces.spec import InputSpec
from unmask.training.checks import check_batch


@pytest.mark.parametrize(
    ("options", "size", "works"),
    [
        ({"name": "resnet18"}, 32, ("dataset.batch_size=2", "model.input_size=64")),
        ({"name": "tiny"}, 16, ("dataset.batch_size=2", "model.input_size=32")),
        ({"name": "efficientnet_b0", "library": "timm"}, 32, ("dataset.batch_size=2", "model.input_size=64")),
    ],
    ids=["resnet18", "tiny", "timm"],
)
def test_batch_of_one_on_maps_of_one_pixel_is_refused_with_a_fix(
    options: dict[str, str], size: int, works: tuple[str, ...]
) -> None:
    network = make_network(**options, input_size=size)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigError) as caught:
        check_batch(network, num_crops=1, batch_size=1)
    for named in (f"model.input_size={size}", "dataset.batch_size=1", *works):
        assert named in str(caught.value)
    check_batch(network, num_crops=2, batch_size=2)
    larger = int(works[1].partition("=")[2])
    check_batch(make_network(**options, input_size=larger), num_crops=1, batch_size=1)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_batch_that_has_too_few_crops_asks_for_more_of_them() -> None:
    with pytest.raises(ConfigError, match=r"more training crops .*dataset\.samples_per_epoch"):
        check_batch(make_network(name="tiny", input_size=16), num_crops=1, batch_size=8)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 7},
        {"batch_size": 3, "sampling": "natural"},
        {"batch_size": 2, "sampling": "paired"},
        {"batch_size": 1000},
        {"batch_size": 4, "samples_per_epoch": 1},
        {"batch_size": 4, "samples_per_epoch": 5},
        {"batch_size": 4, "samples_per_epoch": 6},
    ],
    ids=str,
)
def test_smallest_batch_is_that_of_the_loader(face_dataset: Path, options: dict[str, object]) -> None:
    data = FaceDataModule(str(face_dataset), input_spec=InputSpec(size=32), num_workers=0, **options)  # type: ignore[arg-type]
    data.setup()
    batches = data.train_dataloader().batch_sampler
    assert batches is not None
    assert data.count_smallest_batch(1) == min(len(batch) for batch in batches)


def test_training_with_sizes_that_do_not_fit_ends_before_its_first_step(face_dataset: Path, tmp_path: Path) -> None:
    options = ("model.input_size=16", "dataset.batch_size=1")
    with pytest.raises(ConfigError, match=r"Give dataset\.batch_size=2 or model\.input_size=32"):
        train_tiny(face_dataset, tmp_path, *options)
    step = ("+augmentation.steps.cut._target_=albumentations.RandomCrop", "+augmentation.steps.cut.p=0.01")
    sizes = ("+augmentation.steps.cut.height=65", "+augmentation.steps.cut.width=65")
    with pytest.raises(ConfigError, match=r"steps\.cut .* crops of 64 x 64 .*steps\.cut=null"):
        train_tiny(face_dataset, tmp_path, *step, *sizes)


def test_a_step_sees_the_size_after_the_previous_steps() -> None:
    import albumentations as A

    steps = {"small": A.Resize(20, 20, p=0.1), "cut": A.OneOf([A.CenterCrop(10, 10), A.CenterCrop(40, 40)], p=0.1)}
    with pytest.raises(ConfigError, match=r"augmentation\.steps\.cut cannot be applied to crops of 20 x 20"):
        Augmentation(steps).rehearse(crop_size=64)
    Augmentation({"cut": steps["cut"]}).rehearse(crop_size=64)
    assert steps["small"].p == 0.1
