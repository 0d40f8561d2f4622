from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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
    def blacken(crop: np.ndarray, landmarks: object) -> np.ndarray:
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


def _draw_brightness(root: Path, *, seed: int, num_workers: int, epoch: int) -> list[float]:
    """Return the mean of every augmented crop of an epoch; stored crops of a label are all alike."""
    steps = ["augmentation=light", "augmentation.steps.flip=null", "augmentation.steps.jpeg=null"]
    steps += ["augmentation.steps.brightness.p=1"]
    data = FaceDataModule(
        str(root), input_spec=InputSpec(size=16), batch_size=4, num_workers=num_workers, sampling="natural",
        augmentation=instantiate(compose_config("train", *steps).augmentation), seed=seed,
    )  # fmt: skip
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [float(image.float().mean()) for batch in loader for image in batch["image"]]


def test_augmentation_differs_between_crops_workers_and_epochs_and_repeats_with_the_seed(make_faces: Maker) -> None:
    root = make_faces({"train": (4, 4), "val": (1, 1)})
    first = _draw_brightness(root, seed=1, num_workers=0, epoch=0)
    assert len(set(first)) == 8
    assert _draw_brightness(root, seed=1, num_workers=0, epoch=0) == first
    assert _draw_brightness(root, seed=1, num_workers=2, epoch=0) == first
    assert not set(_draw_brightness(root, seed=1, num_workers=2, epoch=1)) & set(first)
    assert not set(_draw_brightness(root, seed=2, num_workers=2, epoch=0)) & set(first)


def _place(data: FaceDataModule, *, rank: int, world_size: int) -> FaceDataModule:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    return data


@pytest.mark.parametrize("sampling", ["weighted", "natural", "subsample", "paired"])
def test_two_processes_share_an_epoch_and_each_validation_crop_is_seen_once(face_dataset: Path, sampling: str) -> None:
    options: dict[str, Any] = {"sampling": sampling, "limit": {"train": 24, "val": 9}, "cap_per_method": 5}
    shares = [_place(_open(face_dataset, **options), rank=rank, world_size=2) for rank in range(2)]
    alone = _open(face_dataset, **options)
    plan = alone.build_plan().draw_epoch(0, 0)
    drawn = [[row for batch in share.train_dataloader() for row in batch["row"].tolist()] for share in shares]
    assert len(drawn[0]) == len(drawn[1]) > 0
    assert sorted(drawn[0] + drawn[1]) == sorted(draw.row for draw in plan[: 2 * len(drawn[0])])
    val = [row for share in shares for batch in share.val_dataloader() for row in batch["row"].tolist()]
    assert sorted(val) == list(range(8))  # 4 real, 4 fake


