from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from tests.conftest import compose_config

from unmask.data.datamodule import FaceDataModule
from unmask.data.tables import FaceDataset, write_dataset
from unmask.errors import ConfigError, DatasetError, LeakageError
from unmask.faces.spec import InputSpec

Maker = Callable[..., Path]


def _open(root: Path, **options: Any) -> FaceDataModule:
    data = FaceDataModule(str(root), input_spec=InputSpec(size=16), **{"num_workers": 0, **options})
    data.setup()
    return data


def _labels(data: FaceDataModule) -> list[int]:
    return [int(label) for batch in data.train_dataloader() for label in batch["label"]]


def test_weighted_sampling_draws_both_classes_equally_often(make_faces: Maker) -> None:
    data = _open(make_faces({"train": (20, 180), "val": (1, 1)}), samples_per_epoch=1000)
    labels = _labels(data)
    assert len(labels) == 1000
    assert np.mean(labels) == pytest.approx(0.5, abs=0.06)


def test_natural_sampling_takes_every_crop_once_in_another_order(make_faces: Maker) -> None:
    data = _open(make_faces({"train": (5, 30), "val": (1, 1)}), sampling="natural", batch_size=8)
    rows = [int(row) for batch in data.train_dataloader() for row in batch["row"]]
    assert sorted(rows) == list(range(35))
    assert rows != sorted(rows)


def test_validation_takes_every_crop_once_in_order_and_unaugmented(make_faces: Maker) -> None:
    def blacken(crop: np.ndarray) -> np.ndarray:
        return np.zeros_like(crop)

    data = _open(make_faces({"train": (2, 2), "val": (3, 4)}), augmentation=blacken, batch_size=4)
    batches = list(data.val_dataloader())
    assert torch.cat([batch["row"] for batch in batches]).tolist() == list(range(7))
    assert min(int(batch["image"].max()) for batch in batches) > 0
    assert max(int(batch["image"].max()) for batch in data.train_dataloader()) == 0


def test_draws_repeat_with_the_seed(make_faces: Maker) -> None:
    root = make_faces({"train": (10, 30), "val": (1, 1)})
    rows = [
        [int(row) for batch in _open(root, seed=seed).train_dataloader() for row in batch["row"]] for seed in (1, 1, 2)
    ]
    assert rows[0] == rows[1] != rows[2]


def test_batch_of_a_single_crop_is_left_out_of_training(make_faces: Maker) -> None:
    data = _open(make_faces({"train": (4, 5), "val": (1, 1)}), batch_size=4)
    assert [len(batch["label"]) for batch in data.train_dataloader()] == [4, 4]
    data = _open(make_faces({"train": (5, 5), "val": (1, 1)}), batch_size=4)
    assert [len(batch["label"]) for batch in data.train_dataloader()] == [4, 4, 2]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_augmentation_of_each_worker_differs_and_repeats(make_faces: Maker, num_workers: int) -> None:
    # All crops of a label are alike, so whatever differs between two of them was drawn by the augmentation.
    root = make_faces({"train": (0, 8), "val": (0, 1)})
    steps = ["augmentation=light", "augmentation.steps.flip=null", "augmentation.steps.jpeg=null"]
    steps += ["augmentation.steps.brightness.p=1"]
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        data = FaceDataModule(
            str(root), input_spec=InputSpec(size=16), batch_size=4, num_workers=num_workers, sampling="natural",
            augmentation=instantiate(compose_config("train", *steps).augmentation), seed=seed,
        )  # fmt: skip
        _setup_without_checks(data)
        batches = list(data.train_dataloader())
        runs.append([float(image.float().mean()) for batch in batches for image in batch["image"]])
    assert len(set(runs[0])) == 8  # eight draws, none alike: not even between the workers
    assert runs[0] == runs[1]
    if num_workers:
        assert runs[0] != runs[2]


def _setup_without_checks(data: FaceDataModule) -> None:
    from unmask.data.dataset import FaceCrops

    table = data.dataset.faces_of("train")
    data._crops["train"] = FaceCrops(
        table, root=Path(data.root), input_spec=InputSpec(size=16), transform=data._augmentation
    )


def test_worker_processes_serve_the_same_crops(make_faces: Maker) -> None:
    root = make_faces({"train": (6, 6), "val": (1, 1)})
    here, there = (
        torch.cat([batch["image"] for batch in _open(root, num_workers=count, batch_size=4).train_dataloader()])
        for count in (0, 2)
    )
    assert torch.equal(here, there)


def test_unknown_sampling_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"No sampling 'odd' \(dataset\.sampling\)\. Choose one of: weighted, natural"
    ):
        FaceDataModule(str(tmp_path), input_spec=InputSpec(), sampling="odd")


def test_number_of_samples_needs_weighted_sampling(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"samples_per_epoch=5 needs dataset\.sampling=weighted"):
        FaceDataModule(str(tmp_path), input_spec=InputSpec(), sampling="natural", samples_per_epoch=5)


def test_absent_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"No such folder: dataset\.root='.*gone'"):
        _open(tmp_path / "gone")


@pytest.mark.parametrize("split", ["train", "val"])
def test_empty_split_is_named(make_faces: Maker, split: str) -> None:
    counts = {"train": (2, 2), "val": (2, 2)}
    counts[split] = (0, 0)
    with pytest.raises(DatasetError, match=f"No face crops in '.*' for split '{split}'"):
        _open(make_faces(counts))


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_class_in_a_split_is_refused(make_faces: Maker, split: str) -> None:
    counts = {"train": (2, 2), "val": (2, 2)}
    counts[split] = (3, 0)
    with pytest.raises(DatasetError, match=f"Split '{split}' of '.*' holds only one class: 3 real crops"):
        _open(make_faces(counts))


def test_missing_crops_stop_the_run(make_faces: Maker) -> None:
    root = make_faces({"train": (2, 2), "val": (2, 2)})
    (root / "crops/drawn/original/c23/val001/000000_0.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 crops of split 'val'.*\n.*val001/000000_0\.jpg: missing"):
        _open(root)


def test_leak_stops_the_run(make_faces: Maker) -> None:
    root = make_faces({"train": (2, 2), "val": (2, 2)})
    dataset = FaceDataset.load(root)
    videos = dataset.videos.assign(group=0)
    write_dataset(root, info=dataset.info, videos=pd.DataFrame(videos), faces=dataset.faces)
    with pytest.raises(LeakageError, match="stand in more than one split"):
        _open(root)
