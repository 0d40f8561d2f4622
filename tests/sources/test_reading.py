import json
import logging
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import compose_config
from tests.sources.layouts import CLASSES, DEEPFAKES, LAYOUTS, TEXTS, YOUTUBE, lay_out, touch

from unmask.config import find_targets
from unmask.data.splits import SplitOptions
from unmask.errors import ConfigError, SourceError
from unmask.preparation.check import SourceCheck, check_source
from unmask.sources.auto import AutoSource
from unmask.sources.folders import Source
from unmask.sources.forge import ForgedMedia
from unmask.sources.reading import read_source
from unmask.training.parts import build_node
from unmask.types import Label, MediaKind

# What each test holds true is stated by the project's issue on datasets: links and `../` out of the root are refused
# unless allowed, what a source passes over is counted, and a folder of frames is a video in every source.
FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def _build(name: str, root: Path, **options: object) -> Source:
    source: Source = CLASSES[name](root, **options)
    return source


def _check(source: Source) -> SourceCheck:
    return check_source(source, SplitOptions(FRACTIONS, 0))


def _count_unexpected(result: SourceCheck) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {part.name: (part.unexpected, part.reasons) for part in result.parts if part.unexpected}


def _there(source: Source) -> dict[str, Label]:
    return {video.video_id: video.label for video in read_source(source) if video.is_there}


@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_links_out_of_the_root_are_refused_unless_allowed_in_every_source(tmp_path: Path, name: str, what: str) -> None:
    first = lay_out(tmp_path / "data", name)
    expected = _there(_build(name, tmp_path / "data"))
    moved = first if what == "file" else first.parent
    shutil.move(moved, tmp_path / "pool")
    moved.symlink_to(tmp_path / "pool")
    for source in (_build(name, tmp_path / "data"), AutoSource(tmp_path / "data")):
        with pytest.raises(SourceError, match=r"source\.follow_links=true") as refused:
            read_source(source)
        assert str(moved) in str(refused.value)
        assert str(tmp_path / "pool") in str(refused.value)
    assert _there(_build(name, tmp_path / "data", follow_links=True)) == expected
    assert _there(AutoSource(tmp_path / "data", follow_links=True)) == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_links_inside_the_root_are_followed(tmp_path: Path, name: str) -> None:
    first = lay_out(tmp_path / "data", name)
    expected = _there(_build(name, tmp_path / "data"))
    hidden = tmp_path / "data" / ".store"
    hidden.mkdir()
    shutil.move(first, hidden / first.name)
    first.symlink_to(hidden / first.name)
    assert _there(_build(name, tmp_path / "data")) == expected


def test_a_root_that_is_a_link_itself_is_read(tmp_path: Path) -> None:
    lay_out(tmp_path / "disk", "celebdf")
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert len(_there(_build("celebdf", tmp_path / "data"))) == 2


