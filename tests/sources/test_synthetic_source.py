import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from unmask.config import config_dir
from unmask.errors import SourceError
from unmask.media.video import probe_video
from unmask.sources.folders import CreatedSource
from unmask.sources.synthetic import SyntheticFaces
from unmask.types import Label


def _source(root: Path) -> SyntheticFaces:
    return SyntheticFaces(root, num_identities=6, num_frames=2, size=64)


def test_drawn_source_lists_every_video_with_its_pair_and_split(tmp_path: Path) -> None:
    source = _source(tmp_path / "drawn")
    assert isinstance(source, CreatedSource)
    source.create(num_workers=0)
    videos = source.list_videos()
    assert all(video.path.is_file() for video in videos)
    assert [video.label for video in videos].count(Label.REAL) == 6
    assert [video.label for video in videos].count(Label.FAKE) == 24
    assert {video.video_id.split("/")[0] for video in videos} == {"synthetic"}
    split_of = {video.identities[0]: video.split for video in videos if video.label == Label.REAL}
    assert sorted(split_of.values()) == ["test", "test", "train", "train", "val", "val"]
    for video in videos:
        assert {split_of[identity] for identity in video.identities} == {video.split}
    assert probe_video(videos[-1].path).num_frames == 2


def test_listing_before_drawing_says_how_to_draw(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"prepare\.py source=synthetic"):
        _source(tmp_path).list_videos()


def test_config_names_every_argument_with_its_default() -> None:
    config = OmegaConf.to_container(OmegaConf.load(config_dir() / "source" / "synthetic.yaml"), resolve=False)
    parameters = inspect.signature(SyntheticFaces).parameters
    assert set(config) == {"_target_", *parameters}
    assert all(config[name] == value.default for name, value in parameters.items() if name != "root")
