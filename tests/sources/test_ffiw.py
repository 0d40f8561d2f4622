from pathlib import Path

import pytest

from unmask.data.splits import find_groups
from unmask.errors import SourceError
from unmask.sources.ffiw import FFIW
from unmask.types import Label

# Layout as mapooon/SelfBlendedImages, src/inference/datasets.py (`FFIW10K-v1-release/source/val/videos/*.mp4`), and
# loaders that read `source/train/*.mp4` and `target/train/*.mp4` state it; masks lie in `target_mask/<split>/`.
RELEASE, TEST = "FFIW10K-v1-release", "FFIW10K-v1-release-test"


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_source_is_real_and_target_is_fake_in_the_published_splits(tmp_path: Path) -> None:
    root = _touch(
        tmp_path, "source/train/00000.mp4", "target/train/00000.mp4", "source/val/videos/00000.mp4",
        "target/val/videos/00001.mp4", "target_mask/train/00000.mp4",
    )  # fmt: skip
    videos = FFIW(root).list_videos()
    assert [(v.video_id, v.label, v.method, v.split, v.identities, v.original) for v in videos] == [
        ("ffiw/original/train/00000", Label.REAL, "original", "train", ("train/0",), None),
        ("ffiw/original/val/00000", Label.REAL, "original", "val", ("val/0",), None),
        ("ffiw/FFIW/train/00000", Label.FAKE, "FFIW", "train", ("train/0",), None),
        ("ffiw/FFIW/val/00001", Label.FAKE, "FFIW", "val", ("val/1",), None),
    ]


@pytest.mark.parametrize("above", ["", "FFIW10K-v1/"])
def test_both_downloads_are_read_from_their_folder(
    tmp_path: Path, above: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = _touch(
        tmp_path, f"{above}{RELEASE}/source/train/1.mp4", f"{above}{RELEASE}/target/train/1.mp4",
        f"{above}{TEST}/source/test/1.mp4", f"{above}{TEST}/target/test/1.mp4", f"{above}{TEST}/target/test/2.mp4.part",
    )  # fmt: skip
    videos = FFIW(root).list_videos()
    assert [(video.split, video.label) for video in videos] == [
        ("train", Label.REAL), ("train", Label.FAKE), ("test", Label.REAL), ("test", Label.FAKE),
    ]  # fmt: skip
    assert len(set(find_groups(videos))) == 2
    assert "'source/val', 'target/val'" in caplog.text


def test_pair_lists_tie_numbers_together(tmp_path: Path) -> None:
    # `splits/test.json` with pairs such as [[1, 3], [2, 4]]: dfwb, inventory builder `ffiw10k.py`.
    root = _touch(tmp_path, *(f"{part}/test/0000000{n}.mp4" for part in ("source", "target") for n in (1, 2, 3)))
    (root / "splits").mkdir()
    (root / "splits/test.json").write_text("[[1, 3]]")
    videos = {video.video_id.removeprefix("ffiw/"): video for video in FFIW(root).list_videos()}
    assert videos["original/test/00000001"].identities == ("test/1", "test/3")
    assert videos["FFIW/test/00000002"].identities == ("test/2",)
    groups = dict(zip(videos, find_groups(list(videos.values())), strict=True))
    assert groups["original/test/00000001"] == groups["FFIW/test/00000003"] != groups["FFIW/test/00000002"]


def test_a_damaged_pair_list_is_named(tmp_path: Path) -> None:
    root = _touch(tmp_path, "source/val/1.mp4")
    (root / "val.json").write_text("[[1]]")
    with pytest.raises(SourceError, match=r"val\.json"):
        FFIW(root).list_videos()


def test_splits_are_read_from_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Flat copies name them so: `source/videos/test_00000001.mp4` in dfwb.
    root = _touch(
        tmp_path, "source/videos/test_00000001.mp4", "target/videos/Val_00000001.mp4", "target/videos/odd.mp4"
    )
    assert [(video.video_id, video.split) for video in FFIW(root).list_videos()] == [
        ("ffiw/original/test/00000001", "test"), ("ffiw/FFIW/val/00000001", "val"),
    ]  # fmt: skip
    assert "'odd.mp4'" in caplog.text


def test_copies_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _touch(tmp_path, f"{RELEASE}/source/val/1.mp4", f"{TEST}/source/val/1.mp4")
    assert len(FFIW(root).list_videos()) == 1
    assert "Skipped 1 videos" in caplog.text


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'source/train/'"):
        FFIW(_touch(tmp_path, "source/a.mp4", "target/b.mp4")).list_videos()