def test_a_frame_that_links_out_of_the_root_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path / "data", "ffpp")
    clip = tmp_path / "data" / YOUTUBE / "071.mp4"
    clip.unlink()
    touch(tmp_path, "secret.png")
    shutil.rmtree(clip.parent)
    touch(clip.parent.parent, "images/071/0000.png")
    (clip.parent.parent / "images" / "071" / "0001.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(SourceError, match=r"secret\.png"):
        read_source(_build("ffpp", tmp_path / "data"))


def test_every_downloaded_source_has_the_key_of_links() -> None:
    targets = find_targets("source")
    lacking = [
        name for name in targets
        if "follow_links" not in compose_config("prepare", f"source={name}", "output=x").source
    ]  # fmt: skip
    assert lacking == ["synthetic"]  # which reads only what it has written


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"csv"}))
def test_what_lies_beside_the_data_is_counted_and_logged_by_every_source(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = lay_out(tmp_path, name)
    expected = _there(_build(name, tmp_path))
    folder = first.parent.relative_to(tmp_path)
    touch(
        tmp_path, "backup/z.mp4", "backup/y.mp4", f"__MACOSX/{folder}/._{first.name}", f"{folder}/.DS_Store",
        f"{folder}/._{first.name}", f"{folder}/Thumbs.db", f"{folder}/.ipynb_checkpoints/copy{first.suffix}",
        f"{folder}/x{first.suffix}.part",
    )  # fmt: skip
    caplog.set_level(logging.INFO)
    source = _build(name, tmp_path)
    assert _there(source) == expected
    result = _check(source)
    assert sum(part.unexpected for part in result.parts) == 8
    assert "backup" in caplog.text
    assert "__MACOSX" in caplog.text


def test_each_folder_that_is_not_read_is_named_with_its_count(tmp_path: Path) -> None:
    lay_out(tmp_path, "ffpp")
    touch(tmp_path, *(f"original_sequences/youtube/raw/videos/{number}.mp4" for number in range(3)))
    touch(tmp_path, "manipulated_sequences/MyMethod/c23/videos/071_054.mp4", "LICENSE.txt")
    assert _count_unexpected(_check(_build("ffpp", tmp_path))) == {
        "": (5, (
            "3 in a folder that is not read ('original_sequences/youtube/raw')",
            "1 in a folder that is not read ('manipulated_sequences/MyMethod')", "1 '.txt' files",
        )),
    }  # fmt: skip


@pytest.mark.parametrize("root", [".", "data", "../here/data"])
def test_a_relative_root_is_read_as_an_absolute_one(tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    place = here if root == "." else here / "data"
    lay_out(place, "celebdf")
    touch(place, "backup/z.mp4")
    monkeypatch.chdir(here)
    result = _check(_build("celebdf", Path(root)))
    assert result.counts["videos"] == 2
    assert _count_unexpected(result) == {"": (1, ("1 in a folder that is not read ('backup')",))}


@pytest.mark.parametrize("name", ["ffpp", "ffpp_flat", "dfd", "celebdf", "dfdc", "deeperforensics", "uadfv", "ffiw"])
def test_videos_are_taken_before_frames_beside_them_which_is_told(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path, name)
    expected = _there(_build(name, tmp_path))
    clips = [tmp_path / file for file in LAYOUTS[name] if file.endswith(".mp4")]
    for clip in clips:
        above = clip.parent.parent if clip.parent.name == "videos" else clip.parent
        (above / "videos").mkdir(exist_ok=True)
        clip.rename(above / "videos" / clip.name)
        touch(above / "frames" / clip.stem, "0000.png", "0001.png")
    caplog.set_level(logging.INFO)
    source = _build(name, tmp_path)
    assert _there(source) == expected
    assert {video.kind for video in source.list_videos()} == {MediaKind.VIDEO}
    assert sum(part.unexpected for part in _check(source).parts) == 2 * len(clips)
    assert "Reading 'videos/'" in caplog.text
    assert "'frames/'" in caplog.text
    frames = _build(name, tmp_path, media="frames")
    assert _there(frames) == expected
    assert {video.kind for video in frames.list_videos() if video.is_there} == {MediaKind.FRAMES}


@pytest.mark.parametrize("name", ["celebdf", "deeperforensics", "uadfv", "ffiw", "ffpp", "dfdc"])
def test_an_unknown_folder_of_media_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"source\.media='pictures'.*videos, images, frames"):
        _build(name, tmp_path, media="pictures")


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"image_folder", "csv"}))
def test_a_folder_of_frames_is_a_video_in_every_source(tmp_path: Path, name: str) -> None:
    lay_out(tmp_path, name)
    expected = _there(_build(name, tmp_path))
    for file in LAYOUTS[name]:
        if file.endswith(".mp4"):
            (tmp_path / file).unlink()
            touch((tmp_path / file).with_suffix(""), "0000.png", "0001.png")
    source = _build(name, tmp_path)
    assert _there(source) == expected
    assert {video.kind for video in source.list_videos() if video.is_there} == {MediaKind.FRAMES}


def test_frames_beside_videos_of_fakeavceleb_are_not_read_again(tmp_path: Path) -> None:
    lay_out(tmp_path, "fakeavceleb")
    expected = _there(_build("fakeavceleb", tmp_path))
    touch(tmp_path, "RealVideo-RealAudio/African/men/id00076/frames/00109/0000.png")
    result = _check(_build("fakeavceleb", tmp_path))
    assert _there(_build("fakeavceleb", tmp_path)) == expected
    assert _count_unexpected(result)[""][0] == 1
    assert "frames/00109" in str(_count_unexpected(result)[""][1])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("uadfv", ["real", "fake"]),
        ("ffiw", ["source/train", "source/test", "target/train", "target/test"]),
        ("dfdm", ["Celeb-real", "DFaker crf23"]),
        ("dfdc_preview", ["original_videos", "method_A"]),
        ("fakeavceleb", ["RealVideo-RealAudio", "FakeVideo-FakeAudio"]),
        ("deeperforensics", ["original c23", "end_to_end"]),
    ],
)
def test_the_parts_of_a_dataset_are_those_that_its_authors_publish(tmp_path: Path, name: str, parts: list[str]) -> None:
    lay_out(tmp_path, name)
    result = _check(_build(name, tmp_path))
    assert [(part.name, part.have, part.missing, part.unexpected) for part in result.parts] == [
        (part, 1, 0, 0) for part in parts
    ]
    assert result.names == ()  # FFIW numbers its videos anew in each split


