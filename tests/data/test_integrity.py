import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from unmask.data.audit import find_usable_crops
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError

Maker = Callable[..., Path]


def _crop(root: Path, number: int) -> Path:
    return root / f"crops/drawn/FaceSwap/c23/train{number:03d}/000000_0.jpg"


def test_whole_crops_are_all_kept(make_faces: Maker, caplog: pytest.LogCaptureFixture) -> None:
    dataset = FaceDataset.load(make_faces({"train": (2, 3)}))
    assert len(find_usable_crops(dataset, split="train")) == 5
    assert not caplog.text


def test_few_bad_crops_are_named_counted_and_left_out(make_faces: Maker, caplog: pytest.LogCaptureFixture) -> None:
    root = make_faces({"train": (150, 150), "val": (1, 1)})
    _crop(root, 1).unlink()
    _crop(root, 4).write_bytes(_crop(root, 4).read_bytes()[:-30])
    _crop(root, 9).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        table = find_usable_crops(FaceDataset.load(root), split="train")
    assert "3 of 300 crops of split 'train'" in caplog.text
    for line in (f"{_crop(root, 1)}: missing", f"{_crop(root, 4)}: damaged", f"{_crop(root, 9)}: 0 bytes"):
        assert line in caplog.text
    assert list(table.index) == list(range(297))
    gone = {f"drawn/FaceSwap/c23/train{number:03d}" for number in (1, 4, 9)}
    assert not gone & set(table["video_id"])


def test_more_than_one_in_a_hundred_bad_crops_stop_the_run(make_faces: Maker) -> None:
    root = make_faces({"train": (50, 50)})
    _crop(root, 1).unlink()
    assert len(find_usable_crops(FaceDataset.load(root), split="train")) == 99  # one in a hundred is borne
    _crop(root, 2).unlink()
    with pytest.raises(DatasetError) as told:
        find_usable_crops(FaceDataset.load(root), split="train")
    assert "2 of 100 crops of split 'train'" in str(told.value)
    assert "more than 1%" in str(told.value)
    assert f"{_crop(root, 2)}: missing" in str(told.value)
    assert f"python prepare.py task=repair output={root}" in str(told.value)


def test_only_the_first_ten_of_many_are_named(make_faces: Maker) -> None:
    root = make_faces({"train": (1, 15)})
    for number in range(15):
        _crop(root, number).unlink()
    with pytest.raises(DatasetError, match=r"train009/.*missing\n  \.\.\. and 5 more"):
        find_usable_crops(FaceDataset.load(root), split="train")


def test_crops_of_another_format_are_decoded_to_be_sure(make_faces: Maker) -> None:
    root = make_faces({"train": (1, 1)})
    Image.new("RGB", (60, 60)).save(_crop(root, 0), "PNG")
    assert len(find_usable_crops(FaceDataset.load(root), split="train")) == 2
    _crop(root, 0).write_bytes(_crop(root, 0).read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"train000/000000_0\.jpg: damaged \(.*truncated"):
        find_usable_crops(FaceDataset.load(root), split="train")
