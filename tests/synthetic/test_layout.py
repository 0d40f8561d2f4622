import json
from pathlib import Path

import pytest

from unmask.errors import ConfigError, SourceError
from unmask.synthetic.layout import Layout, check_fractions, claim_root, pair_up, split_pairs, write_splits
from unmask.types import MediaKind


def test_paths_are_those_of_faceforensics() -> None:
    layout = Layout(Path("root"))
    assert layout.original("071") == Path("root/original_sequences/youtube/c23/videos/071.mp4")
    assert layout.forgery("FaceSwap", "071", "054") == Path(
        "root/manipulated_sequences/FaceSwap/c23/videos/071_054.mp4"
    )
    assert layout.mask("FaceSwap", "071", "054") == Path("root/manipulated_sequences/FaceSwap/masks/videos/071_054.mp4")
    images = Layout(Path("root"), MediaKind.IMAGE)
    assert images.forgery("FaceSwap", "071", "054").parts[-2:] == ("images", "071_054.jpg")
    assert images.mask("FaceSwap", "071", "054").parts[-3:] == ("masks", "images", "071_054.png")


def test_everyone_is_paired_once_by_seed() -> None:
    names = [f"{number:03d}" for number in range(20)]
    pairs = pair_up(names, seed=1)
    assert sorted(name for pair in pairs for name in pair) == names
    assert pairs == pair_up(names, seed=1)
    assert pairs != pair_up(names, seed=2)


def test_odd_one_stays_alone() -> None:
    pairs = pair_up(["a", "b", "c", "d", "e"], seed=0)
    assert len({name for pair in pairs for name in pair}) == 4


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (50, (32, 8, 10))])
def test_pairs_are_shared_out_without_overlap(count: int, expected: tuple[int, ...]) -> None:
    pairs = [(f"a{index}", f"b{index}") for index in range(count)]
    splits = split_pairs(pairs, val_fraction=0.15, test_fraction=0.2)
    assert tuple(len(splits[name]) for name in ("train", "val", "test")) == expected
    assert sorted(pair for members in splits.values() for pair in members) == sorted(pairs)


def test_lists_have_the_official_form(tmp_path: Path) -> None:
    write_splits(Layout(tmp_path), {"train": [("071", "054")], "val": []})
    assert json.loads((tmp_path / "splits" / "train.json").read_text()) == [["071", "054"]]
    assert json.loads((tmp_path / "splits" / "val.json").read_text()) == []


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.2), (0.5, 0.5), (-0.1, 0.2)])
def test_fractions_that_leave_nothing_are_refused(val: float, test: float) -> None:
    with pytest.raises(ConfigError, match="val_fraction"):
        check_fractions(val_fraction=val, test_fraction=test)


def test_folder_of_other_parameters_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    root = tmp_path / "made"
    claim_root(root, record="made.json", parameters={"seed": 0, "size": 64}, key="source.root")
    claim_root(root, record="made.json", parameters={"seed": 0, "size": 64}, key="source.root")
    with pytest.raises(SourceError, match=r"seed was 0, now 1.*source\.root=.*delete") as error:
        claim_root(root, record="made.json", parameters={"seed": 1, "size": 64}, key="source.root")
    assert "size" not in str(error.value)


def test_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(SourceError, match=r"was not made by this source.*source\.root"):
        claim_root(tmp_path, record="made.json", parameters={}, key="source.root")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text("{")
    with pytest.raises(SourceError, match="is damaged"):
        claim_root(tmp_path, record="made.json", parameters={}, key="source.root")
