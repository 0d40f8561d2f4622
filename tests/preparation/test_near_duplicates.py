import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from unmask.data.tables import FaceDataset
from unmask.errors import LeakageError
from unmask.media.image import encode_jpeg, write_jpeg
from unmask.preparation import near_duplicates
from unmask.preparation.near_duplicates import find_near_duplicates, find_pairs, hash_crop, report_near_duplicates
from unmask.types import Array, Image


def _drawn(seed: int, *, size: int = 96) -> Image:
    """Return smooth random shapes, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def _distance(first: Image, second: Image) -> int:
    one, other = hash_crop(first), hash_crop(second)
    assert one is not None
    assert other is not None
    return int(np.bitwise_count(one[1:] ^ other[1:]).sum())


def test_hash_survives_what_does_not_change_the_content() -> None:
    image = _drawn(0)
    again = cv2.imdecode(np.frombuffer(encode_jpeg(image, quality=30), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    smaller = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    darker = (image * 0.8).astype(np.uint8)
    for changed in (np.ascontiguousarray(again), smaller, darker):
        assert _distance(image, np.asarray(changed, np.uint8)) <= near_duplicates.MAX_FINE_DISTANCE
    assert _distance(image, _drawn(1)) > 2 * near_duplicates.MAX_FINE_DISTANCE


def test_crop_without_contrast_has_no_hash() -> None:
    assert hash_crop(np.full((64, 64, 3), 7, np.uint8)) is None


@pytest.fixture
def dataset(make_faces: Callable[..., Path]) -> FaceDataset:
    dataset = FaceDataset.load(make_faces({"train": (4, 4), "val": (2, 2), "test": (2, 2)}))
    for number, crop in enumerate(dataset.faces["crop"]):
        write_jpeg(dataset.root / crop, _drawn(number), quality=95)
    return dataset


def _plant(dataset: FaceDataset, name: str, copy: str) -> None:
    """Give the crop of `copy` the content of `name`, smaller and encoded anew."""
    crops = dict(zip(dataset.faces["video_id"].str.rpartition("/")[2] + "/" + dataset.faces["method"],
                     dataset.faces["crop"], strict=True))  # fmt: skip
    image = cv2.imread(str(dataset.root / crops[name]))[:, :, ::-1]
    write_jpeg(dataset.root / crops[copy], cv2.resize(image, (80, 80), interpolation=cv2.INTER_AREA), quality=60)


def _report(dataset: FaceDataset, choice: str) -> None:
    report_near_duplicates(dataset.videos, dataset.faces, choice=choice, root=dataset.root)


def test_clean_dataset_has_no_near_duplicates(dataset: FaceDataset, caplog: pytest.LogCaptureFixture) -> None:
    (dataset.root / "near_duplicates.csv").write_text("of an earlier run")
    _report(dataset, "refuse")
    assert not (dataset.root / "near_duplicates.csv").exists()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_duplicate_that_no_name_betrays_is_listed_or_refused(
    dataset: FaceDataset, caplog: pytest.LogCaptureFixture
) -> None:
    _plant(dataset, "train001/original", "test000/FaceSwap")
    _report(dataset, "warn")
    (row,) = pd.read_csv(dataset.root / "near_duplicates.csv").to_dict("records")
    pair = {
        (row[f"{side}video_id"], row[f"{side}split"], row[f"{side}label"], row[f"{side}crop"])
        for side in ("", "other_")
    }
    assert pair == {
        (name, split, label, f"crops/{name}/000000_0.jpg")
        for name, split, label in (
            ("drawn/original/c23/train001", "train", "real"), ("drawn/FaceSwap/c23/test000", "test", "fake")
        )
    }  # fmt: skip
    assert row["distance"] <= near_duplicates.MAX_FINE_DISTANCE
    for word in ("1 pairs", "drawn/original/c23/train001' (real, train)", "near_duplicates=refuse", "duplicates.csv"):
        assert word in caplog.text
    with pytest.raises(LeakageError, match=r"1 pairs(?s:.*)test000' \(fake, test\)(?s:.*)near_duplicates=warn"):
        _report(dataset, "refuse")
    _report(dataset, "skip")
    assert not (dataset.root / "near_duplicates.csv").exists()


def test_likeness_within_a_split_or_a_group_is_no_leak(dataset: FaceDataset) -> None:
    _plant(dataset, "train000/original", "train001/original")
    _plant(dataset, "train002/original", "test000/FaceSwap")
    videos = dataset.videos.copy()
    names = ["drawn/original/c23/train002", "drawn/FaceSwap/c23/test000"]
    videos.loc[videos["video_id"].isin(names), "group"] = 99
    assert find_near_duplicates(videos, dataset.faces, root=dataset.root).pairs.empty
    assert len(find_near_duplicates(dataset.videos, dataset.faces, root=dataset.root).pairs) == 1


def test_unreadable_crops_and_those_without_contrast_are_counted(dataset: FaceDataset) -> None:
    first, second, third = (dataset.root / crop for crop in dataset.faces["crop"][[0, 5, 9]])
    first.unlink()
    for path in (second, third):  # black frames look alike, which says nothing
        write_jpeg(path, np.zeros((40, 40, 3), np.uint8), quality=90)
    found = find_near_duplicates(dataset.videos, dataset.faces, root=dataset.root)
    assert (found.num_crops, found.num_skipped, len(found.pairs)) == (13, 3, 0)


def test_first_middle_and_last_crop_of_a_video_are_sampled() -> None:
    faces = pd.DataFrame({"video_id": ["a"] * 9 + ["b"] * 2 + ["c"], "frame_index": [*range(9), 4, 2, 0]})
    faces["crop"] = faces["video_id"] + faces["frame_index"].astype(str)
    assert near_duplicates._sample_crops(faces)["crop"].tolist() == ["a0", "a4", "a8", "b2", "b4", "c0"]


def _draw_hashes(count: int, *, p: float = 0.5) -> Array:
    bits = (np.random.default_rng(0).random((count, 64)) < p).astype(np.uint8)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


@pytest.mark.parametrize("p", [0.5, 0.12, 0.0])
def test_search_finds_what_comparing_everything_finds(p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_LARGE", 20)
    monkeypatch.setattr(near_duplicates, "_MAX_ALIKE", 10**6)
    hashes = _draw_hashes(600, p=p)
    hashes[301:311] = hashes[:10] ^ np.uint64(0b10001 << 30 | 1)  # three bits differ
    fine, groups, parts = np.zeros((600, 4), np.uint64), np.arange(600) // 2, np.arange(600) % 3
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None])
    wanted = (distances <= 3) & (groups[:, None] != groups[None]) & (parts[:, None] != parts[None])
    first, second = find_pairs(hashes, fine, groups=groups, parts=parts)
    found = sorted(zip(first.tolist(), second.tolist(), strict=True))
    assert found == [(a, b) for a, b in np.argwhere(np.triu(wanted)).tolist()]
    assert found


def test_search_among_100_000_hashes_takes_seconds() -> None:
    hashes = _draw_hashes(100_000, p=0.3)  # uneven, as faces are
    hashes[-20_000:] = hashes[0]  # a test card
    fine = np.random.default_rng(1).integers(0, 2**64, (100_000, 4), np.uint64)
    hashes[50_000], fine[50_000] = hashes[7] ^ np.uint64(9), fine[7]
    start = time.monotonic()
    first, second = find_pairs(hashes, fine, groups=np.arange(100_000), parts=np.arange(100_000) % 3)
    assert time.monotonic() - start < 20
    assert (first.tolist(), second.tolist()) == ([7], [50_000])
