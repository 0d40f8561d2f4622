import json
from pathlib import Path

import pytest

from unmask.data.splits import find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.dfdc import DFDC
from unmask.types import Label

ENTRIES = {
    "bbb.mp4": {"label": "FAKE", "split": "train", "original": "aaa.mp4"},
    "ccc.mp4": {"label": "FAKE", "split": "train", "original": "gone.mp4"},
    "aaa.mp4": {"label": "REAL", "split": "train"},
}


def _part(folder: Path, entries: object = ENTRIES, *, absent: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps(entries))
    for name in entries if isinstance(entries, dict) else ():
        if name not in absent:
            (folder / name).touch()
    return folder


def test_one_part_is_read_with_its_originals(tmp_path: Path) -> None:
    root = _part(tmp_path / "dfdc_train_part_0", absent=("ccc.mp4",))
    videos = {video.video_id: video for video in DFDC(root).list_videos()}
    real, fake = videos["dfdc/original/dfdc_train_part_0/aaa"], videos["dfdc/dfdc/dfdc_train_part_0/bbb"]
    assert (real.label, real.method, real.path) == (Label.REAL, "original", root / "aaa.mp4")
    assert (fake.label, fake.method, fake.original) == (Label.FAKE, "dfdc", real.video_id)
    lonely = videos["dfdc/dfdc/dfdc_train_part_0/ccc"]
    assert (lonely.original, lonely.is_there) == (None, False)
    assert {video.split for video in videos.values()} == {None}  # Kaggle calls all of it train
    groups = dict(zip(videos, find_groups(list(videos.values())), strict=True))
    assert groups[real.video_id] == groups[fake.video_id] != groups[lonely.video_id]


@pytest.mark.parametrize("above", ["", "unpacked/"])
def test_parts_stay_whole_where_there_are_enough(tmp_path: Path, above: str) -> None:
    for number in range(3):
        _part(tmp_path / f"{above}dfdc_train_part_{number}")
    videos = DFDC(tmp_path).list_videos()
    assert len({video.video_id for video in videos}) == 9
    assert len(set(find_groups(videos))) == 3
    assert len(set(find_groups(DFDC(tmp_path, groups="original").list_videos()))) == 6


def test_two_parts_are_split_by_original(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        _part(tmp_path / f"dfdc_train_part_{number}")
    (tmp_path / "dfdc_train_part_2").mkdir()
    (tmp_path / "dfdc_train_part_2/a.mp4").touch()
    assert len(set(find_groups(DFDC(tmp_path).list_videos()))) == 4
    assert "'dfdc_train_part_2'" in caplog.text  # no metadata there


def test_files_that_the_metadata_do_not_name_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _part(tmp_path / "part")
    (root / "zzz.mp4").touch()
    (root / "yyy.mp4.part").touch()
    assert len(DFDC(root).list_videos()) == 3
    assert "1 videos" in caplog.text
    assert "'zzz.mp4'" in caplog.text


def test_the_test_set_is_read_with_its_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("filename,label\na.mp4,1\nsub/b.mp4,0\n")
    fake, real = DFDC(tmp_path).list_videos()
    assert (fake.label, real.label, fake.split) == (Label.FAKE, Label.REAL, "test")
    assert (real.video_id, real.path) == (f"dfdc/original/{tmp_path.name}/sub/b", tmp_path / "sub/b.mp4")


def test_splits_of_the_metadata_are_kept_where_they_differ(tmp_path: Path) -> None:
    entries = {"a.mp4": {"label": "REAL", "split": "train"}, "b.mp4": {"label": "FAKE", "split": "validation"}}
    assert [video.split for video in DFDC(_part(tmp_path / "part", entries)).list_videos()] == ["train", "val"]


@pytest.mark.parametrize("entries", [["a.mp4"], {"a.mp4": 7}])
def test_metadata_of_another_form_are_refused(tmp_path: Path, entries: object) -> None:
    with pytest.raises(SourceError, match=r"metadata\.json' .*Download it again"):
        DFDC(_part(tmp_path / "part", entries)).list_videos()


def test_unknown_labels_are_named(tmp_path: Path) -> None:
    root = _part(tmp_path / "part", {"a.mp4": {"label": "MAYBE"}, "b.mp4": {}})
    with pytest.raises(SourceError, match=r"(?s)2 entries.*a\.mp4: label 'MAYBE'.*b\.mp4: label 'None'"):
        DFDC(root).list_videos()


def test_unknown_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.groups='actor'.*part, original"):
        DFDC(tmp_path, groups="actor")