def test_paired_batches_hold_a_fake_and_its_original_side_by_side(face_dataset: Path) -> None:
    data = _open(face_dataset, sampling="paired", batch_size=6)
    table = data.table("train")
    batches = list(data.train_dataloader())
    assert sum(len(batch["row"]) for batch in batches) == 2 * (table["label"] == 1).sum()
    for batch in batches:
        assert batch["label"].tolist() == [1, 0] * (len(batch["label"]) // 2)
        names = [Path(table["video_id"][row]).name for row in batch["row"].tolist()]
        assert [name.split("_")[0] for name in names[::2]] == names[1::2]


def test_self_blending_trains_on_real_crops_each_beside_its_fake(face_dataset: Path) -> None:
    augmentation = instantiate(compose_config("train", "augmentation=sbi").augmentation)
    data = _open(face_dataset, augmentation=augmentation, sampling="natural", batch_size=4)
    assert set(data.table("train")["label"]) == {0}
    assert set(data.table("val")["label"]) == {0, 1}
    for batch in data.train_dataloader():
        assert batch["label"].tolist() == [0, 1] * (len(batch["label"]) // 2)
        assert (batch["row"][::2] == batch["row"][1::2]).all()
        assert (batch["image"][::2] != batch["image"][1::2]).flatten(1).any(1).all()


def test_self_blending_does_without_fakes_in_the_training_split(make_faces: Maker) -> None:
    augmentation = instantiate(compose_config("train", "augmentation=sbi").augmentation)
    with pytest.raises(DatasetError, match=r"landmarks.*detector="):  # and not that the split has one class
        _open(make_faces({"train": (4, 0), "val": (1, 1)}), augmentation=augmentation)


def test_a_validation_split_without_fakes_has_one_for_each_real_crop_and_always_the_same(
    face_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = FaceDataset.load(face_dataset)
    reals = {name: table[table["label"] == 0] for name, table in (("videos", dataset.videos), ("faces", dataset.faces))}
    write_dataset(tmp_path, info=dataset.info, **reals)
    (tmp_path / "crops").symlink_to(face_dataset / "crops")
    augmentation = instantiate(compose_config("train", "augmentation=sbi").augmentation)
    data = _open(tmp_path, augmentation=augmentation, batch_size=4)
    assert "Split 'val'" in caplog.text
    table = data.table("val")
    num_real = int((reals["faces"]["split"] == "val").sum())
    assert len(table) == 2 * num_real
    assert table["label"].tolist() == [0, 1] * num_real
    assert (table["crop"][::2].to_numpy() == table["crop"][1::2].to_numpy()).all()
    assert table["video_id"].iloc[1] == f"{table['video_id'].iloc[0]}/self_made"
    assert table["method"].iloc[:2].tolist() == ["original", "self_made"]
    first, again = (torch.cat([batch["image"] for batch in data.val_dataloader()]) for _ in range(2))
    assert torch.equal(first, again)
    labels = torch.cat([batch["label"] for batch in data.val_dataloader()])
    assert labels.tolist() == table["label"].tolist()
    assert (first[::2] != first[1::2]).flatten(1).any(1).all()
    limited = _open(tmp_path, augmentation=augmentation, batch_size=4, limit={"val": 6})
    assert limited.table("val")["label"].tolist() == [0, 1] * 3


def test_epoch_goes_on_at_the_batch_where_it_was_interrupted(make_faces: Maker) -> None:
    data = _open(make_faces({"train": (6, 6), "val": (1, 1)}), batch_size=4)
    whole = [batch["row"].tolist() for batch in data.train_dataloader()]
    data.resume_at(epoch=0, batch=1)
    loader = data.train_dataloader()
    assert [batch["row"].tolist() for batch in loader] == whole[1:]
    assert len(loader) == 3


def test_worker_processes_serve_the_same_crops(make_faces: Maker) -> None:
    root = make_faces({"train": (6, 6), "val": (1, 1)})
    here, there = (
        torch.cat([batch["image"] for batch in _open(root, num_workers=count, batch_size=4).train_dataloader()])
        for count in (0, 2)
    )
    assert torch.equal(here, there)


def test_unknown_sampling_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'odd' .*dataset\.sampling.*: weighted, natural"):
        FaceDataModule(str(tmp_path), input_spec=InputSpec(), sampling="odd")


def test_number_of_samples_needs_weighted_sampling(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"samples_per_epoch=5 .*dataset\.sampling=weighted"):
        FaceDataModule(str(tmp_path), input_spec=InputSpec(), sampling="natural", samples_per_epoch=5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sampling": "paired", "batch_size": 5}, r"dataset\.batch_size=5 is odd.*such as 6"),
        ({"limit": {"train": 1}}, r"dataset\.limit\.train=1 .*whole number.*\b2\b.*\bnull\b"),
        ({"cap_per_method": 0}, r"dataset\.cap_per_method=0 .*whole number.*\b1\b.*\bnull\b"),
        ({"batch_size": 0}, r"dataset\.batch_size=0 .*whole number.*\b1\b"),
        ({"batch_size": -8}, r"dataset\.batch_size=-8 must be"),
        ({"batch_size": 2.5}, r"dataset\.batch_size=2\.5 must be a whole number"),
        ({"num_workers": -1}, r"dataset\.num_workers=-1 .*whole number.*\b0\b.*\bnull\b"),
        ({"limit": {"val": "many"}}, r"dataset\.limit\.val=many .*whole number.*\b2\b"),
        ({"limit": {"train": 0.5}}, r"dataset\.limit\.train=0\.5 must be a whole number"),
        ({"limit": 500}, r"dataset\.limit=500 .*dataset\.limit\.train=500"),
        ({"cap_per_method": -3}, r"dataset\.cap_per_method=-3 must be"),
        ({"samples_per_epoch": True}, r"dataset\.samples_per_epoch=True must be"),
    ],
)
def test_impossible_options_are_refused_by_name(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        FaceDataModule(str(tmp_path), input_spec=InputSpec(), **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sampling": "paired"}, r"sampling=paired .*Drop dataset\.sampling"),
        ({"batch_size": 7}, r"batch_size=7 is odd.*such as 8"),
    ],
)
def test_self_blending_refuses_what_would_part_its_pairs(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    augmentation = instantiate(compose_config("train", "augmentation=sbi").augmentation)
    with pytest.raises(ConfigError, match=told):
        FaceDataModule(str(tmp_path), input_spec=InputSpec(), augmentation=augmentation, **options)


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
    with pytest.raises(DatasetError, match=f"Split '{split}' of '.*3 real crops and no fake"):
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
    with pytest.raises(LeakageError, match=r"train000.*val000"):
        _open(root)
