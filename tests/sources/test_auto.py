import json
import logging
from pathlib import Path

import pytest
from tests.conftest import compose_config
from tests.sources.test_recognition import TREES, _lay_out

from unmask.config import find_targets
from unmask.data.splits import SplitOptions
from unmask.errors import SourceError
from unmask.preparation.check import check_source
from unmask.sources.auto import AutoSource, choose_source
from unmask.sources.folders import Source, record_source
from unmask.sources.recognition import RecognizingSource, _import_target, build_source
from unmask.sources.synthetic import SyntheticFaces
from unmask.training.parts import build_node

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}
# The list of Celeb-DF's authors, in which 1 means real.
TEST_LIST = "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n"


def _lay_out_celebdf(root: Path) -> Path:
    _lay_out(root, TREES["celebdf"])
    (root / "List_of_testing_videos.txt").write_text(TEST_LIST)
    return root


def _build_named(name: str, root: Path) -> Source:
    built: Source = build_node(compose_config("prepare", f"source={name}", f"source.root={root}", "output=x").source)
    return built


@pytest.mark.parametrize("name", [name for name in TREES if name != "celebdf"])
def test_every_layout_is_read_as_if_its_source_were_named(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = _lay_out(tmp_path, TREES[name])
    auto, named = AutoSource(root), _build_named(name, root)
    with caplog.at_level(logging.INFO):
        assert auto.list_videos() == named.list_videos()
    assert auto.name == named.name
    assert record_source(auto) == record_source(named)
    assert f"'{root}' as source={name} (" in caplog.text


def test_celebdf_is_read_with_its_test_list(tmp_path: Path) -> None:
    videos = AutoSource(_lay_out_celebdf(tmp_path)).list_videos()
    assert [(video.video_id, video.label.name, video.split) for video in videos] == [
        ("celebdf/original/Celeb-real/id0_0000", "REAL", "test"),
        ("celebdf/Celeb-synthesis/id0_id1_0000", "FAKE", "test"),
    ]


def test_a_table_may_be_the_root(tmp_path: Path) -> None:
    _lay_out(tmp_path, TREES["csv"])
    (video,) = AutoSource(tmp_path / "train.csv").list_videos()
    assert (video.video_id, video.label.name, video.method) == ("csv/a.jpg", "REAL", "original")


def test_every_recognizing_source_is_built_with_the_defaults_of_its_config(tmp_path: Path) -> None:
    built = 0
    for name, target in find_targets("source").items():
        if isinstance(_import_target(target), RecognizingSource):
            found = choose_source(_lay_out(tmp_path / "x", TREES["dfdc"]))
            ours = build_source(type(found)(name, tmp_path, "")).__dict__
            assert repr(ours) == repr(_build_named(name, tmp_path).__dict__)
            built += 1
    assert built >= 6


@pytest.mark.parametrize(("low", "high"), [("x", "."), ("x/y", ".")])
def test_a_root_that_is_too_high_is_read_from_the_right_folder(
    tmp_path: Path, low: str, high: str, caplog: pytest.LogCaptureFixture
) -> None:
    _lay_out_celebdf(tmp_path / low)
    with caplog.at_level(logging.INFO):
        videos = AutoSource(tmp_path / high).list_videos()
    assert len(videos) == 2
    assert f"'{tmp_path / low}' as source=celebdf ('Celeb-real/'" in caplog.text


def test_a_root_that_is_too_low_is_answered_with_the_right_one(tmp_path: Path) -> None:
    root = _lay_out_celebdf(tmp_path / "Celeb-DF-v2")
    with pytest.raises(SourceError, match=rf"use source=celebdf source\.root='{root}'"):
        AutoSource(root / "Celeb-real").list_videos()


def test_a_particular_dataset_wins_over_generic_layouts(tmp_path: Path) -> None:
    # DFDC's test set has labels.csv, which is a table of labels too.
    _lay_out(tmp_path, (*TREES["dfdc"], "real/a.jpg", "fake/b.jpg", "train.csv"))
    assert choose_source(tmp_path).source == "dfdc"


def test_two_datasets_in_one_tree_are_refused_with_the_command_for_each(tmp_path: Path) -> None:
    # The download script of FaceForensics++ puts DeepFakeDetection into the same tree.
    _lay_out(tmp_path, (*TREES["ffpp"], *TREES["dfd"]))
    with pytest.raises(SourceError) as refused:
        AutoSource(tmp_path).list_videos()
    for name in ("ffpp", "dfd"):
        assert f"python prepare.py source={name} source.root={tmp_path} output=..." in str(refused.value)


def test_two_datasets_below_the_root_are_refused_with_the_command_for_each(tmp_path: Path) -> None:
    for name in ("ffpp", "celebdf"):
        _lay_out(tmp_path / name, TREES[name])
    with pytest.raises(SourceError) as refused:
        AutoSource(tmp_path).list_videos()
    for name in ("ffpp", "celebdf"):
        assert f"source={name} source.root={tmp_path / name} output=..." in str(refused.value)


def test_label_folders_below_several_generators_are_read_together(tmp_path: Path) -> None:
    # GenImage: <generator>/{train,val}/{nature,ai}
    for generator in ("adm", "glide"):
        _lay_out(tmp_path / generator, ("train/nature/a.jpg", "train/ai/b.jpg"))
    videos = AutoSource(tmp_path).list_videos()
    assert sorted((video.video_id, video.method) for video in videos) == [
        ("image_folder/adm/train/ai/b.jpg", "adm"), ("image_folder/adm/train/nature/a.jpg", "original"),
        ("image_folder/glide/train/ai/b.jpg", "glide"), ("image_folder/glide/train/nature/a.jpg", "original"),
    ]  # fmt: skip


def test_what_unmask_drew_is_read_with_its_own_splits(synthetic_root: Path) -> None:
    videos, named = AutoSource(synthetic_root).list_videos(), SyntheticFaces(synthetic_root).list_videos()
    assert videos == named
    assert {video.video_id.partition("/")[0] for video in videos} == {"synthetic"}
    assert all(video.is_there for video in videos)


def test_a_folder_that_no_source_knows_is_refused_with_what_is_there(tmp_path: Path) -> None:
    root = _lay_out(tmp_path / "x", ("cats/a.jpg",))
    with pytest.raises(SourceError, match=r"'cats/'.*source=image_folder.*docs/datasets\.md"):
        AutoSource(root).list_videos()
    with pytest.raises(SourceError, match=r"a\.jpg' is a file"):
        AutoSource(root / "cats" / "a.jpg").list_videos()
    with pytest.raises(SourceError, match=r"No such folder: source\.root='.*gone'"):
        AutoSource(tmp_path / "gone").list_videos()


def test_what_the_chosen_source_skips_is_passed_on(tmp_path: Path) -> None:
    root = _lay_out(tmp_path, TREES["dfdc"])
    (root / "dfdc_train_part_0" / "stray.mp4").touch()
    (root / "dfdc_train_part_0" / "metadata.json").write_text(json.dumps({"a.mp4": {"label": "REAL"}}))
    (part,) = check_source(AutoSource(root), SplitOptions(FRACTIONS, 0)).parts
    assert (part.name, part.have, part.missing, part.unexpected) == ("dfdc_train_part_0", 1, 0, 1)
