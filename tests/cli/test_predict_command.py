import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.networks import make_network

from unmask.cli.predict import main
from unmask.decision import Decision
from unmask.errors import MediaError
from unmask.faces.spec import CropSpec
from unmask.media.encode import write_video
from unmask.media.image import read_image, write_jpeg
from unmask.models.bundle import write_bundle
from unmask.models.checkpoint import load_checkpoint, make_entry
from unmask.models.network import FaceNetwork
from unmask.types import Image

Run = Callable[..., tuple[int, list[dict[str, Any]]]]


def write_checkpoint(path: Path, network: FaceNetwork) -> None:
    entry = make_entry(
        network_config=network.config, crop_spec=CropSpec("none", num_frames=2), decision=Decision(), provenance={}
    )
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 0, "unmask": entry}, path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "best.ckpt", make_network(name="tiny", input_size=32))
    return tmp_path


@pytest.fixture
def predict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        written = sorted(folder.glob("outputs/predict/*/predictions.json"))
        return code, json.loads(written[-1].read_text()) if written else []

    return run


def draw(path: Path) -> None:
    write_jpeg(path, np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8), quality=90)


NAMES = ["my holiday.jpg", "a=b.jpg", "a,b.jpg", "[1].jpg", "{x}.jpg", "ü$x.jpg", "it's.jpg"]


def test_odd_names_work_as_plain_arguments(folder: Path, predict: Run) -> None:
    for name in NAMES:
        draw(folder / name)
    code, rows = predict("checkpoint=best.ckpt", "device=cpu", *NAMES)
    assert code == 0
    assert [row["path"] for row in rows] == NAMES
    assert all(row["verdict"] in ("real", "fake", "uncertain") for row in rows)


def test_names_with_leading_dashes_follow_two_dashes(folder: Path, predict: Run) -> None:
    draw(folder / "--odd.jpg")
    code, rows = predict("checkpoint=best.ckpt", "device=cpu", "--", "--odd.jpg")
    assert (code, [row["path"] for row in rows]) == (0, ["--odd.jpg"])


def test_inputs_of_the_config_work_beside_plain_arguments(folder: Path, predict: Run) -> None:
    for name in ("a=b.jpg", "with space.jpg", "c.jpg"):
        draw(folder / name)
    code, rows = predict("checkpoint=best.ckpt", "device=cpu", "inputs=['a=b.jpg',with space.jpg]", "c.jpg")
    assert (code, [row["path"] for row in rows]) == (0, ["c.jpg", "a=b.jpg", "with space.jpg"])


