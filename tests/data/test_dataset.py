from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from unmask.data.dataset import FaceCrops
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError
from unmask.faces.crop import prepare_input
from unmask.faces.spec import InputSpec
from unmask.media.image import decode_crop_file
from unmask.types import Image

SPEC = InputSpec(size=24)


def test_item_is_the_crop_as_the_network_takes_it(face_dataset: Path) -> None:
    dataset = FaceDataset.load(face_dataset)
    table = dataset.faces_of("val")
    crops = FaceCrops(table, root=dataset.root, input_spec=SPEC)
    item = crops[5]
    expected = prepare_input(decode_crop_file(face_dataset / table["crop"][5]), SPEC)
    assert (item["image"].dtype, tuple(item["image"].shape)) == (torch.uint8, (3, 24, 24))
    assert item["image"].is_contiguous()
    assert (item["image"].permute(1, 2, 0).numpy() == expected).all()
    assert (item["label"], item["row"]) == (table["label"][5], 5)


def test_videos_are_numbered_so_that_methods_on_one_name_stay_apart(face_dataset: Path) -> None:
    table = FaceDataset.load(face_dataset).faces_of("val")
    crops = FaceCrops(table, root=face_dataset, input_spec=SPEC)
    numbers = [crops[index]["video"] for index in range(len(crops))]
    pairs = set(zip(numbers, table["video_id"], strict=True))
    assert len(pairs) == len(set(numbers)) == table["video_id"].nunique() == 2 + 4 * 2


def test_transform_sees_the_stored_crop_before_it_is_resized(make_faces: Callable[..., Path]) -> None:
    seen: list[tuple[int, ...]] = []

    def darken(crop: Image, landmarks: object) -> Image:
        seen.append(crop.shape)
        return np.zeros_like(crop)

    root = make_faces({"train": (1, 1)})
    table = FaceDataset.load(root).faces_of("train")
    crops = FaceCrops(table, root=root, input_spec=SPEC, transform=darken)
    assert crops[0]["image"].max() == 0
    assert seen == [(40, 40, 3)]
    assert len(crops) == 2


def test_crop_that_vanished_is_named(make_faces: Callable[..., Path]) -> None:
    root = make_faces({"train": (1, 1)})
    table = FaceDataset.load(root).faces_of("train")
    (root / table["crop"][1]).unlink()
    with pytest.raises(DatasetError, match=r"train000/000000_0\.jpg' cannot be read.* task=repair output="):
        FaceCrops(table, root=root, input_spec=SPEC)[1]
