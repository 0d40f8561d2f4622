from pathlib import Path

import pytest

from unmask.data.splits import check_groups, find_groups
from unmask.errors import ConfigError, SourceError
from unmask.sources.deeperforensics import VARIANTS, DeeperForensics
from unmask.types import Label, MediaKind

# Folders, names and the advice to take FaceForensics++'s c23 originals as the real class: dataset/README.md of
# EndlessSora/DeeperForensics-1.0. Frames in `<variant>/frames`: SCLBD/DeepfakeBench, preprocessing/rearrange.py.
FAKES = "DeeperForensics-1.0/manipulated_videos/end_to_end"
LISTS = {"train": ["000_M101.mp4", "001_W102.mp4"], "val": ["002_M103.mp4"], "test": ["003_W104.mp4"]}
OFFICIAL = "FaceForensics++/original_sequences/youtube/c23/videos"


def _lay_out(folder: Path, *names: str, lists: dict[str, list[str]] = LISTS) -> Path:
    """Return the root of the dataset in a folder that may hold FaceForensics++ too."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    splits = folder / "DeeperForensics-1.0/lists/splits"
    splits.mkdir(parents=True)
    for split, lines in lists.items():
        (splits / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder / "DeeperForensics-1.0"


def _whole(folder: Path, originals: str) -> Path:
    fakes = [f"{FAKES}/{name}" for names in LISTS.values() for name in names]
    actors = "DeeperForensics-1.0/source_videos/M101/M101_light_up_happy_camera_front.mp4"
    return _lay_out(folder, *fakes, actors, *(f"{originals}/{number:03d}.mp4" for number in range(5)))


@pytest.mark.parametrize(
    ("originals", "key"),
    [
        (OFFICIAL, None),
        ("ffpp/original", None),
        ("DeeperForensics-1.0/original_sequences/youtube/c23/videos", None),
        ("elsewhere/deep/original_sequences/youtube/c23/videos", "elsewhere/deep"),
    ],
)
def test_the_real_class_is_the_targets_in_faceforensics(tmp_path: Path, originals: str, key: str | None) -> None:
    root = _whole(tmp_path, originals)
    videos = DeeperForensics(root, ffpp_root=tmp_path / key if key else None).list_videos()
    rows = [(v.video_id, v.label, v.method, v.split, v.identities, v.original, v.is_there) for v in videos]
    splits = {"000": "train", "001": "train", "002": "val", "003": "test"}
    real = "deeperforensics/original/c23/"
    assert rows == [
        *((f"{real}{name}", Label.REAL, "original", split, (name,), None, True) for name, split in splits.items()),
        *(
            (f"deeperforensics/end_to_end/{name}", Label.FAKE, "end_to_end", splits[name[:3]],
             (name[:3], name[4:]), f"{real}{name[:3]}", True)
            for name in ("000_M101", "001_W102", "002_M103", "003_W104")
        ),
    ]  # fmt: skip
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])


def test_an_absent_real_class_is_missing_rows_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = DeeperForensics(_lay_out(tmp_path, f"{FAKES}/000_M101.mp4")).list_videos()
    assert [video.video_id for video in videos if video.is_there] == ["deeperforensics/end_to_end/000_M101"]
    assert sum(video.label == Label.REAL for video in videos) == 4
    assert "source.ffpp_root" in caplog.text


def test_a_wrong_ffpp_root_is_refused(tmp_path: Path) -> None:
    root = _whole(tmp_path, OFFICIAL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"source\.ffpp_root='.*empty'"):
        DeeperForensics(root, ffpp_root=tmp_path / "empty").list_videos()


def test_variants_choose_folders_and_absent_ones_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _whole(tmp_path, OFFICIAL)
    level = root / "manipulated_videos/end_to_end_level_3"
    level.mkdir()
    (level / "000_M101.mp4").touch()
    chosen = DeeperForensics(root, variants=["end_to_end_level_3", "reenact_postprocess"]).list_videos()
    fakes = [(video.method, video.is_there) for video in chosen if video.label == Label.FAKE]
    assert fakes == [("end_to_end_level_3", True), *[("end_to_end_level_3", False)] * 3,
                     *[("reenact_postprocess", False)] * 4]  # fmt: skip
    assert "'reenact_postprocess'" in caplog.text
    everything = DeeperForensics(root, variants=None).list_videos()
    assert {video.method for video in everything} == {"original", "end_to_end", "end_to_end_level_3"}
    with pytest.raises(SourceError, match=r"end_to_end_level_5.*'end_to_end', 'end_to_end_level_3'"):
        DeeperForensics(root, variants=["end_to_end_level_5"]).list_videos()


def test_there_are_eleven_variants() -> None:
    assert len(set(VARIANTS)) == 11


def test_folders_of_frames_are_videos(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, f"{FAKES}/frames/000_M101/000.png", f"{FAKES}/frames/900_M101/000.png")
    (fake,) = (video for video in DeeperForensics(root).list_videos() if video.is_there)
    assert (fake.video_id, fake.kind) == ("deeperforensics/end_to_end/000_M101", MediaKind.FRAMES)


def test_unlisted_files_are_counted_and_read_without_lists(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _lay_out(tmp_path, f"{FAKES}/000_M101.mp4", f"{FAKES}/900_M101.mp4")
    assert "deeperforensics/end_to_end/900_M101" not in {
        video.video_id for video in DeeperForensics(root).list_videos()
    }
    assert "'900_M101'" in caplog.text
    videos = DeeperForensics(root, splits=None).list_videos()
    assert [(video.video_id.rpartition("/")[2], video.split) for video in videos] == [
        ("000", None), ("900", None), ("000_M101", None), ("900_M101", None),
    ]  # fmt: skip
    assert len(set(find_groups(videos))) == 1  # one actor


def test_clips_of_one_youtube_video_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # 605 and 606 are cut from one video: ondyari/FaceForensics, dataset/conversion_dict.json.
    lists = {"train": ["605_M101.mp4"], "val": ["606_M102.mp4"], "test": ["000_M103.mp4"]}
    root = _lay_out(tmp_path, *(f"{FAKES}/{name}" for names in lists.values() for name in names), lists=lists)
    DeeperForensics(root).list_videos()
    assert "1 groups of target clips" in caplog.text
    videos = DeeperForensics(root, splits=None).list_videos()
    groups = dict(zip((video.video_id.rpartition("/")[2] for video in videos), find_groups(videos), strict=True))
    assert groups["605_M101"] == groups["606"] == groups["606_M102"] != groups["000"]


def test_files_of_which_none_is_listed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'900_M101'.*source\.splits=null"):
        DeeperForensics(_lay_out(tmp_path, f"{FAKES}/900_M101.mp4")).list_videos()


@pytest.mark.parametrize(
    ("lists", "word"),
    [
        ({"train": ["000_M101.mp4"], "val": []}, r"test\.txt"),
        ({"train": ["000_M101.mp4"], "val": ["000_M101.mp4"], "test": []}, "'000_M101' in train.txt and val.txt"),
    ],
)
def test_incomplete_or_overlapping_lists_are_refused(tmp_path: Path, lists: dict[str, list[str]], word: str) -> None:
    with pytest.raises(SourceError, match=rf"{word}[\s\S]*source\.splits=null"):
        DeeperForensics(_lay_out(tmp_path, f"{FAKES}/000_M101.mp4", lists=lists)).list_videos()


def test_unknown_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.variants=\['level_1'\].*end_to_end_level_1"):
        DeeperForensics(tmp_path, variants=["level_1"])
    with pytest.raises(ConfigError, match=r"source\.variants=\[\]"):
        DeeperForensics(tmp_path, variants=[])
    with pytest.raises(ConfigError, match=r"source\.splits='test'.*official"):
        DeeperForensics(tmp_path, splits="test")
