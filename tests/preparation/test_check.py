import json
from pathlib import Path
from typing import Any

import pytest

from unmask.data.splits import SplitOptions
from unmask.preparation.check import SourceCheck, check_source
from unmask.sources.celebdf import CelebDF
from unmask.sources.csv_table import CsvTable
from unmask.sources.dfd import DeepFakeDetection
from unmask.sources.dfdc import DFDC
from unmask.sources.ffpp import FaceForensics
from unmask.sources.folders import Source
from unmask.sources.image_folder import ImageFolder

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _check(source: Source) -> SourceCheck:
    return check_source(source, SplitOptions(FRACTIONS, 0))


def _rows(result: SourceCheck) -> list[tuple[str, int, int, int]]:
    return [(part.name, part.have, part.missing, part.unexpected) for part in result.parts]


def test_ffpp_has_a_part_for_each_method_and_compression(tmp_path: Path) -> None:
    youtube, fakes = "original_sequences/youtube/{}/videos/", "manipulated_sequences/Deepfakes/{}/videos/"
    names = [youtube + "071.mp4", youtube + "054.mp4", fakes + "071_054.mp4"]
    root = _touch(tmp_path, *(name.format(level) for level in ("c23", "c40") for name in names))
    _touch(root, *((youtube + name).format("c23") for name in ("mine.mp4", "._071.mp4", "notes.txt", "x.mp4.part")))
    result = _check(FaceForensics(root, compression=["c23", "c40"]))
    assert _rows(result) == [
        ("original c23", 2, 998, 4), ("original c40", 2, 998, 0),
        ("Deepfakes c23", 1, 999, 0), ("Deepfakes c40", 1, 999, 0),
    ]  # fmt: skip
    assert result.parts[0].reasons == (
        "1 not in the split lists ('mine')", "1 of another kind ('notes.txt')",
        "2 hidden or unfinished ('._071.mp4', 'x.mp4.part')",
    )  # fmt: skip
    # 071 and 054 are a pair of the paper's train list (its first).
    assert result.counts["splits"]["train"] == {"real": 4, "fake": 2}
    assert result.counts["methods"] == {"original": 4, "Deepfakes": 2}
    assert (result.counts["identities"], result.counts["groups"]) == (2, 1)
    assert result.gaps == ["Split 'val' is empty.", "Split 'test' is empty."]
    assert len(result.known) == 7
    assert (result.groups, result.names, result.problems) == ((), (), [])


def test_dfd_counts_entries_of_another_kind(tmp_path: Path) -> None:
    fakes, actors = "manipulated_sequences/DeepFakeDetection/c23/videos/", "original_sequences/actors/c23/videos/"
    root = _touch(tmp_path, fakes + "01_02__walk__ABCDEFGH.mp4", actors + "01__walk.mp4", actors + "list.txt")
    assert _rows(_check(DeepFakeDetection(root))) == [("original c23", 1, 0, 1), ("DeepFakeDetection c23", 1, 0, 0)]


def test_celebdf_has_its_folders_as_parts(tmp_path: Path) -> None:
    root = _touch(
        tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-real/id2_0001.mp4", "Celeb-synthesis/id0_id1_0000.mp4",
        "YouTube-real/a.txt", "YouTube-real/00001.mp4",
    )  # fmt: skip
    # Of the authors' form: 1 means real.
    (root / "List_of_testing_videos.txt").write_text(
        "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n1 YouTube-real/00170.mp4\n"
    )
    (root / "Celeb-real" / "id0_0002.mp4").touch()
    result = _check(CelebDF(root, val_fraction=0))
    assert sorted(_rows(result)) == [
        ("Celeb-real", 3, 0, 0), ("Celeb-synthesis", 1, 0, 0), ("YouTube-real", 1, 1, 1)
    ]  # fmt: skip
    assert result.known == ("1 of the 3 people in test are in train or val too",)


