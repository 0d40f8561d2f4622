import json
import sys
from pathlib import Path

import numpy as np
import pytest

from unmask.cli.prepare import main
from unmask.data.tables import FaceDataset
from unmask.media.image import write_jpeg


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
    main()


def test_a_check_prints_and_writes_the_parts_without_an_output(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("train/real/1.jpg", "train/fake_gan/2.jpg", "test/real/1.jpg", "test/notes.txt")
    _touch(in_folder / "raw", *names)
    _run(monkeypatch, "source=image_folder", "source.root=raw", "task=check")
    out = capsys.readouterr().out
    for words in (
        "Split 'test' has no fake videos.",
        "Split 'val' is empty.",
        "raw/train/real/1.jpg' in train",
        "Usable.",
    ):
        assert words in out
    (path,) = in_folder.glob("outputs/prepare/*/result.json")
    result = json.loads(path.read_text())
    rows = [(part["name"], part["have"], part["missing"], part["unexpected"]) for part in result["parts"]]
    assert rows == [("original", 2, 0, 0), ("fake_gan", 1, 0, 0), ("", 0, 0, 1)]
    assert result["counts"]["classes"] == {"real": 2, "fake": 1}
    assert {name: leak["count"] for name, leak in result["leaks"].items()} == {"groups": 0, "names": 1, "known": 0}
    assert result["usable"]
    assert sorted(path.name for path in in_folder.iterdir()) == ["outputs", "raw"]


def test_a_source_that_prepare_would_refuse_ends_with_1(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_folder / "t.csv").write_text("path,label,identity,split\na.jpg,0,ann,train\nb.jpg,1,ann,test\n")
    _touch(in_folder, "a.jpg", "b.jpg")
    with pytest.raises(SystemExit, match="1"):
        _run(monkeypatch, "source=csv", "source.root=t.csv", "task=check")
    out = capsys.readouterr().out
    assert "'csv/b.jpg' in test, 'csv/a.jpg' in train" in out
    assert "Not usable: 1 groups" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("source=image_folder", "source.root=gone"), "source.root='gone'"),
        (("source=image_folder",), "No value for: source.root"),
        (("source=forge", "source.root=gone"), "output"),
    ],
)
def test_mistakes_of_a_check_are_told_in_one_message(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        _run(monkeypatch, *arguments, "task=check")
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_other_tasks_still_need_an_output(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _run(monkeypatch, "source=image_folder", "source.root=raw")
    assert "No value for: output." in capsys.readouterr().err


def test_several_compressions_come_in_a_list_of_the_command_line(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("original_sequences/youtube/{}/videos/071.mp4", "manipulated_sequences/Deepfakes/{}/videos/071_054.mp4")
    _touch(in_folder / "ff", *(name.format(level) for name in names for level in ("c23", "c40")))
    _run(
        monkeypatch,
        "source=ffpp",
        "source.root=ff",
        "source.compression=[c23,c40]",
        "source.splits=strict",
        "task=check",
    )
    (path,) = in_folder.glob("outputs/prepare/*/result.json")
    rows = [(part["name"], part["have"], part["missing"]) for part in json.loads(path.read_text())["parts"]]
    assert rows == [
        ("original c23", 1, 992), ("original c40", 1, 992), ("Deepfakes c23", 1, 985), ("Deepfakes c40", 1, 985)
    ]  # fmt: skip
    assert "Usable." in capsys.readouterr().out


def test_the_dataset_of_source_auto_records_the_source_that_read_it(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    for index in range(4):
        write_jpeg(in_folder / f"raw/real/{index}.jpg", np.full((16, 16, 3), index, np.uint8), quality=90)
        write_jpeg(in_folder / f"raw/fake_gan/{index}.jpg", np.full((16, 16, 3), 200 + index, np.uint8), quality=90)
    _run(monkeypatch, "source=auto", "source.root=raw", "detector=none", "output=faces", "num_workers=0")
    info = json.loads(Path("faces/dataset.json").read_text())
    assert (info["name"], info["sources"]) == ("image_folder", [{"name": "image_folder", "forgeries": "external"}])
    assert sorted(FaceDataset.load("faces").videos["method"].unique()) == ["fake_gan", "original"]
