from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unmask.data.dataset import cap_methods, find_originals, limit_rows
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError


@pytest.fixture
def dataset(face_dataset: Path) -> FaceDataset:
    return FaceDataset.load(face_dataset)


def test_cap_holds_for_each_method_and_leaves_the_real_crops(dataset: FaceDataset) -> None:
    table = dataset.faces_of("train")
    counts = cap_methods(table, cap=3, seed=0)["method"].value_counts().to_dict()
    assert counts.pop("original") == (table["label"] == 0).sum()
    assert set(counts.values()) == {3}
    assert len(counts) == 4


def test_limit_is_half_real_and_half_fake_and_repeats_with_the_seed(dataset: FaceDataset) -> None:
    table = dataset.faces_of("train")
    drawn = [limit_rows(table, limit=10, seed=seed)["crop"].tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert limit_rows(table, limit=10, seed=0)["label"].value_counts().to_dict() == {0: 5, 1: 5}
    real = table[table["label"] == 0].reset_index(drop=True)
    assert len(limit_rows(real, limit=10, seed=0)) == 10


def test_original_of_a_fake_is_the_same_frame_of_the_same_person(dataset: FaceDataset) -> None:
    table = dataset.faces_of("train")
    partners = find_originals(table, dataset)
    fakes = np.flatnonzero(table["label"] == 1)
    assert (partners[table["label"] == 0] == -1).all()
    for row in fakes:
        mine, theirs = table.iloc[row], table.iloc[partners[row]]
        assert theirs["method"] == "original"
        assert mine["frame_index"] == theirs["frame_index"]
        assert Path(mine["video_id"]).name.split("_")[0] == Path(theirs["video_id"]).name


def test_limit_keeps_pairs_together(dataset: FaceDataset) -> None:
    table = dataset.faces_of("train")
    limited = limit_rows(table, limit=6, seed=0, partners=find_originals(table, dataset))
    assert (find_originals(limited, dataset) >= 0).sum() == 3 == (limited["label"] == 1).sum()
    assert 1 <= (limited["label"] == 0).sum() <= 3


def test_pairing_without_originals_is_refused_with_the_way_out(dataset: FaceDataset) -> None:
    videos = pd.DataFrame(dataset.videos.assign(original=None))
    orphaned = FaceDataset(dataset.root, dataset.info, videos, dataset.faces)
    told = r"sampling=paired .*\d+ fake crops of split 'train' in '.*dataset\.sampling=weighted"
    with pytest.raises(ConfigError, match=told):
        find_originals(dataset.faces_of("train"), orphaned)
