from pathlib import Path

import pytest

from unmask.data.splits import check_groups, find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.celebdf import TEST_LIST, CelebDF
from unmask.types import Label, MediaKind

# The list's own form, as in Celeb-DF v2: 1 is real.
TEST = "1 YouTube-real/00000.mp4\n1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n"


def _lay_out(root: Path, *names: str, test: str = TEST) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / TEST_LIST).write_text(test)
    return root


def _whole(root: Path, *, youtube: str = "YouTube-real", nested: str = "") -> Path:
    """Two circles of five people who are swapped among themselves, in two clips each, and ten others."""
    names = [f"{youtube}{nested}/{number:05d}.mp4" for number in range(10)]
    for circle in (range(5), range(5, 10)):
        for one in circle:
            names += [f"Celeb-real{nested}/id{one}_{clip:04d}.mp4" for clip in range(2)]
            names += [f"Celeb-synthesis{nested}/id{one}_id{other}_0000.mp4" for other in circle if other != one]
    return _lay_out(root, *names)


@pytest.mark.parametrize(("youtube", "nested"), [("YouTube-real", ""), ("Youtube-real", "/videos")])
def test_labels_people_and_originals_are_told_by_names(tmp_path: Path, youtube: str, nested: str) -> None:
    videos = {
        video.video_id: video
        for video in CelebDF(_whole(tmp_path, youtube=youtube, nested=nested), splits=None).list_videos()
    }
    assert len(videos) == 10 + 20 + 40
    fake, real = videos["celebdf/Celeb-synthesis/id0_id1_0000"], videos["celebdf/original/Celeb-real/id0_0000"]
    assert (fake.label, fake.method, fake.identities) == (Label.FAKE, "Celeb-synthesis", ("id0", "id1"))
    assert fake.original == real.video_id
    assert (real.label, real.method, real.identities) == (Label.REAL, "original", ("id0",))
    stranger = videos["celebdf/original/YouTube-real/00003"]
    assert (stranger.label, stranger.identities, stranger.is_there) == (Label.REAL, ("YouTube-real/00003",), True)


def test_the_test_list_means_real_by_one(tmp_path: Path) -> None:
    videos = CelebDF(_whole(tmp_path)).list_videos()
    test = {video.video_id.removeprefix("celebdf/"): video.label for video in videos if video.split == "test"}
    assert test == {
        "original/YouTube-real/00000": Label.REAL, "original/Celeb-real/id0_0000": Label.REAL,
        "Celeb-synthesis/id0_id1_0000": Label.FAKE,
    }  # fmt: skip


def test_validation_shows_other_people_than_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = CelebDF(_whole(tmp_path), val_fraction=0.3).list_videos()
    people = {
        split: {person for video in videos if video.split == split for person in video.identities}
        for split in ("train", "val", "test")
    }
    assert not people["train"] & people["val"]
    for split in ("train", "val"):
        assert {video.label for video in videos if video.split == split} == set(Label)
    assert 0.15 < sum(video.split == "val" for video in videos) / len(videos) < 0.45
    assert "2 of the 3 people" in caplog.text
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])  # the audit passes


def test_fakes_that_mix_people_of_two_splits_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _whole(tmp_path)
    everything = CelebDF(root, val_fraction=0).list_videos()
    assert len(everything) == 70
    assert {video.split for video in everything} == {"train", "test"}
    assert "mix" not in caplog.text
    videos = CelebDF(root, val_fraction=0.1).list_videos()
    assert f"{70 - len(videos)} of 39 fakes" in caplog.text


