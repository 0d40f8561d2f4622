from pathlib import Path

import pytest

from unmask.data.splits import find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.uadfv import UADFV
from unmask.types import Label, MediaKind


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_fake_belongs_to_the_real_video_of_its_number(tmp_path: Path) -> None:
    # Names as in several public scripts: `UADFV/fake/0000_fake.mp4` and `UADFV/real/0000.mp4`, 49 each.
    videos = UADFV(_touch(tmp_path, "real/0000.mp4", "fake/0000_fake.mp4", "fake/0001_fake.mp4")).list_videos()
    assert [(v.video_id, v.label, v.method, v.split, v.identities, v.original) for v in videos] == [
        ("uadfv/original/0000", Label.REAL, "original", "test", ("0000",), None),
        ("uadfv/FakeApp/0000_fake", Label.FAKE, "FakeApp", "test", ("0000",), "uadfv/original/0000"),
        ("uadfv/FakeApp/0001_fake", Label.FAKE, "FakeApp", "test", ("0001",), None),
    ]
    assert len(set(find_groups(videos))) == 2


def test_nested_folders_of_frames_are_videos(tmp_path: Path) -> None:
    # As SCLBD/DeepfakeBench, preprocessing/rearrange.py, expects them.
    root = _touch(tmp_path, "real/frames/0000/000.png", "fake/frames/0000_fake/000.png", "fake/note.txt")
    assert UADFV.recognize(root) == "'fake/frames/0000_fake'"
    videos = UADFV(root).list_videos()
    assert [(video.video_id, video.kind) for video in videos] == [
        ("uadfv/original/0000", MediaKind.FRAMES), ("uadfv/FakeApp/0000_fake", MediaKind.FRAMES),
    ]  # fmt: skip


@pytest.mark.parametrize(("there", "absent"), [("fake/0000_fake.mp4", "'real'"), ("real/0000.mp4", "'fake'")])
def test_half_a_download_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: str, absent: str
) -> None:
    (video,) = UADFV(_touch(tmp_path, there, "real/0001.mp4.part")).list_videos()
    assert video.path == tmp_path / there
    assert ("Missing" in caplog.text and absent in caplog.text) == (absent == "'fake'")


def test_splits_by_identity_keep_pairs_together(tmp_path: Path) -> None:
    names = [name for number in range(20) for name in (f"real/{number:04d}.mp4", f"fake/{number:04d}_fake.mp4")]
    videos = UADFV(_touch(tmp_path, *names), splits="identity").list_videos()
    assert len(videos) == 40
    split_of = {video.identities[0]: video.split for video in videos}
    assert all(video.split == split_of[video.identities[0]] for video in videos)
    assert {split: list(split_of.values()).count(split) for split in ("train", "val", "test")} == {
        "train": 13, "val": 3, "test": 4,
    }  # fmt: skip


def test_other_folders_of_real_and_fake_are_left_to_their_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source=image_folder"):
        UADFV(_touch(tmp_path, "real/a.mp4", "fake/b.mp4")).list_videos()


def test_unknown_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.splits='official'.*test or identity"):
        UADFV(tmp_path, splits="official")
    with pytest.raises(ConfigError, match=r"source\.test_fraction=1\.5"):
        UADFV(tmp_path, test_fraction=1.5)
    with pytest.raises(ConfigError, match=r"source\.val_fraction=0\.5 and source\.test_fraction=0\.5"):
        UADFV(tmp_path, val_fraction=0.5, test_fraction=0.5)
