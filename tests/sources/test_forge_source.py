import inspect
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from unmask.config import config_dir
from unmask.errors import ConfigError, SourceError
from unmask.forging.swap import MEAN_FACE
from unmask.media.encode import write_video
from unmask.media.image import read_image, write_jpeg
from unmask.media.video import probe_video
from unmask.sources.folders import CreatedSource
from unmask.sources.forge import ForgedMedia
from unmask.sources.forge_work import FoundFace, Medium, find_face
from unmask.synthetic.draw import draw_head
from unmask.synthetic.identity import Pose, draw_identity
from unmask.types import Face, Image, Label, MediaKind


class MiddleDetector:
    """Finds an average face in the middle of every image that is not dark."""

    name = "middle"
    weights_sha256 = "0" * 64

    def __init__(self, *, with_landmarks: bool = True) -> None:
        self.with_landmarks = with_landmarks
        self.num_seen = 0

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        self.num_seen += len(images)
        return [[] if image.mean() < 20 else [self._face(image)] for image in images]

    def _face(self, image: Image) -> Face:
        height, width = image.shape[:2]
        unit = 0.28 * min(height, width)
        points = tuple((width / 2 + x * unit, height / 2 + y * unit) for x, y in MEAN_FACE)
        box = (width / 2 - unit, height / 2 - unit, width / 2 + unit, height / 2 + unit)
        return Face(box, points if self.with_landmarks else None, 0.9)


def _head(seed: int, size: int) -> Image:
    return draw_head(draw_identity(np.random.default_rng(seed)), Pose(), size=size).image


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    for number, size in enumerate((90, 101, 120, 131, 90, 96, 111)):
        write_jpeg(folder / "deep" / f"holiday {number}.jpg", _head(number, size), quality=90)
    return folder


def _forge(root: Path, output: Path, **changes: Any) -> ForgedMedia:
    source = ForgedMedia(root, output, **{"detector": MiddleDetector(), **changes})
    source.create(num_workers=0)
    return source


def test_photographs_and_forgeries_lie_side_by_side(photographs: Path, tmp_path: Path) -> None:
    source = _forge(photographs, tmp_path / "forged")
    assert isinstance(source, CreatedSource)
    videos = source.list_videos()
    reals = [video for video in videos if video.label == Label.REAL]
    assert len(reals) == 6
    assert len(videos) == 6 * 5
    assert all(video.path.is_file() and video.kind is MediaKind.IMAGE for video in videos)
    assert {video.split for video in videos} == {"train", "val", "test"}
    for video in videos:
        original = tmp_path / "forged/original_sequences/youtube/c23/images" / f"{video.identities[0]}.jpg"
        same = np.array_equal(read_image(video.path), read_image(original))
        assert same == (video.label == Label.REAL)
    masks = list((tmp_path / "forged").rglob("masks/images/*.png"))
    assert len(masks) == 24
    assert {cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim for path in masks} == {2}


