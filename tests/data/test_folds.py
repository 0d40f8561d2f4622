import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from unmask.data.groups import check_folds, find_groups
from unmask.data.splits import SplitOptions, audit_splits, split_videos
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, DatasetError, LeakageError
from unmask.types import Label, Video

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def _pairs(count: int, *, split: str | None = None) -> list[Video]:
    """Real videos of everyone, and fakes of each pair in both directions by two methods, as in FaceForensics++."""
    videos = []
    for first in range(0, count, 2):
        for a, b in ((first, first + 1), (first + 1, first)):
            videos.append(Video(f"r{a}", Path("x"), Label.REAL, "original", identities=(str(a),), split=split))
            for method in ("FaceSwap", "NeuralTextures"):
                videos.append(
                    Video(f"{method}{a}", Path("x"), Label.FAKE, method, identities=(str(a), str(b)), split=split)
                )
    return videos


def _split(videos: list[Video], *, folds: int = 5, fold: int = 0, seed: int = 0) -> list[str]:
    options = SplitOptions(FRACTIONS, seed, folds=folds, fold=fold)
    return split_videos(videos, options, copies=[]).splits


def test_each_video_is_in_test_of_exactly_one_fold_and_in_val_of_another() -> None:
    videos = _pairs(60)
    turns = [_split(videos, fold=fold) for fold in range(5)]
    for video, *splits in zip(videos, *turns, strict=True):
        assert Counter(splits) == {"train": 3, "test": 1, "val": 1}, video.video_id
        assert (splits.index("test") - splits.index("val")) % 5 == 1  # val is the test of the next fold


def test_no_fold_cuts_a_group_and_each_has_its_share_of_every_method() -> None:
    videos = _pairs(60)
    groups = find_groups(videos)
    for fold in range(5):
        splits = _split(videos, fold=fold)
        assert len(set(zip(groups, splits, strict=True))) == len(set(groups)) == 30
        counts = Counter((video.method, split) for video, split in zip(videos, splits, strict=True))
        for method in ("original", "FaceSwap", "NeuralTextures"):
            assert [counts[method, split] for split in ("train", "val", "test")] == [36, 12, 12]


def test_seed_repeats_the_folds_and_another_changes_them() -> None:
    videos = _pairs(60)
    assert _split(videos, seed=3) == _split(videos, seed=3) != _split(videos, seed=4)


def test_folds_replace_the_splits_of_the_source_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    splits = _split(_pairs(20, split="train"))
    assert Counter(splits) == {"train": 36, "val": 12, "test": 12}
    assert "split.folds=5 replaces the splits of the source" in caplog.text


@pytest.mark.parametrize(
    ("folds", "fold", "words"),
    [(2, 0, ("split.folds=2", "3")), (5, 5, ("split.fold=5", "4")), (5, -1, ("split.fold=-1", "4")),
     (None, 1, ("split.fold=1", "split.folds")), (True, 0, ("split.folds=True",))],
)  # fmt: skip
def test_folds_that_do_not_exist_are_refused(folds: int | None, fold: int, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_folds(folds, fold, key="split")
    for word in words:
        assert word in str(caught.value)


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"split\.folds=5 .* 5 groups .* 2\b.*split\.folds"):
        _split(_pairs(4))


@pytest.fixture
def faces(make_faces: Callable[..., Path]) -> Path:
    return make_faces({"train": (12, 12), "val": (4, 4), "test": (4, 4)})


def test_a_dataset_is_split_anew_when_it_is_loaded(faces: Path) -> None:
    stored = FaceDataset.load(faces)
    turns = [FaceDataset.load(faces, folds=5, fold=fold) for fold in range(5)]
    for dataset in turns:
        audit_splits(dataset)
        rows = dataset.faces.merge(dataset.videos, on="video_id", suffixes=("", "_of_video"))
        assert (rows["split"] == rows["split_of_video"]).all()
        assert dataset.faces["split"].value_counts().to_dict() == {"train": 24, "val": 8, "test": 8}
        counts = dataset.faces[dataset.faces["split"] == "test"]["method"].value_counts().to_dict()
        assert counts == {"original": 4, "FaceSwap": 4}
        assert dataset.info["counts"]["faces_by_split"]["test"] == {"real": 4, "fake": 4}
    for row in zip(*(dataset.videos["split"] for dataset in turns), strict=True):
        assert Counter(row) == {"train": 3, "val": 1, "test": 1}
    pd.testing.assert_frame_equal(FaceDataset.load(faces).videos, stored.videos)  # nothing is written


def test_copies_that_the_stored_splits_separate_stay_together_in_folds(faces: Path) -> None:
    names = [f"drawn/original/c23/{name}" for name in ("train000", "val000", "test000")]
    pd.DataFrame({"file": [0, 0, 0, 1], "video_id": [*names, "gone"]}).to_csv(faces / "copies.csv", index=False)
    for fold in range(5):
        videos = FaceDataset.load(faces, folds=5, fold=fold).videos.set_index("video_id")
        assert len(set(videos.loc[names, "split"])) == len(set(videos.loc[names, "group"])) == 1


def test_folds_of_a_dataset_use_the_seed_that_it_was_prepared_with(faces: Path) -> None:
    first = FaceDataset.load(faces, folds=5).videos["split"].tolist()
    info = json.loads((faces / "dataset.json").read_text())
    (faces / "dataset.json").write_text(json.dumps(info | {"seed": 7}))
    assert FaceDataset.load(faces, folds=5).videos["split"].tolist() != first


def test_a_leak_planted_into_the_tables_is_found_in_folds_too(faces: Path) -> None:
    dataset = FaceDataset.load(faces, folds=5)
    videos = dataset.videos.copy()
    first, second = videos.index[videos["split"] == "train"][0], videos.index[videos["split"] == "test"][0]
    for row in (first, second):
        videos.at[row, "identities"] = ["ann"]
    names = {videos.at[row, "split"]: videos.at[row, "video_id"] for row in (first, second)}
    with pytest.raises(LeakageError) as caught:
        audit_splits(replace(dataset, videos=videos))
    assert f"ann: '{names['test']}' in test, '{names['train']}' in train" in str(caught.value)


def test_folds_of_a_dataset_name_the_keys_of_training(faces: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.fold=5 .*dataset\.folds=5"):
        FaceDataset.load(faces, folds=5, fold=5)
    with pytest.raises(DatasetError, match=r"dataset\.folds=41 .* 40\b"):
        FaceDataset.load(faces, folds=41)
