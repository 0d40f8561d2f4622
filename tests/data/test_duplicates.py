from pathlib import Path

import pandas as pd
import pytest

from unmask.data.audit import find_copies, report_copies
from unmask.data.splits import find_groups
from unmask.errors import LeakageError
from unmask.types import Label, MediaKind, Video


def _video(path: Path, data: bytes | None, *, label: Label = Label.REAL) -> Video:
    if data is not None:
        path.write_bytes(data)
    return Video(path.name, path, label, "original", MediaKind.IMAGE)


def test_copies_are_found_by_their_bytes(tmp_path: Path) -> None:
    contents = {
        "a": b"x" * 20_000, "b": b"x" * 10_000 + b"y" + b"x" * 9_999, "c": b"x" * 20_000, "d": b"short", "e": b"short",
        "f": b"shirt", "empty": b"", "empty too": b"", "gone": None, "gone too": None,
    }  # fmt: skip
    videos = [_video(tmp_path / name, data) for name, data in contents.items()]
    assert [[videos[index].path.name for index in same] for same in find_copies(videos)] == [["a", "c"], ["d", "e"]]


def test_folders_of_frames_are_compared_as_a_whole(tmp_path: Path) -> None:
    videos = []
    for name, frames in {"a": (b"one", b"two"), "b": (b"one", b"two"), "c": (b"one", b"six")}.items():
        (tmp_path / name).mkdir()
        for number, data in enumerate(frames):
            (tmp_path / name / f"{number}.png").write_bytes(data)
        videos.append(Video(name, tmp_path / name, Label.REAL, "original", MediaKind.FRAMES))
    assert find_copies(videos) == [[0, 1]]


def test_copies_are_a_group(tmp_path: Path) -> None:
    videos = [_video(tmp_path / name, data) for name, data in {"a": b"1", "b": b"2", "c": b"1"}.items()]
    first, second, third = find_groups(videos, copies=find_copies(videos))
    assert first == third != second


def test_copies_in_two_splits_are_listed_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = [_video(tmp_path / name, b"same", label=label) for name, label in (("a", Label.REAL), ("b", Label.FAKE))]
    copies, splits = find_copies(videos), ["train", "test"]
    report_copies(videos, splits, copies, choice="warn", root=tmp_path / "out")
    assert f"'{tmp_path / 'a'}' (real, train), '{tmp_path / 'b'}' (fake, test)" in caplog.text
    assert "duplicates=refuse" in caplog.text
    assert "labelled real" in caplog.text
    assert pd.read_csv(tmp_path / "out/copies.csv")["split"].tolist() == ["train", "test"]
    with pytest.raises(LeakageError, match=r"1 files(?s:.*)a' \(real, train\)(?s:.*)duplicates=warn"):
        report_copies(videos, splits, copies, choice="refuse", root=tmp_path / "out")
    report_copies(videos, splits, [], choice="warn", root=tmp_path / "out")
    assert not (tmp_path / "out/copies.csv").exists()
