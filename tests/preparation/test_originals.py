import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.preparation.test_crop_options import LARGE, SMALL, BrightSpots, draw, make, video
from tests.preparation.test_masks import draw as draw_mask
from tests.preparation.test_prepare import SPEC, _assert_same

from unmask.data.tables import FaceDataset
from unmask.media.image import read_image, write_jpeg
from unmask.preparation.repair import repair
from unmask.types import Label, MediaKind, Video

PAIRED = replace(SPEC, boxes="from_original")
MOVED = (30, 30, 66, 66)
"""Where the spot of a forgery lies: its own box would be another than that of its original."""


def fake(path: Path, original: str = "listed/a") -> Video:
    return video(path, Label.FAKE, original)


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    """Return two forgeries before their original, as in sources that list the fakes first."""
    paths = [draw(tmp_path / f"{name}.mp4", MOVED) for name in ("a_b", "a_c")]
    return [*map(fake, paths), video(draw(tmp_path / "a.mp4", LARGE))]


def boxes(dataset: FaceDataset, name: str) -> list[list[float]]:
    return [list(box) for box in dataset.faces.loc[dataset.faces["video_id"] == f"listed/{name}", "box"]]


def message(dataset: FaceDataset, name: str) -> str:
    return str(dataset.videos.set_index("video_id").loc[f"listed/{name}", "message"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_forgeries_are_cropped_at_the_frames_and_boxes_of_their_original(
    videos: list[Video], tmp_path: Path, num_workers: int
) -> None:
    dataset = make(videos, tmp_path / "out", PAIRED, num_workers=num_workers)
    ours = dataset.faces.set_index(["video_id", "frame_index"])
    assert list(dataset.faces["video_id"]) == ["listed/a_b"] * 4 + ["listed/a_c"] * 4 + ["listed/a"] * 4
    for name in ("a_b", "a_c"):
        assert boxes(dataset, name) == boxes(dataset, "a")
        assert ours.loc[f"listed/{name}"].index.tolist() == [0, 2, 5, 7]
        assert message(dataset, name) == ""
    crop = read_image(dataset.root / dataset.faces["crop"].iloc[0])
    lit = np.argwhere(crop.max(axis=2) > 128) * 65 / 32 + (12.5, 2.5)  # a crop of 65 px from x=2.5, y=12.5 on
    assert (lit.min(axis=0), lit.max(axis=0)) == (pytest.approx([30, 30], abs=4), pytest.approx([66, 66], abs=4))
    own = make(videos, tmp_path / "own", SPEC)
    assert boxes(own, "a_b") != boxes(own, "a") == boxes(dataset, "a")


def test_limits_are_checked_on_the_original_alone(videos: list[Video], tmp_path: Path) -> None:
    dataset = make(videos, tmp_path / "out", replace(PAIRED, min_face=40))  # the forged spot has 36 px
    assert boxes(dataset, "a_b") == boxes(dataset, "a")
    assert dataset.videos["outcome"].tolist() == ["ok"] * 3


def test_pairs_keep_all_tracks_of_their_original(tmp_path: Path) -> None:
    videos = [fake(draw(tmp_path / "a_b.mp4", MOVED)), video(draw(tmp_path / "a.mp4", LARGE, SMALL))]
    dataset = make(videos, tmp_path / "out", replace(PAIRED, keep="all"))
    tracks = dataset.faces.groupby("video_id")["track"].agg(list)
    assert tracks["listed/a_b"] == tracks["listed/a"] == [0, 1] * 4


def test_forgery_that_does_not_fit_its_original_is_detected_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dark = video(draw(tmp_path / "dark.mp4"))
    gone = replace(video(tmp_path / "gone.mp4"), identities=("g",))
    short = draw(tmp_path / "a_short.mp4", MOVED, num_frames=2)
    masked = replace(fake(draw(tmp_path / "a_masked.mp4", LARGE, SMALL)), mask=draw_mask(tmp_path / "mask.mp4", SMALL))
    unpaired = video(draw(tmp_path / "u.mp4", MOVED), Label.FAKE)
    videos = [
        video(draw(tmp_path / "a.mp4", LARGE)), dark, gone, masked, fake(short), unpaired,
        fake(draw(tmp_path / "a_wide.mp4", MOVED, size=(96, 160))),
        fake(draw(tmp_path / "a_dark.mp4", MOVED), "listed/dark"),
        fake(draw(tmp_path / "a_gone.mp4", MOVED), "listed/gone"),
        fake(draw(tmp_path / "a_out.mp4", MOVED), "listed/elsewhere"),
    ]  # fmt: skip
    with caplog.at_level(logging.INFO):
        dataset = make(videos, tmp_path / "out", PAIRED)
    for name, words in (
        ("a_short", ("ends", "3 of the 4 crops")),
        ("a_wide", ("160 x 96", "128 x 96")),
        ("a_dark", ("'listed/dark'", "no_face")),
        ("a_gone", ("'listed/gone'", "missing")),
        ("a_out", ("'listed/elsewhere'", "not among")),
        ("a_masked", ("mask",)),
    ):
        assert all(word in message(dataset, name) for word in words), name
        left = 90 if name == "a_masked" else 30
        assert {round(box[0]) for box in boxes(dataset, name)} <= {left - 1, left, left + 1}, name
        assert boxes(dataset, name), name
    assert message(dataset, "u") == ""
    assert "of 7 forgeries, 1 have boxes of their own" in caplog.text
    assert ", and 6, since their original" in caplog.text


def test_shorter_forgery_reuses_the_boxes_of_the_frames_that_it_has(tmp_path: Path) -> None:
    videos = [video(draw(tmp_path / "a.mp4", LARGE)), fake(draw(tmp_path / "a_b.mp4", MOVED, num_frames=6))]
    dataset = make(videos, tmp_path / "out", PAIRED)
    assert boxes(dataset, "a_b") == boxes(dataset, "a")[:3]
    assert "1 of the 4 crops of its original" in message(dataset, "a_b")
    assert dataset.videos["outcome"].tolist() == ["ok", "ok"]


def test_frames_in_folders_are_paired_by_their_names(tmp_path: Path) -> None:
    def write(name: str, spot: tuple[int, ...], numbers: range) -> Path:
        for number in numbers:
            image = np.zeros((96, 128, 3), np.uint8)
            image[spot[1] : spot[3], spot[0] : spot[2]] = 230
            write_jpeg(tmp_path / name / f"{number:04d}.jpg", image, quality=95)
        return tmp_path / name

    same, later = write("a_same", MOVED, range(6)), write("a_later", MOVED, range(3, 9))
    videos = [video(write("a", LARGE, range(6))), fake(same), fake(later)]
    dataset = make([replace(one, kind=MediaKind.FRAMES) for one in videos], tmp_path / "out", PAIRED)
    assert boxes(dataset, "a_same") == boxes(dataset, "a")
    assert boxes(dataset, "a_later") != boxes(dataset, "a")
    assert "file names" in message(dataset, "a_later")


def test_images_are_paired_too(tmp_path: Path) -> None:
    videos = []
    for name, spot in (("a", LARGE), ("a_b", MOVED)):
        image = np.zeros((96, 128, 3), np.uint8)
        image[spot[1] : spot[3], spot[0] : spot[2]] = 230
        write_jpeg(tmp_path / f"{name}.jpg", image, quality=95)
        path = tmp_path / f"{name}.jpg"
        videos.append(replace(video(path) if name == "a" else fake(path), kind=MediaKind.IMAGE))
    dataset = make(videos, tmp_path / "out", PAIRED)
    assert boxes(dataset, "a_b") == boxes(dataset, "a")


def test_forgery_is_made_again_when_its_original_changes_or_comes_back(videos: list[Video], tmp_path: Path) -> None:
    away = videos[2].path.rename(tmp_path / "away")
    assert "missing" in message(make(videos, tmp_path / "out", PAIRED), "a_b")
    away.rename(videos[2].path)
    dataset = make(videos, tmp_path / "out", PAIRED)
    assert boxes(dataset, "a_b") == boxes(dataset, "a")
    draw(videos[2].path, SMALL)
    dataset = make(videos, tmp_path / "out", PAIRED)
    assert boxes(dataset, "a_b") == boxes(dataset, "a")
    assert boxes(dataset, "a")[0][0] == pytest.approx(90, abs=1)
    make(videos, tmp_path / "whole", PAIRED)
    _assert_same(tmp_path / "whole", tmp_path / "out")


def test_original_over_a_limit_gives_its_boxes_once_the_limit_is_raised(tmp_path: Path) -> None:
    videos = [fake(draw(tmp_path / "a_b.mp4", MOVED)), video(draw(tmp_path / "a.mp4", LARGE))]
    large = draw(tmp_path / "large.mp4", LARGE, size=(96, 160))
    videos[1] = replace(videos[1], path=large)
    dataset = make(videos, tmp_path / "out", PAIRED, max_pixels=96 * 128)
    assert "decode_error" in message(dataset, "a_b")
    dataset = make(videos, tmp_path / "out", PAIRED)
    assert "160 x 96" in message(dataset, "a_b")


KILLED = """
import os, signal, sys
from pathlib import Path
from dataclasses import replace
from tests.preparation import test_originals as here
from unmask.preparation import originals, prepare_video
num_left = int(sys.argv[2])
write = originals.write_bytes
def die_at_last(path, data):
    global num_left
    num_left -= 1
    if num_left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)
originals.write_bytes = prepare_video.write_bytes = die_at_last
folder = Path(sys.argv[1])
videos = [here.fake(folder / "a_b.mp4"), here.fake(folder / "a_c.mp4"), here.video(folder / "a.mp4")]
here.make(videos, folder / "out", here.PAIRED)
"""


@pytest.mark.parametrize("num_written", [2, 6])
def test_killed_run_ends_in_the_same_dataset_when_repeated(
    videos: list[Video], tmp_path: Path, num_written: int
) -> None:
    make(videos, tmp_path / "whole", PAIRED)
    here = Path(__file__).parents[2]
    script = [sys.executable, "-c", KILLED, str(tmp_path), str(num_written)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here / "src")])}
    done = subprocess.run(script, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len([path for path in (tmp_path / "out" / "crops").rglob("*.jpg")]) == num_written
    make(videos, tmp_path / "out", PAIRED, num_workers=2)
    _assert_same(tmp_path / "whole", tmp_path / "out")


def test_repair_crops_forgeries_at_the_boxes_of_their_original(videos: list[Video], tmp_path: Path) -> None:
    dataset = make(videos, tmp_path / "out", PAIRED)
    before = {crop: (dataset.root / crop).read_bytes() for crop in dataset.faces["crop"]}
    for crop in [*before][::3]:
        (dataset.root / crop).unlink()
    result = repair(dataset.root, detector=BrightSpots(), num_workers=0)
    assert (result.num_repaired, result.problems) == (4, {})
    assert {crop: (dataset.root / crop).read_bytes() for crop in before} == before
    pd.testing.assert_frame_equal(FaceDataset.load(dataset.root).faces, dataset.faces)
    (dataset.root / dataset.faces["crop"][0]).unlink()
    draw(videos[2].path, SMALL)
    result = repair(dataset.root, detector=BrightSpots(), num_workers=0)
    assert "original" in result.problems["listed/a_b"]


def test_repair_takes_in_original_and_forgery_that_could_not_be_read(videos: list[Video], tmp_path: Path) -> None:
    extra = [video(draw(tmp_path / "x.mp4", LARGE)), video(draw(tmp_path / "y.mp4", LARGE), Label.FAKE)]
    for one in (videos[0], videos[2]):
        one.path.rename(one.path.with_suffix(".away"))
    make([*videos, *extra], tmp_path / "out", PAIRED)
    for one in (videos[0], videos[2]):
        one.path.with_suffix(".away").rename(one.path)
    result = repair(tmp_path / "out", detector=BrightSpots(), num_workers=0)
    assert set(result.regained) == {"listed/a_b", "listed/a"}
    dataset = FaceDataset.load(tmp_path / "out")
    assert boxes(dataset, "a_b") == boxes(dataset, "a")
    assert "missing" in message(dataset, "a_c")  # its own boxes are kept until prepare runs again
    make([*videos, *extra], tmp_path / "out", PAIRED)
    make([*videos, *extra], tmp_path / "whole", PAIRED)
    _assert_same(tmp_path / "whole", tmp_path / "out")
