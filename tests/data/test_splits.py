import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.data.splits import assign_splits
from unmask.errors import ConfigError, LeakageError
from unmask.types import Label, Video

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def _people(count: int, *, split: str | None = None) -> list[Video]:
    """A real video of everyone, and a fake of each pair in both directions, as in FaceForensics++."""
    videos = []
    for first in range(0, count, 2):
        for a, b in ((first, first + 1), (first + 1, first)):
            videos.append(Video(f"r{a}", Path("x"), Label.REAL, "original", identities=(str(a),), split=split))
            videos.append(Video(f"f{a}", Path("x"), Label.FAKE, "FaceSwap", identities=(str(a), str(b)), split=split))
    return videos


def _images(**counts: int) -> list[Video]:
    return [
        Video(f"{method}{n}", Path("x"), Label(method != "original"), method)
        for method, count in counts.items()
        for n in range(count)
    ]


def test_split_keeps_identities_apart() -> None:
    videos = _people(60)
    home: dict[str, set[str]] = {}
    for video, split in zip(videos, assign_splits(videos, fractions=FRACTIONS, seed=0), strict=True):
        for identity in video.identities:
            home.setdefault(identity, set()).add(split)
    assert {len(splits) for splits in home.values()} == {1}
    assert set.union(*home.values()) == {"train", "val", "test"}


def test_fractions_hold_for_every_method() -> None:
    videos = _images(original=200, swap=100, gan=40)
    splits = assign_splits(videos, fractions=FRACTIONS, seed=0)
    counts = Counter((video.method, split) for video, split in zip(videos, splits, strict=True))
    for method, total in (("original", 200), ("swap", 100), ("gan", 40)):
        assert [counts[method, split] / total for split in FRACTIONS] == pytest.approx([0.7, 0.15, 0.15], abs=0.03)


def test_seed_repeats_a_split_and_another_changes_it() -> None:
    videos = _people(60)
    first, again, other = (assign_splits(videos, fractions=FRACTIONS, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_split_of_the_source_is_kept() -> None:
    videos = _people(4, split="test") + [
        replace(video, video_id=f"{name}/{video.video_id}", identities=(), split=name)
        for video in _people(2)
        for name in ("train", "val")
    ]
    splits = assign_splits(videos, fractions=FRACTIONS, seed=0)
    assert splits == [video.split for video in videos]


def test_missing_val_is_carved_out_of_train_by_group() -> None:
    train = _people(40, split="train")
    test = [replace(v, video_id=f"t{v.video_id}", identities=(f"t{v.video_id}",), split="test") for v in _people(10)]
    splits = assign_splits(train + test, fractions=FRACTIONS, seed=0)
    assert splits[len(train) :] == ["test"] * len(test)
    counts = Counter(splits[: len(train)])
    assert set(counts) == {"train", "val"}
    assert counts["val"] / len(train) == pytest.approx(0.15 / 0.85, abs=0.06)
    for start in range(0, len(train), 4):
        assert len(set(splits[start : start + 4])) == 1


def test_nothing_goes_to_a_split_without_a_share() -> None:
    splits = assign_splits(_people(20), fractions={"train": 0.8, "val": 0.2, "test": 0.0}, seed=0)
    assert set(splits) == {"train", "val"}
    kept = assign_splits(_people(4, split="train"), fractions={"train": 1.0, "val": 0.0, "test": 0.0}, seed=0)
    assert set(kept) == {"train"}


@pytest.mark.parametrize(
    "fractions",
    [
        {"train": 0.7, "val": 0.2, "test": 0.2},
        {"train": 1.2, "val": -0.2, "test": 0.0},
        {"train": 0.5, "val": 0.5},
    ],
)
def test_fractions_that_are_no_shares_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"split\.train.*{re.escape(str(fractions))}.*split\.train=0\.7"):
        assign_splits(_people(4), fractions=fractions, seed=0)


def test_source_that_splits_a_person_is_refused() -> None:
    videos = [replace(video, split="test" if video.video_id == "f1" else "train") for video in _people(4)]
    with pytest.raises(LeakageError, match=r"1 groups of videos .*\n.*'f1' in test, 'r0' in train\n.*splits=null"):
        assign_splits(videos, fractions=FRACTIONS, seed=0)


def test_video_without_a_split_follows_its_person() -> None:
    videos = [replace(video, split=None if video.video_id == "f1" else "test") for video in _people(2)]
    assert set(assign_splits(videos, fractions=FRACTIONS, seed=0)) == {"test"}
