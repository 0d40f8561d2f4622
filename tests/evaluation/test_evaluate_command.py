import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unmask.cli.evaluate import main

Maker = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", "device=cpu", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def test_evaluate_prints_metrics_and_report_path(
    run: Callable[..., int], make_dataset: Maker, make_checkpoint: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset()
    assert run(f"checkpoint={make_checkpoint()}", f"dataset.root='{root}'") == 0
    printed = capsys.readouterr().out
    (result,) = Path().glob("outputs/evaluate/*/result.json")
    written = json.loads(result.read_text())
    assert written["report"] in printed
    assert "ROC-AUC FaceSwap" in printed
    assert "9 of 12 videos" in printed
    assert shlex.quote(f"dataset.root='{root}'") in written["provenance"]["command"]


def test_evaluate_with_other_preprocessing_exits_with_two(
    run: Callable[..., int], make_dataset: Maker, make_checkpoint: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"checkpoint={make_checkpoint(crop_size=99)}", f"dataset.root='{make_dataset()}'"
    assert run(*arguments) == 2
    assert "crop_size: model 99, dataset 32" in capsys.readouterr().err
    assert run(*arguments, "allow_spec_mismatch=true") == 0


@pytest.mark.parametrize(
    "argument",
    ["batch_size=0", "num_workers=-1"],
)
def test_invalid_numbers_are_named(
    run: Callable[..., int], make_checkpoint: Maker, capsys: pytest.CaptureFixture[str], argument: str
) -> None:
    assert run(f"checkpoint={make_checkpoint()}", "dataset.root=gone", argument) == 2
    assert argument in capsys.readouterr().err


def test_robustness_prints_curves_and_continues(
    run: Callable[..., int], make_dataset: Maker, make_checkpoint: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset()
    arguments = [
        "task=robustness", f"checkpoint={make_checkpoint()}", f"dataset.root='{root}'",
        "robustness.families=[blur,noise]", "robustness.levels=[1,3]", "robustness.limit=2",
    ]  # fmt: skip
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    (result,) = Path().glob("outputs/evaluate/*/result.json")
    written = json.loads(result.read_text())
    assert written["table"] in printed
    assert "level 3" in printed
    assert "4 videos, perturbed by the crop" in printed
    assert Path(written["scores"]).parent == Path("outputs/robustness").absolute()
    assert sorted(path.stem for path in Path(written["scores"]).iterdir()) == [
        "blur_1", "blur_3", "clean", "noise_1", "noise_3"
    ]  # fmt: skip
    times = {path: path.stat().st_mtime_ns for path in Path(written["scores"]).iterdir()}
    assert run(*arguments) == 0
    assert times == {path: path.stat().st_mtime_ns for path in Path(written["scores"]).iterdir()}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["task=robust"], ["'robust'", "task=robustness", "evaluate, robustness"]),
        (["task=robustness", "robustness.families=[blurr]"], ["'blurr'", "robustness.families", "'blur'", "h264"]),
        (["task=robustness", "robustness.levels=[1,9]"], ["level 9", "robustness.levels", "1, 2, 3, 4, 5"]),
        (["task=robustness", "robustness.limit=0"], ["robustness.limit=0"]),
        (["task=robustness", "robustness.detect=never"], ["robustness.detect=never", "again, recorded"]),
    ],
)
def test_invalid_robustness_keys_are_named(
    run: Callable[..., int], make_checkpoint: Maker, capsys: pytest.CaptureFixture[str], arguments: list[str],
    named: list[str],
) -> None:  # fmt: skip
    assert run(f"checkpoint={make_checkpoint()}", "dataset.root=gone", *arguments) == 2
    printed = capsys.readouterr().err
    assert [text for text in named if text not in printed] == []


def test_several_checkpoints_and_datasets_are_compared(
    run: Callable[..., int], make_dataset: Maker, make_checkpoint: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        path = Path("runs") / name / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        shutil.copy(make_checkpoint(), path)
    shutil.copytree(make_dataset(), "a")
    shutil.copytree("a", "b")
    checkpoints = "checkpoint=[runs/first/checkpoints/best.ckpt,runs/second/checkpoints/best.ckpt]"
    assert run(checkpoints, "dataset.root=[a,b]", "ensemble=mean", "bootstrap.draws=100") == 0
    printed = capsys.readouterr().out
    for word in ("first", "second", "ensemble", "a: first less second", "report"):
        assert word in printed
    (result,) = Path().glob("outputs/evaluate/*/result.json")
    assert {(row["checkpoint"], row["dataset"]) for row in json.loads(result.read_text())["matrix"]} == {
        (name, dataset) for name in ("first", "second", "ensemble") for dataset in ("a", "b")
    }


def test_too_low_a_coverage_ends_with_three(
    run: Callable[..., int], make_dataset: Maker, make_checkpoint: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"checkpoint={make_checkpoint()}", f"dataset.root='{make_dataset()}'", "bootstrap.draws=0"
    assert run(*arguments, "min_coverage=0.99") == 3
    error = capsys.readouterr().err
    assert "9 of 12" in error
    assert "min_coverage=0.99" in error
    assert run(*arguments, "min_coverage=0.75") == 0