def test_videos_of_the_list_are_promised_even_if_absent(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4")
    missing = [video for video in CelebDF(root).list_videos() if not video.is_there]
    assert [video.video_id for video in missing] == ["celebdf/original/YouTube-real/00000"]


def test_a_list_that_contradicts_the_folders_is_refused(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, "Celeb-real/id0_0000.mp4", test="0 Celeb-real/id0_0000.mp4\n")
    with pytest.raises(SourceError, match=r"'Celeb-real/id0_0000' fake.*1 means real"):
        CelebDF(root).list_videos()


@pytest.mark.parametrize("line", ["2 Celeb-real/id0_0000.mp4", "1 Other/a.mp4", "Celeb-real/id0_0000.mp4"])
def test_lines_of_another_form_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(SourceError, match=f"line 2: '{line}'"):
        CelebDF(_lay_out(tmp_path, "Celeb-real/id0_0000.mp4", test=f"\n{line}\n")).list_videos()


def test_an_absent_list_is_named_with_the_way_on(tmp_path: Path) -> None:
    (_lay_out(tmp_path, "Celeb-real/id0_0000.mp4") / TEST_LIST).unlink()
    with pytest.raises(SourceError, match=rf"{TEST_LIST}'.*source\.splits=null"):
        CelebDF(tmp_path).list_videos()


def test_folders_of_frames_are_videos(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, "Celeb-real/frames/id0_0000/000.png", "Celeb-synthesis/frames/id0_id1_0000/000.png")
    videos = [video for video in CelebDF(root).list_videos() if video.is_there]
    assert {video.kind for video in videos} == {MediaKind.FRAMES}


# Folders of Celeb-DF++: OUC-VAS/Celeb-DF-PP, README.md; which methods are cropped already: its issue 1; lines of its
# list and `<method>/frames/`: a rearrange.py for 'Celeb-DF-v3' derived from SCLBD/DeepfakeBench.
PLUS = {
    "FaceSwap/BlendFace": "BlendFace", "FaceSwap/Celeb-DF": "Celeb-DF", "FaceReenact/LivePortrait": "LivePortrait",
    "FaceReenact/MCNET": "MCNET", "TalkingFace/SadTalker": "SadTalker",
}  # fmt: skip
PLUS_LIST = TEST.replace("Celeb-synthesis/", "Celeb-synthesis/FaceSwap/BlendFace/")


def _plus(root: Path, *, nested: str = "") -> Path:
    names = [f"Celeb-synthesis/{place}{nested}/id0_id1_0000.mp4" for place in PLUS]
    return _lay_out(root, *names, f"Celeb-real{nested}/id0_0000.mp4", f"YouTube-real{nested}/00000.mp4", test=PLUS_LIST)


@pytest.mark.parametrize("nested", ["", "/videos"])
def test_methods_of_the_plus_version_are_told_apart(
    tmp_path: Path, nested: str, caplog: pytest.LogCaptureFixture
) -> None:
    videos = CelebDF(_plus(tmp_path, nested=nested), splits=None).list_videos()
    real = "celebdf/original/Celeb-real/id0_0000"
    fakes = {(v.video_id, v.method, v.identities, v.original, v.is_there) for v in videos if v.label == Label.FAKE}
    assert fakes == {(f"celebdf/{method}/id0_id1_0000", method, ("id0", "id1"), real, True) for method in PLUS.values()}
    cropped, absent = (next(r.message for r in caplog.records if word in r.message) for word in ("cropped", "Missing"))
    assert "'MCNET', 'SadTalker'" in cropped
    assert "LivePortrait" not in cropped
    assert "'FaceSwap/GHOST'" in absent
    assert "SadTalker" not in absent


def test_the_list_of_the_plus_version_names_methods(tmp_path: Path) -> None:
    videos = CelebDF(_plus(tmp_path), val_fraction=0).list_videos()
    test = {video.video_id for video in videos if video.split == "test"}
    assert test == {
        "celebdf/original/YouTube-real/00000", "celebdf/original/Celeb-real/id0_0000", "celebdf/BlendFace/id0_id1_0000",
    }  # fmt: skip
    (tmp_path / "Celeb-synthesis/FaceSwap/BlendFace/id0_id1_0000.mp4").unlink()
    missing = [video.video_id for video in CelebDF(tmp_path, val_fraction=0).list_videos() if not video.is_there]
    assert missing == ["celebdf/BlendFace/id0_id1_0000"]


def test_methods_of_the_plus_version_are_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = CelebDF(_plus(tmp_path), methods=["LivePortrait"], val_fraction=0).list_videos()
    assert {video.method for video in videos} == {"original", "LivePortrait"}
    assert "cropped" not in caplog.text
    with pytest.raises(SourceError, match=r"source\.methods has 'GHOST'.*'BlendFace', 'Celeb-DF'"):
        CelebDF(tmp_path, methods=["GHOST"]).list_videos()


def test_methods_cannot_be_chosen_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.methods=\['SimSwap'\]"):
        CelebDF(_whole(tmp_path), methods=["SimSwap"]).list_videos()


def test_videos_driven_by_audio_have_one_person(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, "Celeb-synthesis/TalkingFace/SadTalker/id3_0002.mp4", "Celeb-real/id3_0002.mp4")
    videos = {video.video_id: video for video in CelebDF(root, splits=None).list_videos()}
    fake = videos["celebdf/SadTalker/id3_0002"]
    assert (fake.label, fake.identities) == (Label.FAKE, ("id3",))


def test_unknown_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.splits='strict'.*official"):
        CelebDF(tmp_path, splits="strict")
    with pytest.raises(ConfigError, match=r"source\.val_fraction=1"):
        CelebDF(tmp_path, val_fraction=1)
