import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PilImage

from unmask.data.tables import FACE_COLUMNS, VIDEO_COLUMNS, FaceDataset
from unmask.faces.spec import CropSpec
from unmask.preparation.cues import LIMIT, Cue, describe_warning, estimate_jpeg_quality, measure_cues, warn_of_cues

Maker = Callable[..., FaceDataset]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Make a dataset of 10 reals and 10 fakes of each method, equal in all but the given columns of the fakes."""

    def make(methods: tuple[str, ...] = ("FaceSwap",), **differences: Any) -> FaceDataset:
        common = {"kind": "video", "outcome": "ok", "split": "test", "path": str(tmp_path / "gone.mp4"), "message": ""}
        alike = {"codec": "h264", "width": 640, "height": 480, "fps": 25.0, "frames": 32, "faces": 32}
        videos, faces = [], []
        for method in ("original", *methods):
            label = int(method != "original")
            for number in range(10):
                own = {key: value[number % len(value)] for key, value in differences.items()} if label else {}
                name = {"video_id": f"x/{method}/{number}", "label": label, "method": method}
                videos.append(dict.fromkeys(VIDEO_COLUMNS) | common | alike | name | own)
                faces.append(dict.fromkeys(FACE_COLUMNS) | name | {"split": "test", "box": [0.0, 0.0, 90.0, 100.0]})
        tables = pd.DataFrame(videos, columns=list(VIDEO_COLUMNS)), pd.DataFrame(faces, columns=list(FACE_COLUMNS))
        info = {"name": "x", "preprocessing": CropSpec("haar").to_dict()}
        return FaceDataset(tmp_path, info, *tables)

    return make


def areas(dataset: FaceDataset) -> dict[str, float]:
    return {cue.name: cue.auc for cue in measure_cues(dataset)}


def test_properties_that_do_not_differ_tell_nothing(make: Maker) -> None:
    assert areas(make()) == {
        "codec": 0.5, "width (px)": 0.5, "height (px)": 0.5, "frame rate (1/s)": 0.5, "frames examined": 0.5,
        "crops": 0.5, "face size (px)": 0.5,
    }  # fmt: skip
    assert not [cue for cue in measure_cues(make()) if cue.is_warning]


@pytest.mark.parametrize(
    ("differences", "name", "auc"),
    [
        ({"width": [320]}, "width (px)", 1.0),
        ({"width": [1280]}, "width (px)", 1.0),  # the direction does not matter
        ({"height": [480, 720]}, "height (px)", 0.75),
        ({"fps": [30.0, 25.0, 25.0, 25.0, 25.0]}, "frame rate (1/s)", 0.6),
        ({"codec": ["vp9", "h264"]}, "codec", 0.75),
        ({"codec": ["aa", "vp9"]}, "codec", 1.0),  # alphabetical order would give 0.5
        ({"faces": [4]}, "crops", 1.0),
    ],
)
def test_property_is_scored_by_itself(make: Maker, differences: dict[str, Any], name: str, auc: float) -> None:
    first = measure_cues(make(**differences))[0]
    assert (first.name, first.auc) == (name, pytest.approx(auc))
    assert first.is_warning == (auc > LIMIT)


def test_face_size_is_measured_in_the_frames(make: Maker) -> None:
    dataset = make()
    fakes = dataset.faces["label"] == 1
    dataset.faces.loc[fakes, "box"] = pd.Series([[0, 0, 30, 50]] * 10, index=dataset.faces.index[fakes])
    first = measure_cues(dataset)[0]
    assert (first.name, first.real, first.fake, first.auc) == ("face size (px)", "100", "50", 1.0)


def test_one_method_that_differs_is_found_among_many(make: Maker) -> None:
    dataset = make(("A", "B", "C", "D", "E"))
    dataset.videos.loc[dataset.videos["method"] == "C", "codec"] = "vp9"
    first = measure_cues(dataset)[0]
    assert (first.name, first.method, first.method_auc) == ("codec", "C", 1.0)
    assert first.auc == pytest.approx(0.6)  # under the limit by itself
    assert first.is_warning
    for word in ("codec", "h264 100%", "vp9 20%", "0.60", "1.00 for C"):
        assert word in describe_warning(first)


def test_method_of_few_videos_warns_only_beyond_chance(make: Maker) -> None:
    cue = replace(measure_cues(make())[0], auc=0.6, method_auc=0.72, method_chance=0.74)
    assert not cue.is_warning
    assert replace(cue, method_chance=0.68).is_warning
    assert replace(cue, auc=0.71).is_warning


def test_chance_of_few_videos_is_told(make: Maker) -> None:
    few = replace(measure_cues(make(width=[320]))[0], chance=0.76)
    assert "0.76" in describe_warning(few)
    assert "chance" not in describe_warning(replace(few, chance=0.6))
    # The normal approximation of the Mann-Whitney statistic for 10 against 10: 0.5 + 1.96 * sqrt(21 / 1200)
    assert measure_cues(make())[0].chance == pytest.approx(0.759, abs=1e-3)


def test_only_what_differs_is_logged(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_cues(measure_cues(make(width=[320])))
    assert len(caplog.records) == 1
    assert "width (px)" in caplog.text


def test_videos_without_crops_and_unknown_values_are_left_out(make: Maker) -> None:
    dataset = make(width=[320] + [640] * 9, fps=[0.0])
    dataset.videos.loc[dataset.videos["width"] == 320, "outcome"] = "no_face"
    cues: dict[str, Cue] = {cue.name: cue for cue in measure_cues(dataset)}
    assert (cues["width (px)"].auc, cues["width (px)"].num_known) == (0.5, 19)
    assert "frame rate (1/s)" not in cues
    assert "file size (kB)" not in cues  # the files are gone


def test_one_class_alone_has_nothing_to_compare(make: Maker) -> None:
    assert measure_cues(make(())) == []


def test_size_and_quality_of_image_files_are_compared(make: Maker, tmp_path: Path) -> None:
    dataset = make()
    dataset.videos["kind"] = "image"
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    for number, row in dataset.videos.iterrows():
        path = tmp_path / f"{number}.jpg"
        PilImage.fromarray(noise).save(path, quality=60 if row["label"] else 90)
        dataset.videos.loc[number, "path"] = str(path)  # type: ignore[index]
    cues = {cue.name: cue for cue in measure_cues(dataset)}
    assert (cues["JPEG quality"].real, cues["JPEG quality"].fake, cues["JPEG quality"].auc) == ("90", "60", 1.0)
    assert cues["file size (kB)"].auc == 1.0


def test_frames_of_a_folder_count_together(make: Maker, tmp_path: Path) -> None:
    dataset = make()
    dataset.videos["kind"] = "frames"
    for label in (0, 1):
        for number in range(2 + label):
            path = tmp_path / f"frames{label}" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            PilImage.new("RGB", (8, 8)).save(path, quality=75)
        dataset.videos.loc[dataset.videos["label"] == label, "path"] = str(path.parent)
    cues = {cue.name: cue for cue in measure_cues(dataset)}
    assert (cues["file size (kB)"].auc, cues["JPEG quality"].auc, cues["JPEG quality"].real) == (1.0, 0.5, "75")


@pytest.mark.parametrize("quality", [10, 50, 75, 95, 100])
def test_jpeg_quality_is_read_from_the_quantization_table(tmp_path: Path, quality: int) -> None:
    PilImage.new("RGB", (8, 8)).save(tmp_path / "x.jpg", quality=quality)
    assert estimate_jpeg_quality(tmp_path / "x.jpg") == pytest.approx(quality, abs=1)


def test_files_that_are_no_jpeg_have_no_quality(tmp_path: Path) -> None:
    PilImage.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    for name in ("x.png", "broken.jpg", "gone.jpg"):
        assert np.isnan(estimate_jpeg_quality(tmp_path / name))
