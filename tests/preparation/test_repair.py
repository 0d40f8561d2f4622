import json
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.preparation.test_prepare import SPEC, BrightSpot, _prepare, _video

from unmask.data.audit import find_usable_crops
from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError
from unmask.media.image import read_image, write_jpeg
from unmask.preparation.repair import RepairResult, repair
from unmask.types import Label, Video

Damage = Callable[[Path], None]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _shrink(path: Path) -> None:
    write_jpeg(path, np.zeros((9, 9, 3), np.uint8), quality=90)


def _spoil(path: Path) -> None:
    path.write_bytes(b"\xff\xd8 between both ends of a JPEG \xff\xd9")


DAMAGES: tuple[Damage, ...] = (Path.unlink, _cut, _shrink, _spoil, lambda path: path.write_bytes(b""))


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    return [_one_of_its_kind(_video(tmp_path, name, label=Label(name > "b"))) for name in "abc"]


def _one_of_its_kind(video: Video) -> Video:
    """Make its bytes differ from those of all others, which would be copies of it: by an empty box of MP4."""
    video.path.write_bytes(video.path.read_bytes() + b"\0\0\0\x0cfree" + video.path.stem.encode().ljust(4))
    return video


def _repair(root: Path) -> RepairResult:
    return repair(root, detector=BrightSpot(), num_workers=0)


