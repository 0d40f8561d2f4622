import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import unmask
from unmask.cli.evaluate import main
from unmask.decision import Decision
from unmask.errors import ConfigError, DatasetError, LeakageError
from unmask.evaluation.detectors import DecisionSource, evaluate_scores
from unmask.evaluation.run import Options, evaluate
from unmask.metrics.intervals import BootstrapOptions
from unmask.metrics.threshold import choose_threshold

Maker = Callable[..., Path]

NO_DRAWS = BootstrapOptions(draws=0)  # a table of frames has no groups, so that its intervals are others
HEADER = "video,label,score"


def _draw(path: Path, *, seed: int = 0, num: int = 40, prefix: str = "v", **columns: str) -> pd.DataFrame:
    """Write scores of as many reals as fakes, with constant further columns; return the table."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    table = pd.DataFrame(
        {"video": [f"{prefix}{number}" for number in range(num)], "label": labels}
        | {"score": rng.beta(2 + 2 * labels, 4 - 2 * labels)} | columns
    )  # fmt: skip
    table.to_csv(path, index=False)
    return table


def test_figures_are_those_of_scikit_learn(tmp_path: Path) -> None:
    table = _draw(tmp_path / "theirs.csv")
    (evaluation,) = evaluate_scores([tmp_path / "theirs.csv"], output=tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    figures = result["datasets"]["unnamed"]
    assert result["checkpoint"] is None
    assert figures == evaluation.figures | {"split": "all", "unit": "video"}
    assert figures["video"]["auroc"] == pytest.approx(roc_auc_score(table["label"], table["score"]), abs=1e-12)
    assert figures["video"]["auprc"] == pytest.approx(
        average_precision_score(table["label"], table["score"]), abs=1e-12
    )
    assert figures["video"]["accuracy"] == ((table["score"] >= 0.5) == table["label"]).mean()
    assert figures["frame"] is None
    assert figures["coverage"]["num_scored"] == 40
    page = evaluation.report.read_text()
    assert "per frame" not in page
    assert "Model training" not in page
    assert "the default" in page


def test_own_score_tables_give_the_figures_of_the_evaluation(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    decision = Decision(threshold=0.4, aggregation="max", criterion="f1")
    ours = evaluate(
        make_checkpoint(decision=decision), root=make_dataset(), output=tmp_path / "run",
        options=Options(device="cpu", bootstrap=NO_DRAWS),
    )  # fmt: skip
    source = DecisionSource(threshold=0.4, aggregation="max")
    (theirs,) = evaluate_scores([ours.scores], output=tmp_path / "again", decision=source, bootstrap=NO_DRAWS)
    for name in ("frame", "video", "by_method"):
        assert theirs.figures[name] == ours.figures[name]
    videos = tmp_path / "run" / "scores_videos.parquet"
    options: dict[str, Any] = {"missing_scores": "count", "decision": source, "bootstrap": NO_DRAWS}
    (counted,) = evaluate_scores([videos], output=tmp_path / "videos", **options)
    assert counted.figures["video"] == ours.figures["video"]
    coverage = counted.figures["coverage"]
    assert (coverage["num_videos"], coverage["outcomes"]) == (12, {"ok": 9, "no_score": 3})


def test_frames_are_aggregated_to_videos(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("video,label,score,frame\na,0,0.0,0\na,0,0.4,1\nb,1,0.9,0\nb,1,0.3,1\n")
    (evaluation,) = evaluate_scores([path], output=tmp_path / "run", decision=DecisionSource(threshold=0.35))
    assert evaluation.figures["video"]["confusion"] == [[1, 0], [0, 1]]
    assert evaluation.figures["frame"]["confusion"] == [[1, 1], [1, 1]]
    videos = pd.read_parquet(tmp_path / "run" / "scores_videos.parquet").set_index("video_id")
    assert videos["score"].to_dict() == pytest.approx({"a": 0.2, "b": 0.6})
    assert videos["group"].to_dict() == {"a": "a", "b": "b"}


def test_every_pair_of_detector_and_dataset_has_its_result(tmp_path: Path) -> None:
    pairs = [("a b", "ff"), ("a b", "dfdc"), ("..", "ff"), ("a/b", "ff")]
    drawn = {
        pair: _draw(tmp_path / f"{number}.csv", seed=number, detector=pair[0], dataset=pair[1])
        for number, pair in enumerate(pairs)
    }
    evaluations = evaluate_scores([tmp_path / f"{number}.csv" for number in range(4)], output=tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for (detector, dataset), table in drawn.items():
        entry = result["checkpoints"][detector]["datasets"][dataset]
        assert entry["video"]["auroc"] == pytest.approx(roc_auc_score(table["label"], table["score"]), abs=1e-12)
        assert (tmp_path / "run") in Path(entry["report"]).parents
    assert len({each.report for each in evaluations}) == 4
    assert all(each.report.is_file() for each in evaluations)


def test_a_detector_without_scores_in_a_dataset_is_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("video,label,dataset,p_x,p_y\na,0,ff,0.1,\nb,1,ff,0.9,\nc,0,dfdc,0.1,0.2\nd,1,dfdc,0.8,0.7\n")
    evaluations = evaluate_scores([path], output=tmp_path / "run", columns={"score": "p_*"}, missing_scores="count")
    assert [(each.model, each.dataset) for each in evaluations] == [("x", "ff"), ("x", "dfdc"), ("y", "dfdc")]
    assert "'y on ff'" in caplog.text


def test_threshold_is_chosen_on_the_validation_table(tmp_path: Path) -> None:
    judged, val = tmp_path / "theirs.csv", tmp_path / "val.csv"
    _draw(judged, detector="x", dataset="ff")
    chosen_on = _draw(val, seed=1, prefix="w", detector="x", dataset="ff")
    source = DecisionSource(validation_scores=(val,), criterion="eer")
    (evaluation,) = evaluate_scores([judged], output=tmp_path / "run", decision=source)
    expected = choose_threshold(chosen_on["label"], chosen_on["score"], criterion="eer")
    assert evaluation.decision == expected.to_dict()
    assert "40 validation videos" in evaluation.report.read_text()


def test_threshold_is_chosen_on_the_split_named_val(tmp_path: Path) -> None:
    both = [
        _draw(tmp_path / "x", seed=seed, prefix=name, split=name) for seed, name in enumerate(("validation", "test"))
    ]
    pd.concat(both).to_csv(tmp_path / "theirs.csv", index=False)
    (evaluation,) = evaluate_scores([tmp_path / "theirs.csv"], output=tmp_path / "run")
    assert evaluation.decision == choose_threshold(both[0]["label"], both[0]["score"]).to_dict()
    assert evaluation.figures["video"]["num"] == 40
    with pytest.raises(DatasetError, match=r"split=train.*'test', 'val'"):
        evaluate_scores([tmp_path / "theirs.csv"], output=tmp_path / "run", split="train")


def test_nothing_is_chosen_on_what_is_judged(tmp_path: Path) -> None:
    _draw(tmp_path / "theirs.csv", group="one")
    source = DecisionSource(validation_scores=(tmp_path / "theirs.csv",))
    with pytest.raises(LeakageError, match="'v0'"):
        evaluate_scores([tmp_path / "theirs.csv"], output=tmp_path / "run", decision=source)
    assert not (tmp_path / "run").exists()


def test_one_class_is_judged_as_far_as_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(f"{HEADER}\na,1,0.9\nb,1,0.2\n")
    (evaluation,) = evaluate_scores([path], output=tmp_path / "run")
    assert (evaluation.figures["video"]["auroc"], evaluation.figures["video"]["recall"]) == (None, 0.5)
    assert any("one class" in note for note in evaluation.notes)


def test_inverted_scores_are_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(f"{HEADER}\na,1,0.1\nb,0,0.8\nc,1,0.3\nd,0,0.9\n")
    (wrong,) = evaluate_scores([path], output=tmp_path / "run")
    assert any("scores_transform=invert" in note for note in wrong.notes)
    (right,) = evaluate_scores([path], output=tmp_path / "right", scores_transform="invert")
    assert right.figures["video"]["auroc"] == 1.0
    assert not any("scores_transform" in note for note in right.notes)


def test_a_table_without_any_score_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(f"{HEADER}\na,1,\n")
    with pytest.raises(DatasetError, match="has a score"):
        evaluate_scores([path], output=tmp_path / "run", missing_scores="count")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"threshold": 1.5}, "1.5"),
        ({"criterion": "best"}, "best"),
        ({"aggregation": "sum"}, "sum"),
        ({"threshold": 0.5, "validation_scores": (Path("val.csv"),)}, r"decision\.validation_scores"),
    ],
)
def test_invalid_decisions_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DecisionSource(**values)


@pytest.fixture
def run(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def test_command_judges_tables_without_a_checkpoint(
    run: Callable[..., int], in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _draw(in_folder / "theirs.csv", detector="xception")
    assert run("scores=[theirs.csv]", "checkpoint=null", "dataset.name=mine", "decision.threshold=0.5") == 0
    printed = capsys.readouterr().out
    (result,) = Path().glob("outputs/evaluate/*/result.json")
    assert list(json.loads(result.read_text())["datasets"]) == ["mine"]
    assert "xception" in printed
    assert str(result.with_name("report.html")) in printed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("scores=[theirs.csv]", "checkpoint=best.ckpt"), "checkpoint=..."),
        (("scores=[theirs.csv]", "dataset.root=data"), "dataset.root=..."),
        (("checkpoint=null", "dataset.root=data"), "scores=["),
        (("checkpoint=best.ckpt", "dataset.root=data", "decision.threshold=0.5"), "decision.threshold=..."),
        (("dataset.root=data",), "checkpoint=..."),
    ],
)
def test_keys_of_both_kinds_are_not_mixed(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str
) -> None:
    assert run(*arguments) == 2
    assert named in capsys.readouterr().err


def test_python_function_returns_all_results(in_folder: Path) -> None:
    for number, name in enumerate(("x", "y")):
        _draw(in_folder / f"{name}.csv", seed=number)
    evaluations = unmask.evaluate_scores(["scores=[x.csv,y.csv]"], folder=in_folder / "run")
    assert [each.model for each in evaluations] == ["x", "y"]
    with pytest.raises(ConfigError, match="evaluate_scores"):
        unmask.evaluate(["scores=[x.csv]"], folder=in_folder / "other")
