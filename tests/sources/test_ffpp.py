import json
import logging
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from unmask.errors import ConfigError, SourceError
from unmask.sources.ffpp import FaceForensics
from unmask.sources.ffpp_lists import make_strict
from unmask.types import Label, MediaKind

Layout = Callable[..., Path]
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
PAIRS = {"train": [["000", "001"]], "val": [["002", "003"]], "test": [["004", "005"]]}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Lays out empty files as the download script of FaceForensics++ does, for the pairs of PAIRS."""

    def make(
        *,
        compression: str = "c23",
        methods: tuple[str, ...] = METHODS,
        media: str = "videos",
        absent: tuple[str, ...] = (),
    ) -> Path:
        root, suffix = tmp_path / "ffpp", ".mp4" if media == "videos" else ".jpg"
        files = []
        for first, second in (pair for pairs in PAIRS.values() for pair in pairs):
            files += [f"original_sequences/youtube/{compression}/{media}/{name}" for name in (first, second)]
            for method in methods:
                folder = f"manipulated_sequences/{method}/{compression}/{media}"
                files += [f"{folder}/{first}_{second}", f"{folder}/{second}_{first}"]
        for name in files:
            path = root / (name + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.stem not in absent:
                path.touch()
        (root / "splits").mkdir()
        for split, pairs in PAIRS.items():
            (root / "splits" / f"{split}.json").write_text(json.dumps(pairs))
        return root

    return make


def test_layout_gives_reals_and_both_directions_of_every_pair(layout: Layout) -> None:
    root = layout()
    videos = FaceForensics(root, splits=root / "splits").list_videos()
    assert len(videos) == 6 + 4 * 6
    assert len({video.video_id for video in videos}) == len(videos)
    assert sum(video.label == Label.REAL for video in videos) == 6
    by_id = {video.video_id: video for video in videos}
    real, fake = by_id["ffpp/original/c23/000"], by_id["ffpp/FaceSwap/c23/000_001"]
    assert real.path == root / "original_sequences/youtube/c23/videos/000.mp4"
    assert (real.label, real.method, real.identities, real.original) == (Label.REAL, "original", ("000",), None)
    assert fake.path == root / "manipulated_sequences/FaceSwap/c23/videos/000_001.mp4"
    assert (fake.label, fake.method, fake.identities) == (Label.FAKE, "FaceSwap", ("000", "001"))
    assert (fake.original, fake.compression, fake.kind) == (real.video_id, "c23", MediaKind.VIDEO)


def test_every_video_stands_in_the_split_of_its_pair(layout: Layout) -> None:
    root = layout()
    for video in FaceForensics(root, splits=root / "splits").list_videos():
        pair = sorted(video.identities)[0]
        assert video.split == {"000": "train", "001": "train", "002": "val", "003": "val"}.get(pair, "test")


def test_videos_of_the_lists_are_promised_even_if_absent(layout: Layout) -> None:
    root = layout(absent=("002", "003_002"))
    videos = FaceForensics(root, splits=root / "splits").list_videos()
    assert len(videos) == 30
    missing = [video.video_id for video in videos if not video.path.is_file()]
    assert missing == ["ffpp/original/c23/002", *(f"ffpp/{method}/c23/003_002" for method in METHODS)]


def test_official_lists_hold_the_thousand_clips_of_the_paper(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        videos = FaceForensics(_official(tmp_path, "071", "Deepfakes/071_054")).list_videos()
    counts = {split: sum(v.split == split and v.label == Label.REAL for v in videos) for split in PAIRS}
    assert counts == {"train": 720, "val": 140, "test": 140}
    assert sum(video.label == Label.FAKE for video in videos) == 1000
    assert "7 groups" in caplog.text
    assert "source.splits=null" in caplog.text


def test_without_lists_the_folders_tell_and_no_split_is_given(layout: Layout) -> None:
    videos = FaceForensics(layout(absent=("005",)), splits=None).list_videos()
    assert {video.split for video in videos} == {None}
    assert len(videos) == 29
    widow = next(video for video in videos if video.video_id == "ffpp/FaceSwap/c23/005_004")
    assert widow.original is None  # the original is not promised by anyone
    assert widow.identities == ("005", "004")


def test_without_lists_clips_of_one_youtube_video_are_one_person(tmp_path: Path) -> None:
    groups = json.loads((files("unmask.sources") / "ffpp_splits" / "same_youtube_video.json").read_text())
    first, second = groups[0][:2]
    folder = tmp_path / "original_sequences/youtube/c23/videos"
    folder.mkdir(parents=True)
    for name in (first, second):
        (folder / f"{name}.mp4").touch()
    one, two = FaceForensics(tmp_path, methods=(), splits=None).list_videos()
    assert one.video_id != two.video_id
    assert one.identities == two.identities


def test_images_in_place_of_videos_are_read(layout: Layout) -> None:
    root = layout(media="images")
    videos = FaceForensics(root, splits=root / "splits", methods=("Face2Face",)).list_videos()
    assert {video.kind for video in videos} == {MediaKind.IMAGE}
    assert all(video.path.suffix == ".jpg" and video.path.is_file() for video in videos)


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _official(root: Path, *clips: str) -> Path:
    """Lays out clips such as `071` and `Deepfakes/071_054` as the download script does."""
    parts = {clip: clip.split("/") for clip in clips}
    folders = {
        clip: f"manipulated_sequences/{part[0]}" if len(part) == 2 else "original_sequences/youtube"
        for clip, part in parts.items()
    }
    return _touch(root, *(f"{folders[clip]}/c23/videos/{parts[clip][-1]}.mp4" for clip in clips))


def test_methods_are_those_that_are_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _official(tmp_path, "071", "054", "Deepfakes/071_054", "FaceShifter/054_071", "DeepFakeDetection/01_02__x")
    with caplog.at_level(logging.INFO):
        videos = FaceForensics(root).list_videos()
    assert {video.method for video in videos} == {"original", "Deepfakes", "FaceShifter"}
    assert sorted(video.video_id for video in videos if video.is_there) == [
        "ffpp/Deepfakes/c23/071_054", "ffpp/FaceShifter/c23/054_071", "ffpp/original/c23/054", "ffpp/original/c23/071"
    ]  # fmt: skip
    assert re.search(r": Deepfakes, FaceShifter;.*: Face2Face, FaceSwap, NeuralTextures", caplog.text)
    assert "source=dfd" in caplog.text


def test_flat_copy_of_kaggle_is_read_with_the_official_pairs(tmp_path: Path) -> None:
    names = ("original/000.mp4", "original/003.mp4", "Deepfakes/000_003.mp4", "FaceSwap/003_000.mp4", "csv/x.csv")
    root = _touch(tmp_path, *names, "DeepFakeDetection/01_02__exit__ABCDEFGH.mp4")
    videos = {video.video_id: video for video in FaceForensics(root).list_videos() if video.is_there}
    assert sorted(videos) == [
        "ffpp/Deepfakes/c23/000_003", "ffpp/FaceSwap/c23/003_000", "ffpp/original/c23/000", "ffpp/original/c23/003"
    ]  # fmt: skip
    assert {video.split for video in videos.values()} == {"test"}  # the pair stands in the paper's test list
    fake = videos["ffpp/FaceSwap/c23/003_000"]
    assert (fake.label, fake.original, fake.identities) == (Label.FAKE, "ffpp/original/c23/003", ("003", "000"))


@pytest.mark.parametrize("media", ["images", "frames"])
def test_folders_of_frames_in_place_of_videos_are_read(tmp_path: Path, media: str) -> None:
    folder = f"c23/{media}"
    root = _touch(
        tmp_path,
        f"original_sequences/youtube/{folder}/071/0000.png", f"original_sequences/youtube/{folder}/054/0000.png",
        f"manipulated_sequences/Deepfakes/{folder}/071_054/0000.png",
    )  # fmt: skip
    there = [video for video in FaceForensics(root).list_videos() if video.is_there]
    assert {video.kind for video in there} == {MediaKind.FRAMES}
    assert sorted(video.path.name for video in there) == ["054", "071", "071_054"]


def test_files_that_no_list_names_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _official(tmp_path, "071", "mine", "._071", "Deepfakes/071_054")
    FaceForensics(root).list_videos()
    assert "1 entries" in caplog.text
    assert "'mine'" in caplog.text
    assert "'._071.mp4'" in caplog.text


def test_lists_that_name_nothing_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"None of the 1000 videos .*found 'mine'.*source\.splits=null"):
        FaceForensics(_official(tmp_path, "071", "Deepfakes/mine")).list_videos()


def test_lists_beside_the_clips_are_named_where_the_official_ones_do_not_fit(layout: Layout) -> None:
    root = layout()
    with pytest.raises(SourceError, match=rf"source\.splits='{root}/splits'.*source\.splits=null"):
        FaceForensics(root).list_videos()


def test_a_root_that_is_too_low_is_answered_with_the_right_one(tmp_path: Path) -> None:
    root = _official(tmp_path, "071", "Deepfakes/071_054")
    with pytest.raises(SourceError, match=rf"source=ffpp source\.root='{root}'"):
        FaceForensics(root / "original_sequences").list_videos()


def test_deepfakedetection_has_a_source_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"DeepFakeDetection.*source=dfd"):
        FaceForensics(tmp_path, methods=("DeepFakeDetection",))


def test_media_of_another_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.media='clips'.*videos"):
        FaceForensics(tmp_path, media="clips")


def test_compression_and_name_are_part_of_the_id(layout: Layout) -> None:
    root = layout(compression="c40")
    videos = FaceForensics(root, splits=root / "splits", compression="c40", name="mine").list_videos()
    assert videos[0].video_id == "mine/original/c40/000"


def test_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"No such folder: source\.root='.*gone'"):
        FaceForensics(tmp_path / "gone").list_videos()


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").touch()
    with pytest.raises(SourceError, match=r"x\.zip' is a file"):
        FaceForensics(tmp_path / "x.zip").list_videos()


def test_wrong_layout_says_what_was_looked_for_and_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "note.txt").touch()
    with pytest.raises(SourceError) as told:
        FaceForensics(tmp_path).list_videos()
    text = str(told.value)
    assert f"looked for '{tmp_path}/original_sequences/youtube/c23/videos'" in text
    assert "'note.txt', 'real/'" in text
    assert re.search(r"source\.root .*'original_sequences'", text)


def test_other_compression_is_found_and_named(layout: Layout) -> None:
    with pytest.raises(SourceError, match=r"youtube/c23/videos'.*found 'c40'.*source\.compression"):
        FaceForensics(layout(compression="c40")).list_videos()


def test_absent_method_is_named_with_those_there(layout: Layout) -> None:
    root = layout(methods=("Deepfakes", "FaceSwap"))
    with pytest.raises(SourceError, match=r"for method 'Face2Face'. Found in .*'Deepfakes/', 'FaceSwap/'"):
        FaceForensics(root, splits=root / "splits", methods=("Face2Face",)).list_videos()


def test_folder_without_any_video_says_which_were_looked_for(layout: Layout) -> None:
    root = layout()
    for path in root.rglob("*.mp4"):
        path.unlink()
    with pytest.raises(SourceError, match=r"looked for '.*/original_sequences/youtube/c23/videos'.*source\.root"):
        FaceForensics(root, splits=root / "splits").list_videos()


def test_absent_list_is_named(layout: Layout) -> None:
    root = layout()
    (root / "splits" / "val.json").unlink()
    with pytest.raises(SourceError, match=r"No list '.*val\.json'.*found there: 'test\.json', 'train\.json'"):
        FaceForensics(root, splits=root / "splits").list_videos()


@pytest.mark.parametrize("text", ["no json", '["000"]', "7", '[["000", "001", "002"]]'])
def test_list_of_another_form_is_refused(layout: Layout, text: str) -> None:
    root = layout()
    (root / "splits" / "train.json").write_text(text)
    with pytest.raises(SourceError, match=r"train list in source\.splits='.*' .*JSON"):
        FaceForensics(root, splits=root / "splits").list_videos()


def test_clip_in_two_lists_is_refused(layout: Layout) -> None:
    root = layout()
    (root / "splits" / "test.json").write_text('[["004", "000"]]')
    with pytest.raises(SourceError, match=r"'000' .*'train' and 'test'"):
        FaceForensics(root, splits=root / "splits").list_videos()


def test_official_lists_name_the_clips_of_one_youtube_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # ondyari/FaceForensics, dataset/splits: 605 and 755 are in train and test, 606 and 756 are cut from their videos.
    source = FaceForensics(_official(tmp_path, "071", "Deepfakes/071_054"))
    with caplog.at_level(logging.WARNING):
        source.list_videos()
    shared = [
        "605 (train), 606 (val)", "639 (train), 640 (val)", "755 (test), 756 (train)", "837 (val), 838 (train)",
        "875 (val), 876 (train)", "954 (train), 955 (test)", "982 (val), 983 (train)",
    ]  # fmt: skip
    assert [text.partition(": ")[2] for text in source.known_leaks] == shared
    assert all(text in caplog.text for text in shared)
    assert "source.splits=strict" in caplog.text


def test_strict_drops_from_train_what_shares_a_video_with_val_or_test(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    official, strict = (
        {
            video.video_id: video
            for video in FaceForensics(_official(tmp_path, "071", "Deepfakes/071_054"), splits=splits).list_videos()
        }
        for splits in ("official", "strict")
    )
    with caplog.at_level(logging.WARNING):
        FaceForensics(tmp_path, splits="strict").list_videos()
    lost = ("605_591", "639_841", "756_503", "838_810", "876_891", "954_976", "983_113")
    reals = {f"ffpp/original/c23/{pair.partition('_')[0]}" for pair in lost}
    backwards = ("_".join(reversed(pair.split("_"))) for pair in lost)
    fakes = {f"ffpp/Deepfakes/c23/{pair}" for pair in (*lost, *backwards)}
    assert official.keys() - strict.keys() == reals | fakes
    assert strict.keys() < official.keys()
    assert all(strict[key].split == official[key].split for key in strict)
    splits_of: dict[str, set[str | None]] = {}
    for video in strict.values():
        for person in video.identities:
            splits_of.setdefault(person, set()).add(video.split)
    assert {len(splits) for splits in splits_of.values()} == {1}
    assert strict["ffpp/original/c23/606"].identities == ("605+606",)
    assert "dropped 7 clips of train (605, 639, 756, 838, 876, 954, 983), and the 14 fakes" in caplog.text


def test_what_strict_drops_is_not_called_unexpected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = FaceForensics(_official(tmp_path, "605", "071", "Deepfakes/605_591", "Deepfakes/071_054"), splits="strict")
    with caplog.at_level(logging.WARNING):
        there = [video.video_id for video in source.list_videos() if video.is_there]
    assert there == ["ffpp/original/c23/071", "ffpp/Deepfakes/c23/071_054"]
    assert source.unexpected == []
    assert "Skipped" not in caplog.text


def test_strict_moves_pairs_of_val_that_share_a_video_with_test() -> None:
    pairs = {"train": [("0", "1"), ("2", "3")], "val": [("4", "5"), ("6", "7"), ("a", "b")], "test": [("8", "9")]}
    # 4 is of a video of test; 6 of one of 5, which follows it; 2 of one of 7, which train must give up then.
    lists = make_strict(pairs, [["4", "8"], ["5", "6"], ["2", "7"]])
    singles = {name: split for name, split in lists.split_of.items() if "_" not in name}
    assert singles == {
        "0": "train", "1": "train", "3": "train", "a": "val", "b": "val",
        **dict.fromkeys(("4", "5", "6", "7", "8", "9"), "test"),
    }  # fmt: skip
    assert lists.dropped == {"2", "2_3", "3_2"}
    assert lists.split_of["5_4"] == "test"


def test_several_compressions_have_the_same_splits_and_ids_of_their_own(layout: Layout) -> None:
    root = layout(compression="c23")
    for path in list(root.glob("*/*/c23/videos/*.mp4")):
        _touch(root, str(path.relative_to(root)).replace("/c23/", "/c40/"))
    videos = FaceForensics(root, splits=root / "splits", compression=["c23", "c40"]).list_videos()
    # DeepfakeBench keys a video by its clip alone, which merges the four methods (its training/metrics/utils.py).
    assert len({video.video_id for video in videos}) == len(videos) == 2 * 30
    assert len({video.path for video in videos}) == len(videos)
    assert all(video.method in video.video_id and video.compression in video.video_id for video in videos)
    by_level = {
        level: {video.video_id.replace(level, "c"): video for video in videos if video.compression == level}
        for level in ("c23", "c40")
    }
    assert by_level["c23"].keys() == by_level["c40"].keys()
    for key, video in by_level["c23"].items():
        other = by_level["c40"][key]
        assert (video.split, video.identities) == (other.split, other.identities)
        assert str(other.path) == str(video.path).replace("c23", "c40")
        assert other.original == (video.original and video.original.replace("c23", "c40"))


def test_a_compression_that_is_absent_is_named(layout: Layout) -> None:
    root = layout(compression="c23")
    with pytest.raises(SourceError, match=r"youtube/c40/videos'.*found 'c23'.*source\.compression"):
        FaceForensics(root, splits=root / "splits", compression=["c23", "c40"]).list_videos()


@pytest.mark.parametrize("levels", [[], ["c23", "c23"]])
def test_compressions_that_are_none_or_repeated_are_refused(tmp_path: Path, levels: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"source\.compression=\["):
        FaceForensics(tmp_path, compression=levels)


def test_the_flat_copy_has_one_compression(tmp_path: Path) -> None:
    root = _touch(tmp_path, "original/000.mp4", "Deepfakes/000_003.mp4")
    with pytest.raises(ConfigError, match=r"c40.*source\.compression=c23"):
        FaceForensics(root, compression=["c23", "c40"]).list_videos()


def test_folders_of_frames_named_like_videos_are_folders(tmp_path: Path) -> None:
    folder = "original_sequences/youtube/c23/frames"
    root = _touch(tmp_path, f"{folder}/071.mp4/0.png", f"{folder}/054.mp4/0.png")
    videos = FaceForensics(root, methods=(), splits=None).list_videos()
    assert [(video.path.name, video.kind) for video in videos] == [
        ("054.mp4", MediaKind.FRAMES), ("071.mp4", MediaKind.FRAMES)
    ]  # fmt: skip