def _read_all(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_damaged_crops_are_made_again_and_nothing_else_changes(videos: list[Video], tmp_path: Path) -> None:
    root = tmp_path / "out"
    _prepare(videos, root)
    before = _read_all(root)
    crops = list(FaceDataset.load(root).faces["crop"])
    whole = root / crops[-1]
    write_jpeg(whole, read_image(whole) // 2, quality=50)  # of another make, and whole
    kept = whole.read_bytes()
    for crop, damage in zip(crops, DAMAGES, strict=False):
        damage(root / crop)
    result = _repair(root)
    assert (result.num_checked, result.num_repaired, result.problems) == (12, 5, {})
    assert whole.read_bytes() == kept
    whole.write_bytes(before[crops[-1]])
    after = _read_all(root)
    assert {name for name in before if after[name] != before[name]} == {"prepare.jsonl"}
    assert _prepare(videos, root).num_reused == 3  # the journal still knows all of them


def test_tables_stay_as_they_were(videos: list[Video], tmp_path: Path) -> None:
    root = tmp_path / "out"
    _prepare(videos, root)
    before = FaceDataset.load(root)
    (root / before.faces["crop"][5]).unlink()
    _repair(root)
    after = FaceDataset.load(root)
    pd.testing.assert_frame_equal(after.faces, before.faces)
    pd.testing.assert_frame_equal(after.videos, before.videos)
    assert after.info == before.info


def test_video_that_could_not_be_read_is_taken_in(videos: list[Video], tmp_path: Path) -> None:
    root, path = tmp_path / "out", videos[1].path
    good = path.read_bytes()
    path.write_bytes(good[:200])
    videos[2].path.rename(tmp_path / "away")
    extra = _one_of_its_kind(_video(tmp_path, "d", label=Label.FAKE))
    assert _prepare([*videos, extra], root).outcomes == {"ok": 2, "decode_error": 1, "missing": 1}
    result = _repair(root)
    assert result.regained == ()
    assert set(result.problems) == {"listed/b", "listed/c"}
    path.write_bytes(good)
    (tmp_path / "away").rename(videos[2].path)
    result = _repair(root)
    assert (set(result.regained), result.problems) == ({"listed/b", "listed/c"}, {})
    _prepare([*videos, extra], tmp_path / "whole")
    repaired, whole = FaceDataset.load(root), FaceDataset.load(tmp_path / "whole")
    pd.testing.assert_frame_equal(repaired.videos, whole.videos)
    pd.testing.assert_frame_equal(repaired.faces, whole.faces)
    assert repaired.info == whole.info


def test_crop_whose_video_is_gone_or_another_one_is_reported_and_can_be_repaired_later(
    videos: list[Video], tmp_path: Path
) -> None:
    root = tmp_path / "out"
    _prepare(videos, root)
    before = FaceDataset.load(root)
    (root / before.faces["crop"][0]).unlink()
    away = videos[0].path.rename(tmp_path / "away")
    result = _repair(root)
    assert result.num_repaired == 0
    assert str(videos[0].path) in result.problems["listed/a"]
    assert str(root / before.faces["crop"][0]) in result.problems
    videos[0].path.write_bytes(videos[1].path.read_bytes())
    assert "has changed" in _repair(root).problems["listed/a"]
    videos[0].path.unlink()
    away.rename(videos[0].path)
    assert _repair(root).num_repaired == 1
    pd.testing.assert_frame_equal(FaceDataset.load(root).faces, before.faces)


def test_remains_of_a_repair_that_was_killed_are_removed(videos: list[Video], tmp_path: Path) -> None:
    root = tmp_path / "out"
    _prepare(videos, root)
    (root / ".remade-x" / "crops").mkdir(parents=True)
    _repair(root)
    assert not (root / ".remade-x").exists()


def test_same_command_makes_damaged_crops_again(
    videos: list[Video], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "out"
    _prepare(videos, root)
    before = _read_all(root)
    crops = list(FaceDataset.load(root).faces["crop"])
    for crop, damage in zip(crops, DAMAGES, strict=False):
        damage(root / crop)
    result = _prepare(videos, root)
    assert (result.num_reused, result.num_repaired) == (3, 5)
    assert str(root / crops[0]) in caplog.text
    after = _read_all(root)
    assert {name: after[name] for name in crops} == {name: before[name] for name in crops}
    assert after["faces.parquet"] == before["faces.parquet"]
    assert _prepare(videos, root).num_repaired == 0


def test_message_on_damaged_crops_names_the_command_that_repairs_them(
    synthetic_root: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unmask.cli.prepare import main

    root, raw = in_folder / "it's (a) test, = ü", in_folder / "raw"
    shutil.copytree(synthetic_root, raw)
    monkeypatch.setattr(sys, "argv", [
        "prepare.py", "source=ffpp", f"source.root={raw}", f"source.splits={raw}/splits",
        "source.methods=[FaceSwap]", "detector=haar", "detector.min_neighbors=4", f'output="{root}"', "num_workers=0",
        "limit=2", "crop.num_frames=2", "crop.crop_size=48",
    ])  # fmt: skip
    main()
    dataset = FaceDataset.load(root)
    crop = root / dataset.faces_of("train")["crop"][0]
    content = crop.read_bytes()
    crop.unlink()
    with pytest.raises(DatasetError) as told:
        find_usable_crops(dataset, split="train")
    python, *arguments = shlex.split(str(told.value).rpartition("with: ")[2])
    assert (python, arguments[0]) == ("python", "prepare.py")
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    assert crop.read_bytes() == content
    assert "1 made again" in capsys.readouterr().out
    newest = max(in_folder.glob("outputs/prepare/*/result.json"), key=lambda path: path.stat().st_mtime_ns)
    assert json.loads(newest.read_text())["repaired"] == 1
    crop.unlink()
    monkeypatch.setattr(sys, "argv", [*arguments, "detector=haar", "num_workers=0"])
    shutil.rmtree(raw)
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "could not be repaired" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "detector=none"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "was prepared with the detector 'haar'" in capsys.readouterr().err


def test_tables_of_other_crops_are_taken_away_before_these_are_replaced(
    videos: list[Video], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "out"
    _prepare(videos, root)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(BrightSpot, "detect", fail)
        with pytest.raises(KeyboardInterrupt):
            _prepare(videos, root, spec=replace(SPEC, margin=1.5))
    with pytest.raises(DatasetError, match=r"dataset\.json missing"):
        FaceDataset.load(root)


def test_video_over_a_limit_is_taken_in_where_the_limit_is_raised(videos: list[Video], tmp_path: Path) -> None:
    root = tmp_path / "out"
    assert _prepare(videos, root, max_pixels=96 * 96).outcomes == {"ok": 3}
    table = FaceDataset.load(root)
    (root / table.faces["crop"][0]).unlink()
    small = repair(root, detector=BrightSpot(), num_workers=0, max_pixels=96 * 96 - 1)
    assert small.num_repaired == 0
    assert len(small.problems) == 1
    assert repair(root, detector=BrightSpot(), num_workers=0, max_pixels=96 * 96).num_repaired == 1
