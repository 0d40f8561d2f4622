import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unmask.data.tables import FaceDataset
from unmask.errors import MediaError
from unmask.faces.spec import CropSpec
from unmask.media.encode import write_video
from unmask.preparation.masks import weigh_by_mask
from unmask.preparation.prepare import prepare
from unmask.preparation.repair import repair
from unmask.sources.ffpp import FaceForensics
from unmask.types import Face, Image, Label, Video

LARGE, SMALL = (10.0, 10.0, 60.0, 60.0), (90.0, 30.0, 120.0, 60.0)
SPEC = CropSpec("two", crop_size=32, num_frames=4)


@dataclass
class TwoFaces:
    """Finds the same two faces in every frame."""

    name: str = "two"
    weights_sha256: str = ""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [[Face(LARGE, None, 0.9), Face(SMALL, None, 0.9)] for _ in images]


def draw(path: Path, box: Sequence[float] | None = None, *, scale: int = 1, frames: int = 8) -> Path:
    """Write a video of 128 x 96 px that is white within a box."""
    image = np.zeros((96 * scale, 128 * scale, 3), np.uint8)
    if box is not None:
        x1, y1, x2, y2 = (round(value) * scale for value in box)
        image[y1:y2, x1:x2] = 255
    write_video(path, [image] * frames, fps=25, crf=10)
    return path


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    real = Video("x/original/a", draw(tmp_path / "a.mp4"), Label.REAL, "original")
    return [real, Video("x/FaceSwap/a_b", draw(tmp_path / "a_b.mp4", SMALL), Label.FAKE, "FaceSwap")]


def make(videos: list[Video], root: Path) -> FaceDataset:
    class Listed:
        name = "x"

        def list_videos(self) -> list[Video]:
            return videos

    fractions = {"train": 1.0, "val": 0.0, "test": 0.0}
    prepare(Listed(), output=root, detector=TwoFaces(), spec=SPEC, fractions=fractions, seed=0, num_workers=0)
    return FaceDataset.load(root)


def boxes(dataset: FaceDataset, video_id: str) -> list[tuple[float, ...]]:
    return [tuple(box) for box in dataset.faces.loc[dataset.faces["video_id"] == video_id, "box"]]


def test_crops_show_the_face_that_overlaps_the_mask_most(tmp_path: Path, videos: list[Video]) -> None:
    videos[1] = replace(videos[1], mask=draw(tmp_path / "mask.mp4", SMALL, scale=2))
    dataset = make(videos, tmp_path / "out")
    assert boxes(dataset, "x/original/a") == [LARGE] * 4
    assert boxes(dataset, "x/FaceSwap/a_b") == [SMALL] * 4
    assert dataset.videos["mask"].fillna("").tolist() == ["", str(tmp_path / "mask.mp4")]
    assert dataset.videos["message"].tolist() == ["", ""]
    assert dataset.spec.hash == SPEC.hash


def test_mask_that_tells_nothing_leaves_the_largest_face(tmp_path: Path, videos: list[Video]) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42 and no more")
    for mask in (draw(tmp_path / "black.mp4"), tmp_path / "broken.mp4"):
        dataset = make([videos[0], replace(videos[1], mask=mask)], tmp_path / mask.stem)
        assert boxes(dataset, "x/FaceSwap/a_b") == [LARGE] * 4
        message = dataset.videos["message"].iloc[1]
        assert mask.name in message
        assert "largest" in message


def test_video_whose_mask_no_face_overlaps_gives_no_crops(tmp_path: Path, videos: list[Video]) -> None:
    mask = draw(tmp_path / "elsewhere.mp4", (70, 70, 85, 90))
    dataset = make([videos[0], replace(videos[1], mask=mask)], tmp_path / "out")
    row = dataset.videos.iloc[1]
    assert (row["outcome"], row["faces"]) == ("no_face", 0)
    assert "elsewhere.mp4" in row["message"]


def test_video_is_worked_on_again_once_it_has_a_mask(tmp_path: Path, videos: list[Video]) -> None:
    assert boxes(make(videos, tmp_path / "out"), "x/FaceSwap/a_b") == [LARGE] * 4
    videos[1] = replace(videos[1], mask=draw(tmp_path / "mask.mp4", SMALL))
    assert boxes(make(videos, tmp_path / "out"), "x/FaceSwap/a_b") == [SMALL] * 4
    draw(tmp_path / "mask.mp4", LARGE, frames=6)
    assert boxes(make(videos, tmp_path / "out"), "x/FaceSwap/a_b") == [LARGE] * 4


def test_repair_crops_the_same_face_or_says_that_the_mask_is_gone(tmp_path: Path, videos: list[Video]) -> None:
    mask = draw(tmp_path / "mask.mp4", SMALL)
    dataset = make([videos[0], replace(videos[1], mask=mask)], tmp_path / "out")
    crop = dataset.root / dataset.faces["crop"].iloc[-1]
    whole = crop.read_bytes()
    crop.unlink()
    assert repair(dataset.root, detector=TwoFaces(), num_workers=0).num_repaired == 1
    assert crop.read_bytes() == whole
    crop.unlink()
    mask.rename(tmp_path / "moved.mp4")
    result = repair(dataset.root, detector=TwoFaces(), num_workers=0)
    assert result.num_repaired == 0
    assert set(result.problems) == {"x/FaceSwap/a_b", str(crop)}
    assert str(mask) in result.problems["x/FaceSwap/a_b"]
    assert not crop.exists()


def test_tables_from_before_masks_are_repaired(tmp_path: Path, videos: list[Video]) -> None:
    dataset = make(videos, tmp_path / "out")
    pd.read_parquet(dataset.root / "videos.parquet").drop(columns="mask").to_parquet(dataset.root / "videos.parquet")
    (dataset.root / dataset.faces["crop"].iloc[0]).unlink()
    assert repair(dataset.root, detector=TwoFaces(), num_workers=0).num_repaired == 1
    assert repair(dataset.root, detector=TwoFaces(), num_workers=0).problems == {}


def test_frames_after_the_end_of_a_mask_overlap_nothing(tmp_path: Path) -> None:
    mask, face = draw(tmp_path / "mask.mp4", SMALL, frames=3), Face(SMALL, None, 0.9)
    found = weigh_by_mask(mask, {0: [face, Face(LARGE, None, 0.9)], 2: [], 7: [face]}, size=(128, 96))
    assert found.weights == {0: [pytest.approx(1, abs=0.1), 0], 2: [], 7: [0]}


def test_mask_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        weigh_by_mask(tmp_path / "gone.mp4", {}, size=(1, 1))


def test_masks_of_faceforensics_are_found_by_method_and_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # The folders of its download script: ondyari/FaceForensics, dataset/README.md
    caplog.set_level(logging.INFO)
    fakes = tmp_path / "manipulated_sequences"
    names = ["FaceSwap/c23/videos/000_001.mp4", "FaceSwap/c23/videos/001_000.mp4", "FaceSwap/masks/videos/000_001.mp4"]
    for path in [*(fakes / name for name in names), tmp_path / "original_sequences/youtube/c23/videos/000.mp4"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    masks = {video.video_id: video.mask for video in FaceForensics(tmp_path, splits=None).list_videos()}
    assert masks == {
        "ffpp/original/c23/000": None,
        "ffpp/FaceSwap/c23/000_001": fakes / "FaceSwap/masks/videos/000_001.mp4",
        "ffpp/FaceSwap/c23/001_000": None,
    }
    assert "1 of the 2 fakes of FaceSwap have masks" in caplog.text