def test_dfdc_has_its_folders_as_parts(tmp_path: Path) -> None:
    for number in range(2):
        root = _touch(tmp_path, *(f"dfdc_train_part_{number}/{name}.mp4" for name in ("a", "stray")))
        entries = {"a.mp4": {"label": "REAL"}, "b.mp4": {"label": "FAKE", "original": "a.mp4"}}
        (root / f"dfdc_train_part_{number}" / "metadata.json").write_text(json.dumps(entries))
    _touch(tmp_path, "dfdc_train_part_2/c.mp4")
    result = _check(DFDC(tmp_path))
    assert _rows(result) == [
        ("dfdc_train_part_0", 1, 1, 1),
        ("dfdc_train_part_1", 1, 1, 1),
        ("dfdc_train_part_2", 0, 0, 1),
    ]
    assert result.parts[0].example == str(tmp_path / "dfdc_train_part_0" / "b.mp4")
    assert result.parts[2].reasons == ("1 in a folder without 'metadata.json' ('c.mp4')",)
    assert "Class 'fake' is empty." in result.gaps


def test_image_folder_counts_what_is_below_no_label(tmp_path: Path) -> None:
    root = _touch(tmp_path, "real/a.jpg", "fake_gan/b.jpg", "fake_gan/notes.txt", "other/c.jpg", "other/d.jpg")
    result = _check(ImageFolder(root))
    assert _rows(result) == [("original", 1, 0, 0), ("fake_gan", 1, 0, 0), ("", 0, 0, 3)]
    assert set(result.parts[2].reasons) == {"1 '.txt' files", "2 in a folder with neither label ('other')"}


def test_csv_counts_repeated_rows_tables_and_missing_files(tmp_path: Path) -> None:
    root = _touch(tmp_path, "a.jpg")
    (root / "train.csv").write_text("path,label\na.jpg,0\na.jpg,0\ngone.jpg,1\n")
    (root / "notes.csv").write_text("x\n")
    result = _check(CsvTable(root))
    assert _rows(result) == [("original", 1, 0, 0), ("fake", 0, 1, 0), ("", 0, 0, 2)]
    assert result.parts[2].reasons == (
        "1 table not named after a split ('notes.csv')",
        "1 row that repeats a path of the same split (''train.csv' line 3: a.jpg')",
    )


def test_groups_in_two_splits_are_a_reason_to_refuse(tmp_path: Path) -> None:
    root = _touch(tmp_path, "a.jpg", "b.jpg")
    (root / "t.csv").write_text("path,label,identity,split\na.jpg,0,ann,train\nb.jpg,1,ann,test\n")
    result = _check(CsvTable(root / "t.csv"))
    assert result.groups == ("'csv/b.jpg' in test, 'csv/a.jpg' in train",)
    assert result.problems == ["1 groups are in more than one split"]
    assert result.to_dict()["usable"] is False


def test_the_same_name_in_two_splits_of_a_part_is_named(tmp_path: Path) -> None:
    names = ("train/real/1.jpg", "test/real/1.jpg", "train/fake/1.jpg", "test/fake/2.jpg")
    result = _check(ImageFolder(_touch(tmp_path, *names)))
    assert result.names == (f"'{tmp_path}/test/real/1.jpg' in test, '{tmp_path}/train/real/1.jpg' in train",)
    assert result.problems == []


@pytest.mark.parametrize(
    ("names", "gaps"),
    [
        (("train/fake_x/a.jpg",), ["Class 'real' is empty.", "Split 'test' is empty."]),
        (("train/real/a.jpg", "train/fake/b.jpg", "val/real/c.jpg", "val/fake/d.jpg", "test/fake/e.jpg"),
         ["Split 'test' has no real videos."]),
    ],
)  # fmt: skip
def test_empty_classes_and_splits_are_stated(tmp_path: Path, names: tuple[str, ...], gaps: list[str]) -> None:
    found = _check(ImageFolder(_touch(tmp_path, *names))).gaps
    assert [gap for gap in gaps if gap not in found] == []


def test_nothing_that_exists_is_not_usable(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps({"a.mp4": {"label": "REAL"}}))
    result = _check(DFDC(tmp_path))
    assert (result.gaps, result.problems) == (["None of the videos exists."], ["none of the videos exists"])


def test_a_list_twice_counts_the_same(tmp_path: Path) -> None:
    source = ImageFolder(_touch(tmp_path, "real/a.jpg", "fake/b.jpg", "x/c.jpg"))
    first: dict[str, Any] = _check(source).to_dict()
    assert _check(source).to_dict() == first
    assert json.loads(json.dumps(first)) == first
