from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage
from tests.preparation.test_masks import draw as draw_mask
from tests.preparation.test_prepare import SPEC, BrightSpot, _assert_same, _prepare, _video

from unmask.data.audit import find_usable_crops
from unmask.data.tables import FaceDataset
from unmask.faces.spec import CropSpec
from unmask.media.encode import write_video
from unmask.preparation.repair import repair
from unmask.types import Face, Image, Label, Video

LARGE, SMALL = (10, 20, 60, 70), (90, 30, 114, 54)


@dataclass
class BrightSpots:
    """Finds every bright spot, the largest first, and is surer of larger ones; pickles, and needs no weights."""

    name: str = "spots"
    weights_sha256: str = ""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> list[Face]:
        mask = (image.max(axis=2) > 128).astype(np.uint8)
        spots = cv2.connectedComponentsWithStats(mask)[2][1:, :4].tolist()
        faces = [Face((float(x), float(y), float(x + w), float(y + h)), None, min(w / 60, 1)) for x, y, w, h in spots]
        return sorted((face for face in faces if face.box[2] - face.box[0] > 4), key=lambda face: -face.confidence)


def draw(
    path: Path, *spots: Sequence[int], num_frames: int = 8, first: int = 0, size: tuple[int, int] = (96, 128)
) -> Path:
    """Write a video with spots of different colours; the last spot appears in frame `first`."""
    frames = []
    for index in range(num_frames):
        image = np.zeros((*size, 3), np.uint8)
        for number, (x1, y1, x2, y2) in enumerate(spots):
            if number < len(spots) - 1 or index >= first:
                image[y1:y2, x1:x2] = ((230, 190, 160), (170, 200, 230), (200, 230, 170))[number]
        frames.append(image)
    write_video(path, frames, fps=25, crf=10)
    return path


def video(path: Path, label: Label = Label.REAL, original: str | None = None) -> Video:
    method = "original" if label == Label.REAL else "FaceSwap"
    return Video(f"listed/{path.stem}", path, label, method, identities=(path.stem[0],), original=original)


def make(videos: list[Video], output: Path, spec: CropSpec, **options: object) -> FaceDataset:
    _prepare(videos, output, detector=BrightSpots(), spec=spec, **options)
    return FaceDataset.load(output)


@pytest.mark.parametrize(("name", "format"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG")])
def test_crops_have_the_format_of_the_spec_and_are_audited_and_repaired(tmp_path: Path, name: str, format: str) -> None:
    spec = replace(SPEC, format="jpeg" if name == "jpg" else name)
    root, videos = tmp_path / "out", [_video(tmp_path, "a"), _video(tmp_path, "b", label=Label.FAKE)]
    _prepare(videos, root, spec=spec)
    dataset = FaceDataset.load(root)
    assert dataset.spec == spec
    assert [crop.rpartition("/")[2] for crop in dataset.faces["crop"]] == 2 * [
        f"{n:06d}_0.{name}" for n in (0, 2, 5, 7)
    ]
    for crop in dataset.faces["crop"]:
        with PilImage.open(root / crop) as image:
            assert (image.format, image.size) == (format, (32, 32))
    cut, gone = (root / crop for crop in dataset.faces["crop"][:2])
    before = cut.read_bytes(), gone.read_bytes()
    cut.write_bytes(before[0][: len(before[0]) // 2])
    gone.unlink()
    split = dataset.faces["split"][0]
    assert len(find_usable_crops(dataset, split=split, max_bad_share=1)) == (dataset.faces["split"] == split).sum() - 2
    assert repair(root, detector=BrightSpot(), num_workers=0).num_repaired == 2
    assert (cut.read_bytes(), gone.read_bytes()) == before


def test_crops_of_another_format_are_replaced_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = [_video(tmp_path, "a"), _video(tmp_path, "b", label=Label.FAKE)]
    _prepare(videos, tmp_path / "out", spec=replace(SPEC, chroma="4:2:0"))
    _prepare(videos, tmp_path / "out", spec=replace(SPEC, format="png"))
    assert "format: 'jpeg', now 'png'" in caplog.text
    assert {path.suffix for path in (tmp_path / "out" / "crops").rglob("*.*") if path.is_file()} == {".png"}


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"min_face": 40.0}, "4 below crop.min_face=40"),
        ({"min_confidence": 0.5}, "4 below crop.min_confidence=0.5"),
        ({"min_sharpness": 200.0}, "4 below crop.min_sharpness=200"),
    ],
)
def test_video_whose_faces_all_fail_a_limit_has_no_face_and_counts_them(
    tmp_path: Path, limit: dict[str, float], told: str
) -> None:
    videos = [video(draw(tmp_path / "a.mp4", SMALL)), video(_draw_sharp(tmp_path / "b.mp4"), Label.FAKE)]
    rows = make(videos, tmp_path / "out", replace(SPEC, crop_size=64, **limit)).videos  # type: ignore[arg-type]
    assert rows["outcome"].tolist() == ["no_face", "ok"]
    assert rows["faces"].tolist() == [0, 4]
    assert told in rows["message"][0]
    assert "4 of 4 faces" in rows["message"][0]


