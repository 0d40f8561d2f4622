import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from unmask.errors import ConfigError, SpecMismatchError
from unmask.evaluation import scoring
from unmask.evaluation.matrix import ENSEMBLE, Matrix, evaluate_all, list_cells
from unmask.evaluation.run import Options, evaluate
from unmask.metrics.intervals import BootstrapOptions

Maker = Callable[..., Path]
FAST = BootstrapOptions(draws=200)


@pytest.fixture
def pair(make_checkpoint: Maker, tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints with other weights, in run folders of their own."""
    made = make_checkpoint()
    paths = tuple(tmp_path / "runs" / name / "checkpoints" / "best.ckpt" for name in ("first", "second"))
    for factor, path in zip((1.0, -1.0), paths, strict=True):
        content = torch.load(made, weights_only=True)
        content["state_dict"] = {name: value * factor if value.ndim == 2 else value
                                 for name, value in content["state_dict"].items()}  # fmt: skip
        content["unmask"]["provenance"] |= {"dataset": "drawn", "methods": ["FaceSwap"]}
        path.parent.mkdir(parents=True)
        torch.save(content, path)
    return paths[0], paths[1]


@pytest.fixture
def roots(make_dataset: Maker, tmp_path: Path) -> tuple[Path, Path]:
    first = make_dataset()
    second = tmp_path / "other faces"
    shutil.copytree(first, second)
    info = json.loads((second / "dataset.json").read_text())
    (second / "dataset.json").write_text(json.dumps(info | {"name": "other"}))
    return first, second


@pytest.fixture
def matrix(pair: tuple[Path, Path], roots: tuple[Path, Path], tmp_path: Path) -> Matrix:
    options = Options(device="cpu", bootstrap=FAST, command="python evaluate.py x")
    return evaluate_all(pair, roots=roots, output=tmp_path / "out", options=options, ensemble="mean")


def test_every_checkpoint_is_evaluated_on_every_dataset(
    matrix: Matrix, pair: tuple[Path, Path], roots: tuple[Path, Path], tmp_path: Path
) -> None:
    assert matrix.datasets == ("drawn", "other")
    assert list(matrix.rows) == ["first", "second", ENSEMBLE]
    alone = evaluate(pair[1], root=roots[1], output=tmp_path / "alone", options=Options(device="cpu", bootstrap=FAST))
    figures = matrix.rows["second"]["other"].figures
    assert figures is not None
    assert figures["video"] == alone.figures["video"]
    assert (tmp_path / "out" / "second" / "other" / "report.html").is_file()


def test_result_holds_the_matrix_and_the_comparisons(matrix: Matrix) -> None:
    result = json.loads(matrix.result.read_text())
    assert set(result["checkpoints"]) == {"first", "second", ENSEMBLE}
    assert result["checkpoints"]["first"]["trained_on"] == "drawn"
    assert [(row["checkpoint"], row["dataset"]) for row in result["matrix"]] == [
        (name, dataset) for name in ("first", "second", ENSEMBLE) for dataset in ("drawn", "other")
    ]
    pairs = {(one["dataset"], one["first"], one["second"]) for one in result["comparisons"]}
    assert len(pairs) == len(result["comparisons"]) == 6
    one = result["comparisons"][0]
    first, second = (matrix.rows[name]["drawn"].figures for name in ("first", "second"))
    assert first is not None
    assert second is not None
    assert one["figures"]["auroc"]["difference"] == pytest.approx(first["video"]["auroc"] - second["video"]["auroc"])
    page = matrix.report.read_text()
    assert 'href="first/drawn/report.html"' in page
    assert "Cross-dataset matrix" in page


def test_mean_worst_and_gap_are_of_the_datasets(matrix: Matrix) -> None:
    values = {cell["dataset"]: cell["auroc"] for cell in list_cells(matrix) if cell["checkpoint"] == "first"}
    summary = matrix.summarize("first")
    assert summary["mean"] == pytest.approx(np.mean(list(values.values())))
    assert summary["worst"] == min(values.values())
    assert summary["gap"] == pytest.approx(values["drawn"] - values["other"])


def test_the_ensemble_averages_scores_and_thresholds(matrix: Matrix) -> None:
    tables = [matrix.rows[name]["drawn"].videos for name in ("first", "second", ENSEMBLE)]
    first, second, combined = (table.set_index("video_id")["score"] for table in tables if table is not None)
    pd.testing.assert_series_equal(combined, (first + second) / 2)
    decisions = [matrix.rows[name]["drawn"].decision.threshold for name in ("first", "second", ENSEMBLE)]
    assert decisions[2] == pytest.approx(np.mean(decisions[:2]))


def test_a_dataset_that_a_checkpoint_does_not_fit_is_listed(
    pair: tuple[Path, Path], roots: tuple[Path, Path], tmp_path: Path
) -> None:
    info = json.loads((roots[1] / "dataset.json").read_text())
    info["preprocessing"]["margin"] = 1.7
    (roots[1] / "dataset.json").write_text(json.dumps(info))
    options = Options(device="cpu", bootstrap=FAST)
    matrix = evaluate_all(pair, roots=roots, output=tmp_path / "out", options=options)
    cell = matrix.rows["first"]["other"]
    assert cell.figures is None
    assert "margin" in cell.reason
    assert any("margin" in note for note in json.loads(matrix.result.read_text())["notes"])
    with pytest.raises(SpecMismatchError, match="margin"):
        evaluate_all(pair, roots=roots[1:], output=tmp_path / "again", options=options)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"ensemble": "median"}, ("ensemble='median'", "logit_mean")), ({"twice": True}, ("checkpoint", "twice"))],
)
def test_mistakes_in_the_call_are_named(
    pair: tuple[Path, Path], roots: tuple[Path, Path], tmp_path: Path, change: dict[str, object], words: tuple[str, ...]
) -> None:
    checkpoints = (pair[0], pair[0]) if change.get("twice") else pair
    ensemble = change.get("ensemble")
    with pytest.raises(ConfigError) as caught:
        evaluate_all(
            checkpoints, roots=roots, output=tmp_path / "out", options=Options(device="cpu"),
            ensemble=None if ensemble is None else str(ensemble),
        )  # fmt: skip
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_scores_that_exist_are_not_computed_again(
    pair: tuple[Path, Path], roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    compute = scoring._compute

    def count(*arguments: object, **options: object) -> pd.DataFrame:
        calls.append(arguments)
        return compute(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "_compute", count)
    options = Options(device="cpu", cache=tmp_path / "scores", bootstrap=FAST)
    first = evaluate(pair[0], root=roots[0], output=tmp_path / "a", options=options)
    again = evaluate(pair[0], root=roots[0], output=tmp_path / "b", options=options)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(pd.read_parquet(first.scores), pd.read_parquet(again.scores))
    evaluate(pair[1], root=roots[0], output=tmp_path / "c", options=options)  # another checkpoint
    evaluate(pair[0], root=roots[1], output=tmp_path / "d", options=options)  # another dataset
    assert len(calls) == 3
    for path in (tmp_path / "scores").rglob("*.parquet"):
        path.write_bytes(b"damaged")
    evaluate(pair[0], root=roots[0], output=tmp_path / "e", options=options)
    assert len(calls) == 4


def test_an_evaluation_without_draws_has_figures_of_seen_methods(
    pair: tuple[Path, Path], roots: tuple[Path, Path], tmp_path: Path
) -> None:
    options = Options(device="cpu", bootstrap=BootstrapOptions(draws=0))
    figures = evaluate(pair[0], root=roots[0], output=tmp_path / "run", options=options).figures
    assert set(figures["by_seen"]) == {"seen", "unseen"}
    assert "intervals" not in figures["by_seen"]["seen"]