def test_what_a_part_of_uadfv_holds_beside_its_videos_is_counted_there(tmp_path: Path) -> None:
    lay_out(tmp_path, "uadfv")
    touch(tmp_path, "fake/list.txt", "fake/._0000_fake.mp4")
    assert _count_unexpected(_check(_build("uadfv", tmp_path))) == {
        "fake": (2, ("1 of another kind ('list.txt')", "1 hidden or unfinished ('._0000_fake.mp4')"))
    }


def test_videos_that_a_table_lacks_are_counted_in_their_part(tmp_path: Path) -> None:
    lay_out(tmp_path, "dfdc_preview")
    touch(tmp_path, "method_A/1/1_A/new.mp4", "other/new.mp4")
    assert _count_unexpected(_check(_build("dfdc_preview", tmp_path))) == {
        "method_A": (1, ("1 not in 'dataset.json' ('method_A/1/1_A/new.mp4')",)),
        "": (1, ("1 not in 'dataset.json' ('other/new.mp4')",)),
    }


READ_ALONE = ("dfdc", "image_folder", "dfdm")
"""Sources that read a part, a split or a quality alone."""


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        (name, levels) for name, files in LAYOUTS.items() for levels in (1, 2)
        if name not in READ_ALONE and levels < len(Path(files[0]).parts)
    ],
)  # fmt: skip
def test_a_root_too_low_is_answered_with_the_one_that_works(tmp_path: Path, name: str, levels: int) -> None:
    root = tmp_path / "x" / "data"
    first = lay_out(root, name)
    with pytest.raises(SourceError, match=f"source.root='{root}'") as refused:
        _build(name, root.joinpath(*first.relative_to(root).parts[:levels])).list_videos()
    assert f"source={name.removesuffix('_flat')} " in str(refused.value)


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - set(READ_ALONE)))
@pytest.mark.parametrize("above", ["x/data", "x/y/data"])
def test_a_root_too_high_is_answered_with_the_one_that_works(tmp_path: Path, name: str, above: str) -> None:
    lay_out(tmp_path / above, name)
    with pytest.raises(SourceError, match=f"source.root='{tmp_path / above}'"):
        _build(name, tmp_path / "x").list_videos()


@pytest.mark.parametrize("low", ["DFDM_crf23", "."])
def test_dfdm_finds_its_real_class_below_a_root_too_high_and_beside_it(tmp_path: Path, low: str) -> None:
    lay_out(tmp_path / "data", "dfdm")
    for root in (tmp_path / "data" / low, tmp_path):
        assert Counter(_there(_build("dfdm", root)).values()) == {Label.REAL: 1, Label.FAKE: 1}


def test_paths_in_metadata_that_lead_out_of_the_root_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path / "data", "dfdc")
    touch(tmp_path, "x.mp4")
    entries = {"a.mp4": {"label": "REAL"}, "../../x.mp4": {"label": "FAKE"}}
    (tmp_path / "data" / "dfdc_train_part_0" / "metadata.json").write_text(json.dumps(entries))
    with pytest.raises(SourceError, match=r"(?s)1 paths lead out of .*\.\./\.\./x\.mp4"):
        read_source(_build("dfdc", tmp_path / "data"))


@pytest.mark.parametrize(
    ("name", "file", "first", "second"),
    [
        ("dfdc", "dfdc_train_part_0/metadata.json", '"a.mp4": {"label": "REAL"}', '"a.mp4": {"label": "FAKE"}'),
        (
            "dfdc_preview", "dataset.json", '"original_videos/1/1_A_001.mp4": {"label": "real", "set": "test"}',
            '"original_videos/1/1_A_001.mp4": {"label": "fake", "set": "test"}',
        ),
    ],
)  # fmt: skip
def test_metadata_that_names_a_video_twice_with_two_labels_is_refused(
    tmp_path: Path, name: str, file: str, first: str, second: str
) -> None:
    lay_out(tmp_path, name)
    (tmp_path / file).write_text(f"{{{first}, {second}}}")
    with pytest.raises(SourceError, match=r"(?i)twice.*\n.*real.*fake") as refused:
        _build(name, tmp_path).list_videos()
    assert str(tmp_path / file) in str(refused.value)
    (tmp_path / file).write_text(f"{{{first}, {first}}}")  # the same entry twice says nothing else
    assert len(_there(_build(name, tmp_path))) == 1


