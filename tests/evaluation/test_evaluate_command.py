import json
import shlex
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


def test_evaluate_prints_figures_and_where_the_report_is(
    run: Callable[..., int], make_dataset: Maker, make_checkpoint: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset()
    assert run(f"checkpoint={make_checkpoint()}", f"dataset.root='{root}'") == 0
    printed = capsys.readouterr().out
    (result,) = Path().glob("outputs/evaluate/*/result.json")
    written = json.loads(result.read_text())
    assert written["report"] in printed
    assert "ROC-AUC FaceSwap" in printed
    assert "9 of 12 videos scored" in printed
    assert shlex.quote(f"dataset.root='{root}'") in written["provenance"]["command"]


def test_evaluate_of_other_crops_ends_with_code_two(
    run: Callable[..., int], make_dataset: Maker, make_checkpoint: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"checkpoint={make_checkpoint(crop_size=99)}", f"dataset.root='{make_dataset()}'"
    assert run(*arguments) == 2
    assert "crop_size: model 99, dataset 32" in capsys.readouterr().err
    assert run(*arguments, "allow_spec_mismatch=true") == 0


@pytest.mark.parametrize(
    ("argument", "told"),
    [("batch_size=0", "batch_size=0 must be a number from 1 on."), ("num_workers=-1", "num_workers=-1 must be a")],
)
def test_numbers_that_mean_nothing_are_told(
    run: Callable[..., int], make_checkpoint: Maker, capsys: pytest.CaptureFixture[str], argument: str, told: str
) -> None:
    assert run(f"checkpoint={make_checkpoint()}", "dataset.root=gone", argument) == 2
    assert told in capsys.readouterr().err
