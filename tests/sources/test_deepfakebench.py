"""The lists have the form that `preprocessing/rearrange.py` of SCLBD/DeepfakeBench and YZY-stack/DF40 write."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import compose_config

from unmask.data.splits import SplitOptions, assign_splits, check_groups, find_groups
from unmask.errors import ConfigError, LeakageError, SourceError
from unmask.preparation.check import check_source
from unmask.sources.auto import AutoSource
from unmask.sources.deepfakebench import DeepfakeBench
from unmask.sources.deepfakebench_names import name_method, read_label
from unmask.sources.recognition import recognize_folder
from unmask.types import Label, MediaKind, Video

YOUTUBE = "FaceForensics++/original_sequences/youtube/c23/frames"
FAKES = "FaceForensics++/manipulated_sequences"
FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def _video(label: str, *frames: str) -> dict[str, Any]:
    return {"label": label, "frames": list(frames)}


def _write(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _frames(folder: str, *numbers: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{folder}/{number:03d}.png" for number in numbers]


def _ffpp(prefix: str = "") -> dict[str, Any]:
    """Two pairs of videos, one in train and one in test, with two methods that share their names."""

    def label(name: str, videos: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
        splits: dict[str, Any] = {split: {"c23": {}} for split in ("train", "val", "test")}
        for video, (split, folder) in videos.items():
            splits[split]["c23"][video] = _video(name, *_frames(f"{folder}/{video}", 10, 2, prefix=prefix))
        return splits

    pairs = {"000_003": "train", "003_000": "train", "953_974": "test"}
    methods = {"FF-DF": f"{FAKES}/Deepfakes/c23/frames", "FF-NT": f"{FAKES}/NeuralTextures/c23/frames"}
    fakes = {
        name: label(name, {pair: (split, folder) for pair, split in pairs.items()}) for name, folder in methods.items()
    }
    originals = {"000": ("train", YOUTUBE), "003": ("train", YOUTUBE), "953": ("test", YOUTUBE)}
    return {"FaceForensics++": {"FF-real": label("FF-real", originals), **fakes}}


def _list_frames(content: Any) -> list[str]:
    """Return every frame that a list names."""
    if isinstance(content, list):
        return [str(one) for one in content]
    return [frame for value in content.values() if not isinstance(value, str) for frame in _list_frames(value)]


def _lay_out(root: Path, content: Mapping[str, Any], *, name: str = "list") -> Path:
    """Write a list, and the frames that it names relative to the root."""
    _touch(root, *_list_frames(content))
    _write(root / f"{name}.json", content)
    return root


def _by_id(videos: list[Video]) -> dict[str, Video]:
    assert len({video.video_id for video in videos}) == len(videos)
    return {video.video_id: video for video in videos}


def test_videos_of_methods_that_share_a_name_stay_apart(tmp_path: Path) -> None:
    videos = _by_id(DeepfakeBench(_lay_out(tmp_path, _ffpp())).list_videos())
    ffpp = "deepfakebench/FaceForensics++"
    assert {name: (video.label, video.method, video.split) for name, video in videos.items()} == {
        f"{ffpp}/FF-real/c23/000": (Label.REAL, "original", "train"),
        f"{ffpp}/FF-real/c23/003": (Label.REAL, "original", "train"),
        f"{ffpp}/FF-real/c23/953": (Label.REAL, "original", "test"),
        f"{ffpp}/FF-DF/c23/000_003": (Label.FAKE, "Deepfakes", "train"),
        f"{ffpp}/FF-DF/c23/003_000": (Label.FAKE, "Deepfakes", "train"),
        f"{ffpp}/FF-DF/c23/953_974": (Label.FAKE, "Deepfakes", "test"),
        f"{ffpp}/FF-NT/c23/000_003": (Label.FAKE, "NeuralTextures", "train"),
        f"{ffpp}/FF-NT/c23/003_000": (Label.FAKE, "NeuralTextures", "train"),
        f"{ffpp}/FF-NT/c23/953_974": (Label.FAKE, "NeuralTextures", "test"),
    }
    fake, real = videos[f"{ffpp}/FF-NT/c23/000_003"], videos[f"{ffpp}/FF-real/c23/000"]
    assert (fake.identities, real.identities) == (("ffpp 000", "ffpp 003"), ("ffpp 000",))
    assert (fake.original, real.original) == (real.video_id, None)
    assert (fake.kind, fake.compression) == (MediaKind.FRAMES, "c23")
    folder = tmp_path / FAKES / "NeuralTextures/c23/frames/000_003"
    assert (fake.path, fake.frames) == (folder, (folder / "002.png", folder / "010.png"))  # the list has no order


# Names of label_dict in training/config/train_config.yaml of both repositories; methods as our other sources name them.
@pytest.mark.parametrize(
    ("name", "label", "method"),
    [
        ("FF-real", 0, ""), ("FF-DF", 1, "Deepfakes"), ("FF-F2F", 1, "Face2Face"), ("FF-FS", 1, "FaceSwap"),
        ("FF-NT", 1, "NeuralTextures"), ("FF-FH", 1, "FaceShifter"), ("FF-SH", 1, "FaceShifter"), ("DFD_real", 0, ""),
        ("DFD_fake", 1, "DeepFakeDetection"), ("CelebDFv1_real", 0, ""), ("CelebDFv2_fake", 1, "Celeb-synthesis"),
        ("DFDCP_Real", 0, ""), ("DFDCP_FakeA", 1, "method_A"), ("DFDCP_FakeB", 1, "method_B"), ("DFDC_Real", 0, ""),
        ("DFDC_Fake", 1, "dfdc"), ("DF_real", 0, ""), ("DF_fake", 1, "DeeperForensics"), ("UADFV_Fake", 1, "FakeApp"),
        ("roop_Real", 0, ""), ("roop_Fake", 1, "roop"), ("sd2.1_Fake", 1, "sd2.1"), ("sd2.1_Real", 0, ""),
        ("one_shot_free_Fake", 1, "one_shot_free"), ("EFSAll_Real", 0, ""),
    ],
)  # fmt: skip
def test_labels_are_those_of_deepfakebench(name: str, label: int, method: str) -> None:
    assert read_label(name) == label
    if label:
        assert name_method(name) == method


def test_the_label_of_a_video_counts_before_that_of_its_place(tmp_path: Path) -> None:
    # As in DF40, whose lists of all swaps hold videos of several methods.
    content = {
        "FSAll": {"FSAll_Fake": {"test": {"000_003": _video("simswap_Fake", "simswap/ff/frames/000_003/0.png")}}}
    }
    (video,) = DeepfakeBench(_lay_out(tmp_path, content), name="df40").list_videos()
    assert (video.video_id, video.method) == ("df40/FSAll/simswap_Fake/000_003", "simswap")


def test_a_label_that_says_neither_is_refused_and_may_be_named(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, {"Mine": {"odd": {"test": {"a": _video("odd", "Mine/a/0.png")}}}})
    with pytest.raises(SourceError) as refused:
        DeepfakeBench(root).list_videos()
    assert "odd" in str(refused.value)
    assert "+source.labels={odd: 1}" in str(refused.value)
    (video,) = DeepfakeBench(root, labels={"odd": 1}).list_videos()
    assert (video.label, video.method) == (Label.FAKE, "odd")
    with pytest.raises(ConfigError, match=r"source\.labels\.odd.*0 .*1"):
        DeepfakeBench(root, labels={"odd": 2})


@pytest.mark.parametrize(
    "prefix",
    [
        "./datasets/rgb\\",
        "/Youtu_Pangu/zhiyuanyan/deepfakes_detection_datasets/",
        "I:\\data\\rgb\\",
        "../../rgb/",
        "./",
    ],
)
def test_paths_of_other_machines_are_found_by_their_longest_end(tmp_path: Path, prefix: str) -> None:
    _lay_out(tmp_path / "rgb", _ffpp())
    foreign = json.loads(json.dumps(_ffpp(prefix)))
    if "\\" in prefix:
        foreign = json.loads(json.dumps(foreign).replace("/", "\\\\"))
    lists = _write(tmp_path / "FaceForensics++.json", foreign)
    here = DeepfakeBench(tmp_path / "rgb", lists=tmp_path / "rgb" / "list.json").list_videos()
    assert DeepfakeBench(tmp_path / "rgb", lists=lists).list_videos() == here
    assert all(video.is_there for video in here)


def test_a_root_inside_the_dataset_is_understood(tmp_path: Path) -> None:
    _lay_out(tmp_path / "rgb", _ffpp())
    lists = tmp_path / "rgb" / "list.json"
    videos = DeepfakeBench(tmp_path / "rgb" / "FaceForensics++", lists=lists).list_videos()
    assert videos == DeepfakeBench(tmp_path / "rgb", lists=lists).list_videos()


def test_a_root_of_one_method_is_refused_because_the_others_would_be_taken_for_it(tmp_path: Path) -> None:
    content = {
        "FF-DF": {
            "FF-real": {"test": {"c23": {"000_003": _video("FF-real", f"{YOUTUBE}/000_003/0.png")}}},
            "FF-DF": {"test": {"c23": {"000_003": _video("FF-DF", f"{FAKES}/Deepfakes/c23/frames/000_003/0.png")}}},
        }
    }
    root = _lay_out(tmp_path, content) / FAKES / "Deepfakes/c23/frames"
    with pytest.raises(SourceError) as refused:
        DeepfakeBench(root, lists=tmp_path / "list.json").list_videos()
    for part in ("000_003", "real in FF-DF/FF-real", "fake in FF-DF/FF-DF", "source.root"):
        assert part in str(refused.value)


def test_starts_of_paths_are_replaced_as_configured(tmp_path: Path) -> None:
    _touch(tmp_path / "crops", "v1/0.png")
    content = {"UADFV": {"UADFV_Real": {"test": {"0000": _video("UADFV_Real", "D:\\old\\0000\\0.png")}}}}
    lists = _write(tmp_path / "UADFV.json", content)
    with pytest.raises(SourceError, match=r"D:.*old.*source\.replace"):
        DeepfakeBench(tmp_path / "crops", lists=lists).list_videos()
    replace = {"D:\\old\\0000": str(tmp_path / "crops" / "v1")}
    (video,) = DeepfakeBench(tmp_path / "crops", lists=lists, replace=replace).list_videos()
    assert video.frames == (tmp_path / "crops/v1/0.png",)


def test_no_path_leads_out_of_the_root(tmp_path: Path) -> None:
    _touch(tmp_path, "secret/a/0.png", "crops/b/0.png")
    videos = {"a": _video("UADFV_Real", "../secret/a/0.png"), "b": _video("UADFV_Real", "b/0.png")}
    lists = _write(tmp_path / "UADFV.json", {"UADFV": {"UADFV_Real": {"test": videos}}})
    outside, inside = DeepfakeBench(tmp_path / "crops", lists=lists).list_videos()
    assert (outside.is_there, inside.is_there) == (False, True)


def _celebdf() -> dict[str, Any]:
    """Everything in train, the test list in test and again in val, as rearrange.py writes Celeb-DF."""
    dataset: dict[str, Any] = {
        label: {"train": {}, "val": {}, "test": {}} for label in ("CelebDFv2_real", "CelebDFv2_fake")
    }

    def add(label: str, folder: str, name: str, *splits: str) -> None:
        for split in splits:
            dataset[label][split][name] = _video(label, f"Celeb-DF-v2/{folder}/frames/{name}/000.png")

    for circle in (range(5), range(5, 10)):
        for one in circle:
            add("CelebDFv2_real", "Celeb-real", f"id{one}_0000", "train")
            for other in circle:
                if other != one:
                    add("CelebDFv2_fake", "Celeb-synthesis", f"id{one}_id{other}_0000", "train")
    for number in range(10):
        add("CelebDFv2_real", "YouTube-real", f"{number:05d}", "train")
    add("CelebDFv2_real", "YouTube-real", "00000", "val", "test")
    add("CelebDFv2_real", "Celeb-real", "id0_0000", "val", "test")
    add("CelebDFv2_fake", "Celeb-synthesis", "id0_id1_0000", "val", "test")
    return {"Celeb-DF-v2": dataset}


def test_a_val_that_repeats_test_is_dropped_and_taken_from_train_by_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = DeepfakeBench(_lay_out(tmp_path, _celebdf()), val_fraction=0.3).list_videos()
    assert "Celeb-DF-v2: val is the same as test" in caplog.text
    assert "Celeb-DF-v2: 2 originals and 1 fakes are in all three splits" in caplog.text
    test = {video.video_id.removeprefix("deepfakebench/Celeb-DF-v2/") for video in videos if video.split == "test"}
    assert test == {"CelebDFv2_real/00000", "CelebDFv2_real/id0_0000", "CelebDFv2_fake/id0_id1_0000"}
    people = {
        split: {person for video in videos if video.split == split for person in video.identities}
        for split in ("train", "val", "test")
    }
    assert not people["train"] & people["val"]
    for split in ("train", "val"):
        assert {video.label for video in videos if video.split == split} == set(Label)
    assert "2 of the 3 people" in caplog.text  # of the test list are also in train or val: not the one of YouTube-real
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])  # the audit passes
    fake = _by_id(videos)["deepfakebench/Celeb-DF-v2/CelebDFv2_fake/id0_id1_0000"]
    assert fake.identities == ("celebdf id0 (test list)", "celebdf id1 (test list)")
    assert fake.original == "deepfakebench/Celeb-DF-v2/CelebDFv2_real/id0_0000"


def test_lists_as_they_are_stop_at_a_video_in_several_splits(tmp_path: Path) -> None:
    with pytest.raises(LeakageError) as refused:
        DeepfakeBench(_lay_out(tmp_path / "celebdf", _celebdf()), splits="lists").list_videos()
    for part in ("3 videos", "CelebDFv2_fake/id0_id1_0000: test, train, val", "source.splits=clean"):
        assert part in str(refused.value)
    root = _lay_out(tmp_path / "ffpp", _ffpp())
    assert DeepfakeBench(root, splits="lists").list_videos() == DeepfakeBench(root).list_videos()
    with pytest.raises(ConfigError, match=r"source\.splits='random'.*clean"):
        DeepfakeBench(root, splits="random")


def test_people_of_test_who_are_in_train_too_are_named_and_splits_may_be_by_identity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {
        "simswap": {
            "simswap_Real": {"train": {"000": _video("simswap_Real", "ff/frames/000/0.png")}},
            "simswap_Fake": {"test": {"000_003": _video("simswap_Fake", "simswap/ff/frames/000_003/0.png")}},
        }
    }
    root = _lay_out(tmp_path, content)
    fake, real = DeepfakeBench(root, name="df40").list_videos()
    assert (fake.identities, fake.original) == (("ffpp 000 (test list)", "ffpp 003 (test list)"), None)
    assert real.identities == ("ffpp 000",)
    assert "1 of the 2 people in test" in caplog.text
    assert DeepfakeBench(root, name="df40", splits="lists").list_videos() == [fake, real]
    fake, real = DeepfakeBench(root, name="df40", splits=None).list_videos()
    assert (fake.split, real.split, fake.original) == (None, None, "df40/simswap/simswap_Real/000")
    assert len(set(find_groups([fake, real]))) == 1


def test_what_is_in_every_split_is_test(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # rearrange.py puts all of UADFV into all three splits.
    real, fake = (
        _video("UADFV_Real", "UADFV/real/frames/0000/0.png"),
        _video("UADFV_Fake", "UADFV/fake/frames/0000_fake/0.png"),
    )
    splits = ("train", "val", "test")
    content = {
        "UADFV": {
            "UADFV_Real": {split: {"0000": real} for split in splits},
            "UADFV_Fake": {split: {"0000_fake": fake} for split in splits},
        }
    }
    videos = _by_id(DeepfakeBench(_lay_out(tmp_path, content)).list_videos())
    assert {video.split for video in videos.values()} == {"test"}
    assert videos["deepfakebench/UADFV/UADFV_Fake/0000_fake"].original == "deepfakebench/UADFV/UADFV_Real/0000"
    assert "1 originals and 1 fakes are in all three splits" in caplog.text


def test_a_val_that_repeats_train_is_dropped_and_stray_entries_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # rearrange.py assigns a video of DFDC's test set to the whole val split, and adds all of train to it.
    train = {name: _video("DFDC_Real", f"DFDC/train/frames/{name}/0.png") for name in ("aaa", "bbb", "ccc", "ddd")}
    test = {"zzz": _video("DFDC_Real", "DFDC/test/frames/zzz/0.png")}
    content = {"DFDC": {"DFDC_Real": {"train": train, "test": test, "val": {**test["zzz"], **train}}}}
    videos = DeepfakeBench(_lay_out(tmp_path, content)).list_videos()
    assert {video.path.name: video.split for video in videos} == {
        "aaa": "train", "bbb": "train", "ccc": "train", "ddd": "train", "zzz": "test"
    }  # fmt: skip
    assert "DFDC: val is the same as train" in caplog.text
    for stray in ("label", "frames"):
        assert f"DFDC > DFDC_Real > val > {stray} is not a video" in caplog.text
    assert assign_splits(videos, fractions=FRACTIONS, seed=0).count("val") == 1  # prepare takes it from train


def test_a_video_of_several_lists_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # rearrange.py writes FF-DF.json and others beside FaceForensics++.json, each with all originals.
    content = _ffpp()
    root = _lay_out(tmp_path, content, name="FaceForensics++")
    labels = content["FaceForensics++"]
    for label in ("FF-DF", "FF-NT"):
        _write(root / f"{label}.json", {label: {"FF-real": labels["FF-real"], label: labels[label]}})
    videos = DeepfakeBench(root).list_videos()
    assert videos == DeepfakeBench(root, datasets=["FaceForensics++"]).list_videos()
    assert "12 entries repeat a video" in caplog.text
    some = DeepfakeBench(root, datasets=["FF-DF", "FF-NT"]).list_videos()
    fakes = [video for video in some if video.path.name == "000_003"]
    assert [video.method for video in fakes] == ["Deepfakes", "NeuralTextures"]
    assert {video.original for video in fakes} == {"deepfakebench/FF-DF/FF-real/c23/000"}  # of the other list, for one
    with pytest.raises(SourceError, match=r"source\.datasets=.*FF-XX.*FaceForensics\+\+"):
        DeepfakeBench(root, datasets=["FF-XX"]).list_videos()


def test_missing_frames_are_counted_and_a_video_without_any_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _lay_out(tmp_path, _ffpp())
    (root / YOUTUBE / "000" / "002.png").unlink()
    for name in ("002.png", "010.png"):
        (root / FAKES / "Deepfakes/c23/frames/000_003" / name).unlink()
    videos = _by_id(DeepfakeBench(root).list_videos())
    half, gone = (videos[f"deepfakebench/FaceForensics++/{name}"] for name in ("FF-real/c23/000", "FF-DF/c23/000_003"))
    assert (half.is_there, [frame.name for frame in half.frames]) == (True, ["010.png"])
    assert (gone.is_there, gone.path.name) == (False, "000_003")
    assert "3 frames" in caplog.text
    assert "1 videos lack some of their frames, and 1 all" in caplog.text


def test_datasets_of_which_nothing_is_here_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _lay_out(tmp_path, _ffpp(), name="FaceForensics++")
    _write(root / "Celeb-DF-v2.json", _celebdf())
    videos = DeepfakeBench(root).list_videos()
    assert {video.video_id.split("/")[1] for video in videos} == {"FaceForensics++"}
    assert "Celeb-DF-v2 (60 videos)" in caplog.text
    with pytest.raises(SourceError, match=r"None of the 60 videos"):
        DeepfakeBench(root, datasets=["Celeb-DF-v2"]).list_videos()


def test_landmarks_beside_the_frames_are_no_frames(tmp_path: Path) -> None:
    folder = "UADFV/real/frames/0000"
    content = {"UADFV": {"UADFV_Real": {"test": {"0000": _video("UADFV_Real", f"{folder}/0.png", f"{folder}/0.npy")}}}}
    root = _touch(_lay_out(tmp_path, content), "UADFV/real/landmarks/0000/0.npy", f"{folder}/1.npy")
    (video,) = DeepfakeBench(root).list_videos()
    assert video.frames == (root / folder / "0.png",)


def test_a_video_for_which_the_lists_name_no_frame_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # rearrange.py finds no frames where a download is incomplete, and lists the video all the same.
    videos = {"0000": _video("UADFV_Real"), "0001": _video("UADFV_Real", "UADFV/real/frames/0001/0.png")}
    (video,) = DeepfakeBench(_lay_out(tmp_path, {"UADFV": {"UADFV_Real": {"test": videos}}})).list_videos()
    assert video.path.name == "0001"
    assert "UADFV/UADFV_Real/0000" in caplog.text


def test_lists_are_found_in_the_root_and_in_folders_beside_it(tmp_path: Path) -> None:
    root = _lay_out(tmp_path / "rgb", _ffpp())
    _write(root / "train.json", {"not": "a list"})
    expected = DeepfakeBench(root).list_videos()
    (root / "list.json").rename(_write(tmp_path / "dataset_json" / "FaceForensics++.json", {}))
    assert DeepfakeBench(root).list_videos() == expected
    assert DeepfakeBench(root, lists=tmp_path / "dataset_json").list_videos() == expected


@pytest.mark.parametrize(
    ("text", "lists", "said"),
    [
        ("{", "a.json", "cannot be read"), ("[[1, 2]]", "a.json", "is not a list"), ("{}", "", "source.lists"),
        ('{"UADFV": {"UADFV_Real": {"test": {}}}}', "a.json", "name no frames"),
    ],
)  # fmt: skip
def test_what_is_not_a_list_is_refused(tmp_path: Path, text: str, lists: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SourceError, match=said):
        DeepfakeBench(tmp_path, lists=tmp_path / lists).list_videos()


def test_a_folder_without_lists_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        DeepfakeBench(_touch(tmp_path, "Celeb-real/id0_0000.mp4")).list_videos()
    assert "source.lists" in str(refused.value)
    assert "'Celeb-real/'" in str(refused.value)


def test_df40_is_the_same_source_under_its_own_name() -> None:
    names = ("deepfakebench", "df40")
    both = [compose_config("prepare", f"source={name}", "source.root=x", "output=x").source for name in names]
    assert [node.name for node in both] == ["deepfakebench", "df40"]
    assert {**both[0], "name": ""} == {**both[1], "name": ""}


def test_keys_with_names_are_set_on_the_command_line() -> None:
    source = compose_config(
        "prepare", "source=df40", "output=x", "+source.labels={odd: 1}", "+source.replace={/old: /new}"
    ).source
    assert (source.labels, source.replace) == ({"odd": 1}, {"/old": "/new"})


def _count_parts(source: DeepfakeBench | AutoSource) -> dict[str, tuple[int, int, int]]:
    """Return have, missing and unexpected of each part."""
    parts = check_source(source, SplitOptions(FRACTIONS, 0)).parts
    return {part.name: (part.have, part.missing, part.unexpected) for part in parts}


def test_a_check_counts_each_method_of_each_dataset_and_what_is_skipped(tmp_path: Path) -> None:
    content = _ffpp()
    root = _lay_out(tmp_path, content, name="FaceForensics++")
    labels = content["FaceForensics++"]
    _write(root / "FF-DF.json", {"FF-DF": {"FF-real": labels["FF-real"], "FF-DF": labels["FF-DF"]}})
    _write(root / "Celeb-DF-v1.json", {"Celeb-DF-v1": _celebdf()["Celeb-DF-v2"]})
    _touch(root, f"{YOUTUBE}/000/011.png", f"{YOUTUBE}/999/000.png", f"{YOUTUBE}/000/landmarks.npy")
    (root / YOUTUBE / "003" / "002.png").unlink()
    for name in ("002.png", "010.png"):
        (root / FAKES / "NeuralTextures/c23/frames/003_000" / name).unlink()
    auto = AutoSource(root)
    assert _count_parts(auto) == _count_parts(DeepfakeBench(root)) == {
        "FaceForensics++ original c23": (3, 0, 3),  # 999, 011.png, and 003 lacks 002.png
        "FaceForensics++ Deepfakes c23": (3, 0, 0),
        "FaceForensics++ NeuralTextures c23": (2, 1, 0),
        "Celeb-DF-v1 original": (0, 0, 20),
        "Celeb-DF-v1 Celeb-synthesis": (0, 0, 40),
        "FF-DF original c23": (0, 0, 3),  # which FaceForensics++.json names too
        "FF-DF Deepfakes c23": (0, 0, 3),
    }  # fmt: skip
    examples = {(one.part, one.reason): one.examples for one in auto.unexpected if "original c23" in one.part}
    assert examples == {
        ("FaceForensics++ original c23", "lacking some of their frames"): ("FaceForensics++/FF-real/c23/003",),
        ("FaceForensics++ original c23", "frames in no list"): ("011.png",),
        ("FaceForensics++ original c23", "folders in no list"): ("999",),
        ("FF-DF original c23", "repeating a video of another list"): (
            "FF-DF/FF-real/c23/000", "FF-DF/FF-real/c23/003", "FF-DF/FF-real/c23/953"
        ),
    }  # fmt: skip


def test_a_check_names_the_known_faults_of_the_lists(tmp_path: Path) -> None:
    found = check_source(AutoSource(_lay_out(tmp_path, _celebdf())), SplitOptions(FRACTIONS, 0))
    assert found.groups == ()  # renamed in test, so that nothing is refused
    first, second, third = found.known
    assert first.startswith("Celeb-DF-v2: val is the same as test")
    assert second == "Celeb-DF-v2: 2 originals and 1 fakes are in all three splits of the lists"
    assert "2 of the 3 people in test" in third
    assert found.to_dict()["leaks"]["known"]["count"] == 3
    assert found.counts["splits"]["test"] == {"real": 2, "fake": 1}
    assert {part.name: part.have for part in found.parts}["Celeb-DF-v2 original"] == 20


def test_a_check_counts_entries_that_are_not_videos(tmp_path: Path) -> None:
    videos = {
        "0000": _video("UADFV_Real"),
        "0001": _video("UADFV_Real", "UADFV/real/frames/0001/0.png", "UADFV/real/frames/0001/0.npy"),
    }
    content = {"UADFV": {"UADFV_Real": {"test": {**videos, "label": "UADFV_Real"}, "notes": {}}}}
    source = DeepfakeBench(_lay_out(tmp_path, content))
    assert _count_parts(source) == {"UADFV original": (1, 0, 0), "": (0, 0, 4)}
    assert [(one.reason, one.examples) for one in source.unexpected] == [
        ("not a video", (
            "'list.json': UADFV > UADFV_Real > test > label is not a video",
            "'list.json': UADFV > UADFV_Real > notes is not a split",
        )),
        ("not an image, among the frames of the lists", ("UADFV/real/frames/0001/0.npy",)),
        ("without any frame in the lists", ("UADFV/UADFV_Real/0000",)),
    ]  # fmt: skip


def test_people_of_two_versions_of_celebdf_are_in_one_split(tmp_path: Path) -> None:
    # Celeb-DF v2 contains most videos of v1, and numbers its people in the same way.
    for name in ("Celeb-DF-v1", "Celeb-DF-v2"):
        text = json.dumps(_celebdf()).replace("Celeb-DF-v2", name).replace("CelebDFv2", name.replace("-", ""))
        _lay_out(tmp_path, json.loads(text), name=name)
    videos = DeepfakeBench(tmp_path, val_fraction=0.3).list_videos()
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])
    homes = {(v.video_id.split("/")[1], v.split) for v in videos}
    assert homes == {(name, split) for name in ("Celeb-DF-v1", "Celeb-DF-v2") for split in ("train", "val", "test")}


def test_people_whom_another_dataset_has_in_train_are_not_taken_for_val(tmp_path: Path) -> None:
    # The swaps of DF40 show people of FaceForensics++, which has splits of its own.
    content = _ffpp()
    names = ("000_003", "003_000", "111_222", "333_444", "555_666", "953_974")
    fakes = {name: _video("simswap_Fake", f"simswap/ff/frames/{name}/0.png") for name in names}
    test = {"953_974": fakes["953_974"]}
    content["simswap"] = {"simswap_Fake": {"train": fakes, "val": test, "test": test}}
    videos = DeepfakeBench(_lay_out(tmp_path, content), name="df40", val_fraction=0.4).list_videos()
    swaps = {video.path.name: video.split for video in videos if video.method == "simswap"}
    assert (swaps["000_003"], swaps["003_000"], swaps["953_974"]) == ("train", "train", "test")
    assert {swaps[name] for name in ("111_222", "333_444", "555_666")} == {"train", "val"}
    check_groups([v.video_id for v in videos], find_groups(videos), [v.split for v in videos])


@pytest.mark.parametrize("root", ["rgb", "."])
def test_lists_of_df40_are_recognized_with_their_crops(tmp_path: Path, root: str) -> None:
    frame = "rgb/simswap/ff/frames/000_003/0.png"
    _touch(tmp_path, frame)
    content = {"simswap": {"simswap_Fake": {"test": {"000_003": _video("simswap_Fake", f"deepfakes/{frame}")}}}}
    _write(tmp_path / "dataset_json" / "simswap_ff.json", content)
    (video,) = AutoSource(tmp_path / root).list_videos()
    assert (video.video_id, video.frames) == ("deepfakebench/simswap/simswap_Fake/000_003", (tmp_path / frame,))


def test_lists_beside_other_datasets_are_not_taken_for_theirs(tmp_path: Path) -> None:
    _lay_out(tmp_path / "rgb", _ffpp())
    (tmp_path / "rgb" / "list.json").rename(_write(tmp_path / "dataset_json" / "FaceForensics++.json", {}))
    _touch(tmp_path, "lfw/Ann_Lee/Ann_Lee_0001.jpg", "lfw/Bob_Ray/Bob_Ray_0001.jpg")
    assert [one.source for one in recognize_folder(tmp_path / "lfw")] == ["portraits"]
    assert [one.source for one in recognize_folder(tmp_path / "rgb")] == ["deepfakebench"]
