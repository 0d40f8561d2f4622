import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unmask.errors import ConfigError, SourceError
from unmask.forging.swap import FORGERS
from unmask.media.video import probe_video, read_frames
from unmask.synthetic.write import SyntheticSpec, draw_clip, write_source

_VALUES: dict[str, Any] = {
    "num_identities": 6,
    "num_frames": 3,
    "fps": 25,
    "size": 96,
    "crf": 23,
    "seed": 0,
    "val_fraction": 0.15,
    "test_fraction": 0.2,
}


def _spec(**changes: Any) -> SyntheticSpec:
    return SyntheticSpec(**{**_VALUES, **changes})


def _hash_files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "source"
    write_source(path, _spec(), num_workers=0)
    return path


def test_every_pair_is_forged_in_both_directions_by_every_method(root: Path) -> None:
    splits = {name: json.loads((root / "splits" / f"{name}.json").read_text()) for name in ("train", "val", "test")}
    pairs = [pair for members in splits.values() for pair in members]
    assert sorted(name for pair in pairs for name in pair) == [f"{number:03d}" for number in range(6)]
    for method in FORGERS:
        for kind in ("c23", "masks"):
            folder = root / "manipulated_sequences" / method / kind / "videos"
            expected = {f"{one}_{other}" for a, b in pairs for one, other in ((a, b), (b, a))}
            assert {path.stem for path in folder.iterdir()} == expected


def test_real_and_forged_videos_are_encoded_alike(root: Path) -> None:
    infos = {probe_video(path) for path in root.rglob("c23/videos/*.mp4")}
    assert len(infos) == 1
    info = infos.pop()
    assert (info.width, info.height, info.fps, info.num_frames, info.codec) == (96, 96, 25, 3, "h264")


def test_forged_video_differs_from_its_original_within_the_mask(root: Path) -> None:
    (first, second), *_ = json.loads((root / "splits" / "train.json").read_text())
    folder = root / "manipulated_sequences" / "FaceSwap"
    original = next(read_frames(root / "original_sequences/youtube/c23/videos" / f"{first}.mp4")).image.astype(int)
    forged = next(read_frames(folder / "c23/videos" / f"{first}_{second}.mp4")).image
    mask = next(read_frames(folder / "masks/videos" / f"{first}_{second}.mp4")).image[..., 0]
    difference = np.abs(original - forged).mean(axis=2)
    assert difference[mask > 200].mean() > 3 * difference[mask < 20].mean()


def test_result_does_not_depend_on_the_number_of_workers(root: Path, tmp_path: Path) -> None:
    write_source(tmp_path / "parallel", _spec(), num_workers=2)
    assert _hash_files(tmp_path / "parallel") == _hash_files(root)


def test_interrupted_run_draws_only_what_is_missing(root: Path) -> None:
    before = _hash_files(root)
    missing = next((root / "manipulated_sequences/Deepfakes/c23/videos").iterdir())
    missing.unlink()
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.mp4")}
    write_source(root, _spec(), num_workers=0)
    assert _hash_files(root) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_folder_drawn_with_other_values_is_refused(root: Path) -> None:
    with pytest.raises(SourceError, match="seed was 0, now 5"):
        write_source(root, _spec(seed=5), num_workers=0)


def test_a_person_stays_the_same_when_others_join() -> None:
    alone, among_more = draw_clip(2, _spec()), draw_clip(2, _spec(num_identities=8))
    np.testing.assert_array_equal(alone[1].image, among_more[1].image)
    assert not np.array_equal(alone[1].image, draw_clip(3, _spec())[1].image)
    assert not np.array_equal(alone[1].image, draw_clip(2, _spec(seed=1))[1].image)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_identities": 4}, "num_identities=4"),
        ({"num_identities": 7}, "num_identities=7"),
        ({"size": 97}, "size=97"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"test_fraction": 0.9}, "test_fraction=0.9"),
    ],
)
def test_impossible_value_is_refused_before_drawing(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        _spec(**change)