def _draw_sharp(path: Path) -> Path:
    image = np.zeros((96, 128, 3), np.uint8)
    image[20:70, 10:60] = np.random.default_rng(0).integers(129, 256, (50, 50, 1))
    write_video(path, [image] * 8, fps=25, crf=1)
    return path


def test_faces_that_fail_beside_one_that_does_not_are_counted(tmp_path: Path) -> None:
    videos = [video(draw(tmp_path / "a.mp4", LARGE, SMALL)), video(draw(tmp_path / "b.mp4", LARGE), Label.FAKE)]
    dataset = make(videos, tmp_path / "out", replace(SPEC, min_face=40, keep="all"))
    assert dataset.videos["outcome"].tolist() == ["ok", "ok"]
    assert "4 of 8 faces (4 below crop.min_face=40)" in dataset.videos["message"][0]
    assert dataset.videos["message"][1] == ""
    assert set(dataset.faces["track"]) == {0}


def test_all_tracks_give_crops_the_main_person_first(tmp_path: Path) -> None:
    two, one = draw(tmp_path / "a.mp4", SMALL, LARGE, first=4), draw(tmp_path / "b.mp4", LARGE)
    videos = [video(two), video(one, Label.FAKE)]
    dataset = make(videos, tmp_path / "out", replace(SPEC, keep="all"))
    rows = dataset.faces[dataset.faces["video_id"] == "listed/a"]
    assert [crop.rpartition("/")[2] for crop in rows["crop"]] == [
        "000000_1.jpg", "000002_1.jpg", "000005_0.jpg", "000005_1.jpg", "000007_0.jpg", "000007_1.jpg",
    ]  # fmt: skip
    assert rows["track"].tolist() == [1, 1, 0, 1, 0, 1]
    assert [box[0] for box in rows["box"]] == pytest.approx([90, 90, 10, 90, 10, 90], abs=1)
    assert dataset.videos["faces"].tolist() == [6, 4]
    main = make(videos, tmp_path / "main", SPEC)
    ours = dataset.faces.loc[dataset.faces["track"] == 0, "crop"].tolist()
    assert list(main.faces["crop"]) == ours
    for crop in ours:
        assert (tmp_path / "main" / crop).read_bytes() == (tmp_path / "out" / crop).read_bytes()


def test_masked_person_is_track_0_and_the_others_are_kept_too(tmp_path: Path) -> None:
    fake = replace(
        video(draw(tmp_path / "b.mp4", LARGE, SMALL), Label.FAKE), mask=draw_mask(tmp_path / "mask.mp4", SMALL)
    )
    rows = make([video(draw(tmp_path / "a.mp4", LARGE)), fake], tmp_path / "out", replace(SPEC, keep="all")).faces
    rows = rows[rows["video_id"] == "listed/b"]
    assert [box[0] for box in rows[rows["track"] == 0]["box"]] == pytest.approx([90] * 4, abs=1)
    assert [box[0] for box in rows[rows["track"] == 1]["box"]] == pytest.approx([10] * 4, abs=1)


def test_crops_of_all_tracks_resume_and_are_repaired_byte_for_byte(tmp_path: Path) -> None:
    spec = replace(SPEC, keep="all")
    names = ("a", "b", "c", "d")
    videos = [video(draw(tmp_path / f"{name}.mp4", LARGE, SMALL), Label(name > "b")) for name in names]
    make(videos, tmp_path / "whole", spec, num_workers=2)
    make(videos[:2], tmp_path / "out", spec)
    dataset = make(videos, tmp_path / "out", spec)
    _assert_same(tmp_path / "whole", tmp_path / "out")
    before = (dataset.root / "faces.parquet").read_bytes()
    for crop in dataset.faces["crop"][1::3]:
        (dataset.root / crop).unlink()
    assert repair(dataset.root, detector=BrightSpots(), num_workers=0).num_repaired == len(dataset.faces["crop"][1::3])
    assert (dataset.root / "faces.parquet").read_bytes() == before
    _assert_same(tmp_path / "whole", tmp_path / "out")