def test_report_maps_numbers_to_files_and_lists_the_odd_one(
    photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _forge(photographs, tmp_path / "forged")
    report = json.loads((tmp_path / "forged" / "forge.json").read_text())
    assert len(report["originals"]) == 6
    assert (
        report["originals"].items()
        <= {f"{number:03d}": str(photographs / "deep" / f"holiday {number}.jpg") for number in range(7)}.items()
    )
    (skipped,) = report["skipped"]
    assert "odd number" in skipped["why"]
    assert "1 of 7 files" in caplog.text


def test_faceless_and_broken_files_are_listed_with_the_reason(
    photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_jpeg(photographs / "night.jpg", np.zeros((80, 80, 3), np.uint8), quality=90)
    write_jpeg(photographs / "tiny.jpg", _head(1, 64)[:20, :20] // 2 + 60, quality=90)
    (photographs / "broken.jpg").write_bytes(b"not an image")
    with caplog.at_level(logging.WARNING):
        _forge(photographs, tmp_path / "forged")
    skipped = {
        entry["file"].rsplit("/", 1)[1]: entry["why"]
        for entry in json.loads((tmp_path / "forged" / "forge.json").read_text())["skipped"]
    }
    assert "no face" in skipped["night.jpg"]
    assert "cannot be read" in skipped["broken.jpg"]
    assert "pixels apart" in skipped["tiny.jpg"]
    assert "4 of 10 files" in caplog.text


def test_second_run_detects_and_writes_nothing(photographs: Path, tmp_path: Path) -> None:
    _forge(photographs, tmp_path / "forged")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "forged").rglob("*.jpg")}
    detector = MiddleDetector()
    _forge(photographs, tmp_path / "forged", detector=detector)
    assert detector.num_seen == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_deleted_forgery_comes_back_the_same(photographs: Path, tmp_path: Path) -> None:
    _forge(photographs, tmp_path / "forged")
    path = next((tmp_path / "forged/manipulated_sequences/FaceSwap/c23/images").iterdir())
    before = path.read_bytes()
    path.unlink()
    _forge(photographs, tmp_path / "forged")
    assert path.read_bytes() == before


def test_other_photographs_need_another_output(photographs: Path, tmp_path: Path) -> None:
    _forge(photographs, tmp_path / "forged")
    write_jpeg(photographs / "new.jpg", _head(50, 96), quality=90)
    with pytest.raises(SourceError, match=r"media was 7, now 8.*source\.output"):
        _forge(photographs, tmp_path / "forged")


def test_chosen_methods_only_are_forged(photographs: Path, tmp_path: Path) -> None:
    source = _forge(photographs, tmp_path / "forged", methods=["FaceSwap"])
    assert {video.method for video in source.list_videos()} == {"original", "FaceSwap"}


def test_large_photographs_are_shrunk_before_forging(photographs: Path, tmp_path: Path) -> None:
    source = _forge(photographs, tmp_path / "forged", max_side=80)
    assert {max(read_image(video.path).shape) for video in source.list_videos()} == {80}


def _write_clip(path: Path, seed: int, *, num_frames: int = 6, dark: Sequence[int] = ()) -> None:
    image = _head(seed, 110)[:96]
    black = np.zeros_like(image)
    frames = [black if index in dark else image for index in range(num_frames)]
    write_video(path, frames, fps=10)


def test_videos_are_forged_and_last_as_long(tmp_path: Path) -> None:
    for seed, num_frames in enumerate((8, 8, 6, 8)):
        _write_clip(tmp_path / "clips" / f"{seed}.mp4", seed, num_frames=num_frames, dark=(2,))
    source = _forge(tmp_path / "clips", tmp_path / "forged", num_frames=4)
    videos = source.list_videos()
    assert {video.kind for video in videos} == {MediaKind.VIDEO}
    for video in videos:
        info = probe_video(video.path)
        assert info.num_frames == 4
        assert info.duration_seconds == pytest.approx(0.6 if video.identities[0] == "002" else 0.8, abs=0.1)
    assert len(list((tmp_path / "forged").rglob("masks/videos/*.mp4"))) == 16


def test_lost_face_is_interpolated_in_time(tmp_path: Path) -> None:
    class MovingDetector(MiddleDetector):
        def detect(self, images: Sequence[Image]) -> list[list[Face]]:
            found: list[list[Face]] = [[] for _ in images]
            for index in (0, 2, 4):
                points = tuple((50.0 + 30 * x + 5 * index, 50.0 + 30 * y) for x, y in MEAN_FACE)
                found[index] = [Face((20 + 5 * index, 20, 80 + 5 * index, 80), points, 0.9)]
            return found

    _write_clip(tmp_path / "clip.mp4", 1, num_frames=5)
    found = find_face(Medium("000", tmp_path / "clip.mp4", MediaKind.VIDEO, 5, 640), MovingDetector())
    noses = np.array(found.landmarks)[:, 2, 0]
    np.testing.assert_allclose(np.diff(noses), 5.0)
    found.save(tmp_path / "found.json")
    assert FoundFace.load(tmp_path / "found.json") == found


def test_video_that_mostly_shows_no_face_is_skipped(tmp_path: Path) -> None:
    _write_clip(tmp_path / "clip.mp4", 1, num_frames=6, dark=(0, 1, 2, 3))
    found = find_face(Medium("000", tmp_path / "clip.mp4", MediaKind.VIDEO, 6, 640), MiddleDetector())
    assert found.problem == "the face was lost in 4 of 6 frames"


def test_one_photograph_is_not_enough(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "one" / "a.jpg", _head(1, 96), quality=90)
    write_jpeg(tmp_path / "one" / "b.jpg", np.zeros((96, 96, 3), np.uint8), quality=90)
    with pytest.raises(SourceError, match=r"(?s)1 of 2 files.*at least two.*b\.jpg: no face"):
        _forge(tmp_path / "one", tmp_path / "forged")


def test_two_pairs_leave_a_split_empty_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(4):
        write_jpeg(tmp_path / "few" / f"{seed}.jpg", _head(seed, 96), quality=90)
    with caplog.at_level(logging.WARNING):
        _forge(tmp_path / "few", tmp_path / "forged")
    assert re.search(r"\b2 pairs .*\bval\b", caplog.text)


def test_folder_of_both_kinds_asks_for_one(photographs: Path, tmp_path: Path) -> None:
    for seed in range(2):
        _write_clip(photographs / f"{seed}.mp4", seed, num_frames=2)
    with pytest.raises(SourceError, match=r"7 images and 2 videos.*source\.kind=image"):
        _forge(photographs, tmp_path / "forged")
    source = _forge(photographs, tmp_path / "forged", kind="video")
    assert {video.kind for video in source.list_videos()} == {MediaKind.VIDEO}


def test_folder_without_media_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty' contains no "):
        _forge(tmp_path / "empty", tmp_path / "forged")
    with pytest.raises(SourceError, match="No such folder"):
        _forge(tmp_path / "absent", tmp_path / "forged")


def test_detector_without_landmarks_is_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"detector=middle .*landmarks.*retinaface_mobilenet"):
        _forge(photographs, tmp_path / "forged", detector=MiddleDetector(with_landmarks=False))
    with pytest.raises(ConfigError, match="detector=none"):
        ForgedMedia(photographs, tmp_path / "forged", detector=None)


def test_unknown_kind_and_method_are_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'sound' is unknown.*image, video"):
        ForgedMedia(tmp_path, tmp_path, detector=MiddleDetector(), kind="sound")
    with pytest.raises(ConfigError, match=r"FaceShifter.*Deepfakes, Face2Face, FaceSwap, NeuralTextures"):
        ForgedMedia(tmp_path, tmp_path, detector=MiddleDetector(), methods=["FaceShifter"])


def test_listing_before_forging_says_how_to_forge(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"prepare\.py source=forge"):
        ForgedMedia(tmp_path, tmp_path / "forged", detector=MiddleDetector()).list_videos()


def test_config_names_every_argument_with_its_default() -> None:
    config = OmegaConf.to_container(OmegaConf.load(config_dir() / "source" / "forge.yaml"), resolve=False)
    parameters = inspect.signature(ForgedMedia).parameters
    assert set(config) == {"_target_", *parameters}
    given = {"root", "output", "detector", "max_pixels"}  # by other keys, or by the user
    assert all(config[name] == _plain(value.default) for name, value in parameters.items() if name not in given)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