def test_labels_of_the_dfdc_test_set_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "labels.csv").write_text("filename,label\na.mp4,1\na.mp4,0\n")
    with pytest.raises(SourceError, match=r"labels\.csv.*'a\.mp4'.*line 3"):
        _build("dfdc", tmp_path).list_videos()


def test_videos_of_the_dfdc_test_set_are_found_in_subfolders(tmp_path: Path) -> None:
    # The full test set of DFDC lies in numbered folders below test/, beside labels.csv.
    touch(tmp_path, "0/a.mp4", "1/b.mp4")
    (tmp_path / "labels.csv").write_text("filename,label\na.mp4,1\nb.mp4,0\nc.mp4,0\n")
    videos = _build("dfdc", tmp_path).list_videos()
    assert [(video.path, video.label, video.split, video.is_there) for video in videos] == [
        (tmp_path / "0" / "a.mp4", Label.FAKE, "test", True), (tmp_path / "1" / "b.mp4", Label.REAL, "test", True),
        (tmp_path / "c.mp4", Label.REAL, "test", False),
    ]  # fmt: skip
    (part,) = _check(_build("dfdc", tmp_path)).parts
    assert (part.have, part.missing, part.unexpected) == (2, 1, 0)


def test_a_celebdf_test_list_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, "celebdf")
    (tmp_path / "List_of_testing_videos.txt").write_text("0 Celeb-real/id0_0000.mp4\n1 Celeb-real/id0_0000.mp4\n")
    with pytest.raises(SourceError, match=r"line 2: '1 Celeb-real/id0_0000\.mp4'"):
        _build("celebdf", tmp_path).list_videos()


def test_half_of_celebdf_is_recognized_by_its_list(tmp_path: Path) -> None:
    touch(tmp_path, "Celeb-real/id0_0000.mp4")
    (tmp_path / "List_of_testing_videos.txt").write_text(TEXTS["List_of_testing_videos.txt"])
    source = AutoSource(tmp_path)
    source.list_videos()
    assert source.name == "celebdf"


def test_a_test_folder_of_one_class_is_recognized(tmp_path: Path) -> None:
    touch(tmp_path, "test/fake_x/a.jpg", "test/fake_x/b.jpg")
    source = AutoSource(tmp_path)
    assert [(video.label, video.method, video.split) for video in source.list_videos()] == [
        (Label.FAKE, "fake_x", "test")
    ] * 2
    assert set(_check(source).gaps) == {"Class 'real' is empty.", "Split 'train' is empty.", "Split 'val' is empty."}


def test_photographs_numbered_like_frames_are_not_forged_as_persons(tmp_path: Path) -> None:
    touch(tmp_path / "data", *(f"{clip}/{number:04d}.png" for clip in "ab" for number in range(3)))

    def build(*keys: str) -> ForgedMedia:
        source: ForgedMedia = build_node(
            compose_config(
                "prepare", "source=forge", f"source.root={tmp_path / 'data'}", f"output={tmp_path / 'out'}", *keys
            ).source
        )
        return source

    with pytest.raises(SourceError, match=r"2 folders.*source\.frames_of=none"):
        build().create(num_workers=0)
    with pytest.raises(SourceError, match="0 of 6 files"):  # they are read, and show no face
        build("source.frames_of=none").create(num_workers=0)
    with pytest.raises(ConfigError, match=r"source\.frames_of='folder'"):
        build("source.frames_of=folder")


def test_links_out_of_the_photographs_to_forge_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "pool/a.jpg", "data/b.jpg")
    (tmp_path / "data" / "a.jpg").symlink_to(tmp_path / "pool" / "a.jpg")
    cfg = compose_config("prepare", "source=forge", f"source.root={tmp_path / 'data'}", f"output={tmp_path / 'out'}")
    with pytest.raises(SourceError, match=r"source\.follow_links=true"):
        build_node(cfg.source).create(num_workers=0)


def test_masks_are_read_and_not_unexpected(tmp_path: Path) -> None:
    lay_out(tmp_path, "ffpp")
    touch(tmp_path, DEEPFAKES.replace("c23/videos", "masks/videos") + "/071_054.mp4")
    assert _count_unexpected(_check(_build("ffpp", tmp_path))) == {}
