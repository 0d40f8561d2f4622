import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unmask.data.splits import SplitOptions, apply_protocol, read_protocol, split_videos, write_protocol
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, DatasetError, LeakageError
from unmask.types import Label, Video

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


@pytest.fixture
def dataset(make_faces: Callable[..., Path]) -> FaceDataset:
    return FaceDataset.load(make_faces({"train": (3, 3), "test": (2, 2)}))


@pytest.fixture
def path(dataset: FaceDataset, tmp_path: Path) -> Path:
    write_protocol(dataset, tmp_path / "drawn.json")
    return tmp_path / "drawn.json"


@pytest.fixture
def videos(dataset: FaceDataset, tmp_path: Path) -> list[Video]:
    """The videos of the dataset as a source on another machine lists them, in other folders and without splits."""
    (tmp_path / "there.mp4").write_bytes(b"there")
    rows = dataset.videos.iloc[::-1].itertuples()
    return [Video(row.video_id, tmp_path / "there.mp4", Label(row.label), row.method) for row in rows]


def test_protocol_holds_splits_and_labels_and_no_path(path: Path, dataset: FaceDataset) -> None:
    content = json.loads(path.read_text())
    assert (content["format"], content["version"], content["name"]) == ("unmask split protocol", 1, "drawn")
    for row in dataset.videos.itertuples():
        label = "fake" if row.label else "real"
        assert content["videos"][row.video_id] == {"split": row.split, "label": label}
    assert len(content["videos"]) == 10
    assert len(content["sha256"]) == 64
    assert str(dataset.root.parent) not in path.read_text()
    assert ".mp4" not in path.read_text()


def test_protocol_reproduces_the_splits_even_without_val(path: Path, videos: list[Video], dataset: FaceDataset) -> None:
    kept, left_out = apply_protocol(videos, read_protocol(path))
    result = split_videos(kept, SplitOptions(FRACTIONS, 5, protocol=path), copies=[[0, 9]])
    found = {video.video_id: split for video, split in zip(result.videos, result.splits, strict=True)}
    assert found == dict(zip(dataset.videos["video_id"], dataset.videos["split"], strict=True))
    assert left_out == []


def test_what_only_one_of_the_two_has_is_listed_and_counted(
    path: Path, videos: list[Video], caplog: pytest.LogCaptureFixture
) -> None:
    gone = replace(videos[0], path=Path("gone.mp4"))
    extra = Video("drawn/FaceSwap/c23/extra", videos[0].path, Label.FAKE, "FaceSwap")
    kept, left_out = apply_protocol([gone, *videos[2:], extra], read_protocol(path))
    assert [video.video_id for video in kept] == [video.video_id for video in [gone, *videos[2:]]]
    assert [(row.video_id, row.reason) for row in left_out] == [
        (extra.video_id, "not in the protocol"),
        (videos[1].video_id, "in the protocol, but not in the source"),
    ]
    missing, unlisted = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "2 videos of the protocol are missing on this disk" in missing
    assert gone.video_id in missing
    assert videos[1].video_id in missing
    assert "1 videos are not in the protocol" in unlisted
    assert extra.video_id in unlisted


def test_a_contradicting_label_is_refused(path: Path, videos: list[Video]) -> None:
    wrong = replace(videos[0], label=Label(1 - videos[0].label))
    with pytest.raises(DatasetError) as caught:
        apply_protocol([wrong, *videos[1:]], read_protocol(path))
    assert f"{wrong.video_id}: fake in the protocol, real in the source" in str(caught.value)
    assert "1 labels" in str(caught.value)


def test_protocol_of_another_dataset_is_refused(path: Path, videos: list[Video]) -> None:
    others = [replace(video, video_id=f"celebdf/{number}") for number, video in enumerate(videos)]
    with pytest.raises(DatasetError, match=r"'drawn'.*'drawn/original/c23/train000'|'drawn'.*'celebdf/0'"):
        apply_protocol(others, read_protocol(path))


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_changed_protocol_is_refused(path: Path) -> None:
    _edit(path, lambda content: content["videos"]["drawn/FaceSwap/c23/test000"].update(split="train"))
    with pytest.raises(DatasetError, match=r"drawn\.json' has changed .*SHA-256 .*task=protocol"):
        read_protocol(path)


def test_a_reformatted_protocol_is_the_same(path: Path) -> None:
    before = read_protocol(path)
    _edit(path, lambda _: None)
    assert read_protocol(path) == before


def test_files_that_are_no_protocol_are_refused(path: Path) -> None:
    whole = path.read_text()
    for text in ("", whole[: len(whole) // 2], "[]", '{"videos": {}}'):
        path.write_text(text)
        with pytest.raises(DatasetError, match=r"drawn\.json' is not a split protocol .*task=protocol"):
            read_protocol(path)
    path.write_text(whole)
    _edit(path, lambda content: content.update(version=2))
    with pytest.raises(DatasetError, match=r"version 2; .*version 1"):
        read_protocol(path)
    with pytest.raises(DatasetError, match=r"No such file: split\.protocol='gone\.json'.*task=protocol"):
        read_protocol(Path("gone.json"))


def test_protocol_that_cuts_a_group_is_refused(path: Path, videos: list[Video]) -> None:
    kept, _ = apply_protocol([replace(video, identities=("ann",)) for video in videos], read_protocol(path))
    with pytest.raises(LeakageError, match=r"'\S+' in test, '\S+' in train"):
        split_videos(kept, SplitOptions(FRACTIONS, 0, protocol=path), copies=[])


def test_protocol_beside_keys_that_would_change_it_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"split\.protocol='.*drawn\.json'.*split\.folds=5"):
        SplitOptions(FRACTIONS, 0, folds=5, protocol=path)
    with pytest.raises(ConfigError, match=r"split\.protocol=.*split\.hold_out=.*FaceSwap"):
        SplitOptions(FRACTIONS, 0, hold_out=["FaceSwap"], protocol=path)
