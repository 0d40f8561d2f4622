from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unmask.data.splits import audit_splits
from unmask.data.tables import FaceDataset
from unmask.errors import LeakageError


@pytest.fixture
def dataset(make_faces: Callable[..., Path]) -> FaceDataset:
    return FaceDataset.load(make_faces({"train": (2, 2), "val": (2, 2)}))


def _row(table: pd.DataFrame, name: str) -> int:
    return int(np.flatnonzero(table["video_id"] == f"drawn/original/c23/{name}")[0])


def _share_across_splits(dataset: FaceDataset, column: str) -> int:
    """Count the values of a column of `videos` that are in more than one split."""
    known = dataset.videos.explode(column).dropna(subset=[column])
    return int((known.groupby(column)["split"].nunique() > 1).sum())


def _find_leak(dataset: FaceDataset) -> str | None:
    try:
        audit_splits(dataset)
    except LeakageError as error:
        return str(error)
    return None


def test_clean_dataset_passes(dataset: FaceDataset) -> None:
    assert set(dataset.videos["split"]) == {"train", "val"}
    assert _find_leak(dataset) is None


def test_prepared_dataset_passes(face_dataset: Path) -> None:
    dataset = FaceDataset.load(face_dataset)
    assert [_share_across_splits(dataset, column) for column in ("group", "identities")] == [0, 0]
    assert _find_leak(dataset) is None


def test_group_in_two_splits_is_found(dataset: FaceDataset) -> None:
    dataset.videos.loc[_row(dataset.videos, "val000"), "group"] = dataset.videos["group"][0]
    with pytest.raises(LeakageError, match=r"'drawn/original/c23/train000' in train, 'drawn/original/c23/val000' in v"):
        audit_splits(dataset)


def test_identity_in_two_splits_is_found(dataset: FaceDataset) -> None:
    dataset.videos.at[_row(dataset.videos, "val000"), "identities"] = np.array(["new", "train01"], object)
    with pytest.raises(
        LeakageError, match=r"values of 'identities' .*\n  train01: '\S+/train001' in train, '\S+/val000' in val"
    ):
        audit_splits(dataset)


def test_crops_of_one_video_in_two_splits_are_found(dataset: FaceDataset) -> None:
    dataset.faces.loc[_row(dataset.faces, "val000"), "video_id"] = "drawn/original/c23/train000"
    with pytest.raises(LeakageError, match=r"'video_id'.*\n  drawn/original/c23/train000: train, val"):
        audit_splits(dataset)


def test_one_crop_file_in_two_splits_is_found(dataset: FaceDataset) -> None:
    dataset.faces.loc[_row(dataset.faces, "val000"), "crop"] = dataset.faces["crop"][0]
    with pytest.raises(
        LeakageError, match=r"(?s)'crop'.*train000/000000_0\.jpg: '\S+/train000' in train, '\S+/val000' in val"
    ):
        audit_splits(dataset)


def test_crops_moved_to_another_split_than_their_video_are_found(dataset: FaceDataset) -> None:
    dataset.faces.loc[_row(dataset.faces, "val000"), "split"] = "train"
    with pytest.raises(LeakageError, match=r"drawn/original/c23/val000"):
        audit_splits(dataset)


def test_dataset_without_known_identities_passes(dataset: FaceDataset) -> None:
    dataset.videos["identities"] = [np.array([], object)] * len(dataset.videos)
    assert _find_leak(dataset) is None
    dataset.faces.loc[_row(dataset.faces, "val000"), "crop"] = dataset.faces["crop"][0]
    assert "crop" in str(_find_leak(dataset))  # the other checks still run
