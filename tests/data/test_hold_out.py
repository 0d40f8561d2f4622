from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tests.data.test_folds import FRACTIONS, _pairs

from unmask.data.splits import SplitOptions, SplitResult, split_videos, write_left_out
from unmask.errors import ConfigError, DatasetError
from unmask.types import Label, Video


def _split(videos: list[Video], *methods: str, folds: int | None = None) -> SplitResult:
    return split_videos(videos, SplitOptions(FRACTIONS, 0, hold_out=methods, folds=folds), copies=[])


def test_only_test_contains_the_held_out_method_and_others_keep_their_split(caplog: pytest.LogCaptureFixture) -> None:
    videos = _pairs(40)
    before, after = _split(videos), _split(videos, "NeuralTextures")
    stored = {video.video_id: split for video, split in zip(before.videos, before.splits, strict=True)}
    now = {video.video_id: split for video, split in zip(after.videos, after.splits, strict=True)}
    for video in videos:
        split = stored[video.video_id]
        expected = split if video.method != "NeuralTextures" or split == "test" else None
        assert now.get(video.video_id) == expected, video.video_id
    left_out = [row for row in after.left_out if row.method == "NeuralTextures" and row.label == "fake"]
    num_kept = sum(name.startswith("NeuralTextures") for name in now)
    assert len(left_out) == len(after.left_out) == 40 - num_kept > 0
    assert {row.video_id for row in left_out} == stored.keys() - now.keys()
    assert f"{num_kept} of the 40 videos of NeuralTextures" in caplog.text
    assert f"{len(left_out)} are left out" in caplog.text


def test_no_group_crosses_after_a_method_is_held_out() -> None:
    result = _split(_pairs(40), "NeuralTextures", "FaceSwap")
    assert len(set(zip(result.groups, result.splits, strict=True))) == len(set(result.groups))
    assert {v.method for v, split in zip(result.videos, result.splits, strict=True) if split != "test"} == {"original"}


def test_fakes_that_share_nothing_with_other_videos_all_go_to_test() -> None:
    videos = [Video(f"{m}{n}", Path("x"), Label(m != "original"), m) for m in ("original", "gan", "diffusion")
              for n in range(20)]  # fmt: skip
    result = _split(videos, "gan")
    assert [split for v, split in zip(result.videos, result.splits, strict=True) if v.method == "gan"] == ["test"] * 20
    assert result.left_out == []


def test_a_method_is_held_out_of_the_splits_of_the_source_and_of_folds() -> None:
    videos = [replace(video, split="train" if int(video.identities[0]) < 20 else "test") for video in _pairs(40)]
    own = _split(videos, "NeuralTextures")
    assert sum(video.method == "NeuralTextures" for video in own.videos) == 20
    folded = _split(videos, "NeuralTextures", folds=5)
    held = [split for v, split in zip(folded.videos, folded.splits, strict=True) if v.method == "NeuralTextures"]
    assert held == ["test"] * 8


def test_copies_point_at_the_videos_that_remain() -> None:
    videos = [replace(video, split="train" if int(video.identities[0]) < 20 else "test") for video in _pairs(40)]
    options = SplitOptions(FRACTIONS, 0, hold_out=["NeuralTextures"])
    result = split_videos(videos, options, copies=[[1, len(videos) - 1], [2, 3]])  # 2 is a held-out fake of train
    assert [[result.videos[place] for place in same] for same in result.copies] == [[videos[1], videos[-1]]]


@pytest.mark.parametrize("method", ["original", "NeuralTexture"])
def test_unknown_method_names_those_that_exist(method: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _split(_pairs(20), method)
    assert f"'{method}'" in str(caught.value)
    assert "FaceSwap, NeuralTextures" in str(caught.value)
    assert ("Did you mean 'NeuralTextures'" in str(caught.value)) == (method == "NeuralTexture")


def test_a_method_of_which_nothing_can_be_in_test_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"split\.hold_out=NeuralTextures .*20 videos .*split\.test"):
        _split(_pairs(20, split="train"), "NeuralTextures")


def test_what_is_left_out_is_listed_and_an_old_list_is_removed(tmp_path: Path) -> None:
    result = _split(_pairs(20), "NeuralTextures")
    write_left_out(tmp_path, result.left_out)
    table = pd.read_csv(tmp_path / "left_out.csv")
    assert table["video_id"].tolist() == [row.video_id for row in result.left_out]
    assert set(table["method"]) == {"NeuralTextures"}
    write_left_out(tmp_path, [])
    assert not (tmp_path / "left_out.csv").exists()