def test_an_unreadable_file_is_a_row_and_exit_code_one(
    folder: Path, predict: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.jpg").touch()
    (folder / "media").mkdir()
    draw(folder / "media" / "good.jpg")
    write_video(folder / "media" / "good.mp4", [np.zeros((32, 32, 3), np.uint8)] * 3, fps=5)
    code, rows = predict("checkpoint=best.ckpt", "device=cpu", "empty.jpg", "gone.mp4", "media")
    assert code == 1
    assert [row["error"] is None for row in rows] == [False, False, True, True]
    assert [row["kind"] for row in rows] == [None, None, "image", "video"]
    printed = capsys.readouterr().out
    assert "'empty.jpg' is empty (0 bytes)" in printed
    assert "No such file or folder: 'gone.mp4'" in printed
    result = json.loads(next(folder.glob("outputs/predict/*/result.json")).read_text())
    assert (result["files"], result["errors"]) == (4, 2)


def test_nothing_named_is_an_error_with_an_example(predict: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = predict("checkpoint=best.ckpt")
    assert code == 2
    assert "Nothing to predict" in capsys.readouterr().err


def test_a_missing_checkpoint_ends_with_code_two(
    folder: Path, predict: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folder / "a.jpg")
    code, _ = predict("checkpoint=gone.ckpt", "a.jpg")
    assert code == 2
    assert "checkpoint='gone.ckpt'" in capsys.readouterr().err


def test_a_given_threshold_decides(folder: Path, predict: Run) -> None:
    draw(folder / "a.jpg")
    assert predict("checkpoint=best.ckpt", "threshold=0", "margin=0", "a.jpg")[1][0]["verdict"] == "fake"
    assert predict("checkpoint=best.ckpt", "threshold=1", "margin=0", "a.jpg")[1][0]["verdict"] == "real"


def test_a_table_and_heat_maps_lie_beside_the_predictions(folder: Path, predict: Run) -> None:
    for name in ("a.jpg", "b,c.jpg"):
        draw(folder / name)
    (folder / "empty.jpg").touch()
    predict("checkpoint=best.ckpt", "device=cpu", "save=[heatmaps,timeline]", "a.jpg", "b,c.jpg", "empty.jpg")
    written = next(folder.glob("outputs/predict/*/predictions.csv")).parent
    with (written / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["a.jpg", "b,c.jpg", "empty.jpg"]
    assert [row["faces"] for row in rows] == ["1", "1", "0"]
    assert float(rows[0]["score"]) == json.loads((written / "predictions.json").read_text())[0]["score"]
    saved = json.loads((written / "result.json").read_text())["saved"]
    assert [Path(path).name for path in saved["a.jpg"]] == ["heatmap_000000_face1.jpg"]
    assert (written / "0001_b,c" / "heatmap_000000_face1.jpg").is_file()


def test_a_bundle_without_maps_says_where_they_are(
    folder: Path, predict: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folder / "a.jpg")
    write_checkpoint(folder / "vit.ckpt", make_network(name="test_vit", library="timm", input_size=32))
    write_bundle(load_checkpoint(folder / "vit.ckpt"), folder / "bundle")
    text = "No heat maps: the bundle of this network has none. Name its checkpoint"
    predict("checkpoint=bundle", "save=[heatmaps]", "a.jpg")
    assert text in capsys.readouterr().out
    predict("checkpoint=vit.ckpt", "save=[heatmaps]", "device=cpu", "a.jpg")
    assert text not in capsys.readouterr().out
    assert len(list(folder.glob("outputs/predict/*/0000_a/heatmap_*.jpg"))) == 1


HOSTILE = ["=1+cmd.jpg", "<script>x.jpg", "a\nb\x1b[31mc.jpg", "\u202egpj.exe.jpg", "byte\udcff.jpg", "x..\\..\\up.jpg"]


def test_hostile_names_do_no_damage(
    folder: Path, predict: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # so that no name is folded
    media = folder / "media"
    media.mkdir()
    for name in HOSTILE:
        draw(media / name)
    draw(folder / HOSTILE[0])
    code, rows = predict("checkpoint=best.ckpt", "device=cpu", "save=[heatmaps]", "media", "--", HOSTILE[0])
    printed = capsys.readouterr().out
    assert (code, len(rows)) == (0, len(HOSTILE) + 1)
    assert {Path(row["path"]).name for row in rows} == set(HOSTILE)
    assert "\x1b[31mc" not in printed
    assert "\u202e" not in printed
    assert r"\x1b[31mc" in "".join(printed.split())
    written = next(folder.glob("outputs/predict/*/predictions.csv"))
    table = written.read_text().splitlines()
    assert not [line for line in table if line.startswith(("=", "+", "-", "@"))]
    saved = [path for path in written.parent.rglob("heatmap_*")]
    assert len(saved) == len(rows)
    for path in saved:
        assert re.fullmatch(r"\d{4}_[\w.,=+ -]+", path.parent.name)
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "media", "outputs", HOSTILE[0]}


def test_limits_of_the_config_apply_and_notes_are_printed(
    folder: Path, predict: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(folder / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 9, fps=5)
    code, rows = predict("checkpoint=best.ckpt", "every_n=1", "limits.max_frames=2", "a.mp4")
    assert (code, len(rows[0]["frames"])) == (0, 2)
    assert "note: 'a.mp4': 9 frames were asked for: only 2 of them" in capsys.readouterr().out
    code, rows = predict("checkpoint=best.ckpt", "limits.max_seconds=1", "a.mp4")
    assert code == 1
    assert predict("checkpoint=best.ckpt", "limits.max_faces=0", "a.mp4")[0] == 2


def test_a_drawing_that_fails_is_a_note_and_costs_no_verdict(
    folder: Path, predict: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = []

    def read(path: Path, *, max_pixels: int, bounds: None) -> Image:
        limits.append(max_pixels)
        if path.name == "b.jpg":
            raise MediaError(f"'{path}' is gone.")
        return read_image(path, max_pixels=max_pixels)

    monkeypatch.setattr("unmask.inference.save.read_image", read)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        draw(folder / name)
    arguments = ("checkpoint=best.ckpt", "device=cpu", "limits.max_pixels=200000000", "save=[heatmaps]")
    code, rows = predict(*arguments, "a.jpg", "b.jpg", "c.jpg")
    assert code == 1
    assert limits == [200_000_000] * 3
    assert all(row["verdict"] and row["error"] is None for row in rows)
    assert [row["notes"][-1:] for row in rows] == [[], ["save=[heatmaps] was not done: the file is gone."], []]
    assert "note: 'b.jpg': save=[heatmaps] was not done: the file is gone." in capsys.readouterr().out
    result = json.loads(next(folder.glob("outputs/predict/*/result.json")).read_text())
    assert {path: len(files) for path, files in result["saved"].items()} == {"a.jpg": 1, "b.jpg": 0, "c.jpg": 1}


def test_verdicts_are_written_before_a_drawing_fails(
    folder: Path, predict: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill_the_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unmask.inference.save.write_jpeg", fill_the_disk)
    draw(folder / "a.jpg")
    code, _ = predict("checkpoint=best.ckpt", "device=cpu", "save=[heatmaps]", "a.jpg")
    assert code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("Error: ")
    assert "No space left on device" in line
    written = next(folder.glob("outputs/predict/*/predictions.json"))
    assert json.loads(written.read_text())[0]["verdict"]
