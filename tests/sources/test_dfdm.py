from pathlib import Path

import pytest

from unmask.data.splits import check_groups, find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.dfdm import DFDM
from unmask.types import Label, MediaKind

# Names of files and release folders as the inventory tests and builder of dfwb (`builders/dfdm.py`) state them: the
# release has only fakes, `1original` is the model of FaceSwap, and the originals are Celeb-real of Celeb-DF v2.
FAKES = {
    "DFDM_crf23/FaceSwap/id1_id2_0000_1original.mp4": "FaceSwap",
    "DFDM_crf23/LightWeight/id1_id2_0000_2lightweight.mp4": "LightWeight",
    "DFDM_crf23/IAE/id1_id2_0000_3iae.mp4": "IAE",
    "DFDM_crf23/DFaker/id1_id2_0000_4dfaker.mp4": "DFaker",
    "DFDM_crf23/DFL-H128/id1_id2_0000_5dfl-h128.mp4": "DFL-H128",
}


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_five_models_are_fake_and_their_clip_of_celeb_df_is_real(tmp_path: Path) -> None:
    _touch(tmp_path / "Celeb-DF-v2/Celeb-real", "id1_0000.mp4", "id1_0001.mp4")
    videos = DFDM(_touch(tmp_path / "DFDM", *FAKES)).list_videos()
    real = "dfdm/original/id1_0000"
    rows = {(v.video_id, v.label, v.method, v.compression, v.split, v.identities, v.original) for v in videos}
    assert rows == {
        (real, Label.REAL, "original", "", "test", ("id1",), None),
        *(
            (f"dfdm/{method}/crf23/id1_id2_0000", Label.FAKE, method, "crf23", "test", ("id1", "id2"), real)
            for method in FAKES.values()
        ),
    }
    assert all(video.is_there for video in videos)


@pytest.mark.parametrize("place", ["id1_id2_0000_1_original.mp4", "c10/id1_id2_0000_1original.mp4"])
def test_other_spellings_and_depths_are_read(tmp_path: Path, place: str) -> None:
    videos = DFDM(_touch(tmp_path, place, "Celeb-real/videos/id1_0000.mp4")).list_videos()
    assert [(video.label, video.method, video.is_there) for video in videos] == [
        (Label.REAL, "original", True), (Label.FAKE, "FaceSwap", True),
    ]  # fmt: skip
    assert videos[1].compression == ("c10" if "c10" in place else "")


def test_qualities_are_told_apart_and_chosen(tmp_path: Path) -> None:
    names = [f"DFDM_{quality}/DFaker/id1_id2_0000_4dfaker.mp4" for quality in ("crf0", "crf10")]
    root = _touch(tmp_path / "DFDM", *names)
    assert len({video.video_id for video in DFDM(root).list_videos()}) == 3
    fakes = [video for video in DFDM(root, compression="crf10").list_videos() if video.label == Label.FAKE]
    assert [video.compression for video in fakes] == ["crf10"]
    with pytest.raises(SourceError, match=r"source\.compression='crf23'.*'crf0', 'crf10'"):
        DFDM(root, compression="crf23").list_videos()


def test_half_a_download_names_what_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _touch(tmp_path / "DFDM", "DFDM_crf0/IAE/id1_id2_0000_3iae.mp4", "DFDM_crf0/IAE/holiday.mp4")
    videos = DFDM(root).list_videos()
    assert [(video.video_id, video.is_there) for video in videos] == [
        ("dfdm/original/id1_0000", False), ("dfdm/IAE/crf0/id1_id2_0000", True),
    ]  # fmt: skip
    for word in ("'DFaker'", "source.celebdf_root", "holiday.mp4'"):
        assert word in caplog.text


def test_copies_of_a_fake_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _touch(tmp_path / "DFDM", "a/id1_id2_0000_3iae.mp4", "b/id1_id2_0000_3iae.mp4")
    assert len(DFDM(root).list_videos()) == 2
    assert "Skipped 1 fakes" in caplog.text


def test_celebdf_root_is_used_and_checked(tmp_path: Path) -> None:
    root = _touch(tmp_path / "here/DFDM", "id1_id2_0000_3iae.mp4")
    (real, _) = DFDM(root, celebdf_root=_touch(tmp_path / "there/celeb", "Celeb-real/id1_0000.mp4")).list_videos()
    assert real.is_there
    with pytest.raises(SourceError, match=r"'Celeb-real/id1_0000\.mp4'.*source\.celebdf_root='.*empty'"):
        DFDM(root, celebdf_root=_touch(tmp_path / "empty", "a.txt")).list_videos()


def test_folders_of_frames_are_videos(tmp_path: Path) -> None:
    (_, fake) = DFDM(_touch(tmp_path, "crf0/id1_id2_0000_3iae/000.png", "crf0/id1_id2_0000_3iae/001.png")).list_videos()
    assert (fake.video_id, fake.kind) == ("dfdm/IAE/crf0/id1_id2_0000", MediaKind.FRAMES)


def test_splits_by_identity_keep_everybody_in_one_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"id{one}_id{other}_0000_3iae.mp4" for one in range(12) for other in range(12) if one != other]
    videos = DFDM(_touch(tmp_path, *names), splits="identity").list_videos()
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])
    for split in ("train", "val", "test"):
        assert {video.label for video in videos if video.split == split} == set(Label)
    num_fakes = sum(video.label == Label.FAKE for video in videos)
    assert f"{len(names) - num_fakes} of {len(names)} fakes" in caplog.text


def test_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="id0_id1_0000_4dfaker"):
        DFDM(_touch(tmp_path, "id1_id2_0000.mp4", "id1_id2_0000_9other.mp4")).list_videos()
    with pytest.raises(ConfigError, match=r"source\.splits='official'"):
        DFDM(tmp_path, splits="official")
