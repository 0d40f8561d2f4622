import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.evaluation.detectors import evaluate_scores
from unmask.evaluation.model_card import describe_card, render_card, write_card
from unmask.evaluation.run import Options, evaluate

Maker = Callable[..., Path]


@pytest.fixture
def written(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """The card of an evaluation, and its result."""
    decision = Decision(threshold=0.625, criterion="f1")
    evaluation = evaluate(
        make_checkpoint(decision=decision),
        root=make_dataset(name="a|b <i>"),
        output=tmp_path / "run",
        options=Options(device="cpu", command="python evaluate.py seed=7"),
    )
    card = write_card(evaluation.result)
    assert card == tmp_path / "run" / "model_card.md"
    return card.read_text(), json.loads(evaluation.result.read_text())


def _block(card: str) -> dict[str, Any]:
    start, block, _ = card.split("---\n", 2)
    assert start == ""
    content: dict[str, Any] = yaml.safe_load(block)
    return content


def test_block_is_a_model_index_with_the_figures_of_the_result(written: tuple[str, dict[str, Any]]) -> None:
    # The fields of https://github.com/huggingface/hub-docs/blob/main/modelcard.md
    card, result = written
    block = _block(card)
    assert block["pipeline_tag"] == "image-classification"
    (model,) = block["model-index"]
    assert model["name"] == "tiny"
    figures = result["datasets"]["a|b <i>"]
    for entry, level in zip(model["results"], ("video", "frame"), strict=True):
        assert entry["task"]["type"] == {"video": "video-classification", "frame": "image-classification"}[level]
        assert entry["dataset"] == {"name": "a|b <i>", "type": "a|b <i>", "split": "test"}
        names = {"roc_auc": "auroc", "average_precision": "auprc"}
        given = {names.get(metric["type"], metric["type"]): metric["value"] for metric in entry["metrics"]}
        assert given == {key: figures[level][key] for key in given}
        assert {"auroc", "auprc", "accuracy", "balanced_accuracy", "f1"} <= set(given)
    assert set(block["metrics"]) >= {"roc_auc", "f1"}


def test_block_is_read_by_the_hub_library(written: tuple[str, dict[str, Any]]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    read = hub.ModelCard(written[0], ignore_metadata_errors=False).data
    auroc = [each.metric_value for each in read.eval_results if each.metric_type == "roc_auc"]
    figures = written[1]["datasets"]["a|b <i>"]
    assert auroc == [figures["video"]["auroc"], figures["frame"]["auroc"]]


def test_text_has_what_a_reader_needs(written: tuple[str, dict[str, Any]]) -> None:
    card, result = written
    text = card.split("---\n", 2)[2]
    for title in ("Intended use", "Limits", "Training data", "Preprocessing", "Decision", "Origin"):
        assert f"## {title}\n" in text
    assert "0.625" in text
    assert "f1 on the validation split" in text
    assert "no record of who made its forgeries" in text
    assert result["preprocessing"]["hash"] in text
    assert "crop margin: `1.3`" in text
    assert "python evaluate.py seed=7" in text
    assert "abc123" in text
    assert "9 of 12 videos" in text
    assert f"| ROC-AUC | {result['datasets']['a|b <i>']['video']['auroc']:.4f} (" in text
    assert "| FaceSwap | 3 |" in text
    for note in result["notes"]:
        assert note[:40] in text


def test_names_from_data_cannot_break_the_text_and_folders_are_left_out(written: tuple[str, dict[str, Any]]) -> None:
    card, result = written
    text = card.split("---\n", 2)[2]
    assert "<i>" not in text
    assert "a/b &lt;i>" in text
    assert result["checkpoint"] not in text


def test_intervals_are_shown_where_there_are_some(written: tuple[str, dict[str, Any]]) -> None:
    result = written[1]
    video = result["datasets"]["a|b <i>"]["video"]
    video["intervals"] = {"auroc": {"value": video["auroc"], "low": 0.8125, "high": 1.0}}
    assert "(0.8125 to 1.0000)" in render_card(result)


def test_single_images_have_one_result(make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path) -> None:
    evaluation = evaluate(
        make_checkpoint(), root=make_dataset(kind="image"), output=tmp_path / "run", options=Options(device="cpu")
    )
    (entry,) = describe_card(json.loads(evaluation.result.read_text()))["model-index"][0]["results"]
    assert entry["task"]["type"] == "image-classification"
    assert "per image" in render_card(json.loads(evaluation.result.read_text()))


def test_undefined_metrics_are_left_out_of_the_block(
    make_dataset: Maker, make_checkpoint: Maker, tmp_path: Path
) -> None:
    root = make_dataset(methods=("Deepfakes",))
    evaluation = evaluate(make_checkpoint(), root=root, output=tmp_path / "run", options=Options(device="cpu"))
    block = describe_card(json.loads(evaluation.result.read_text()))
    assert "roc_auc" not in block["metrics"]
    assert "accuracy" in block["metrics"]


def test_score_tables_have_no_card(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("video,label,score\na,0,0.1\nb,1,0.9\n")
    (evaluation,) = evaluate_scores([tmp_path / "theirs.csv"], output=tmp_path / "run")
    with pytest.raises(ConfigError, match="checkpoint"):
        write_card(evaluation.result)


def test_command_writes_the_card_on_request(
    make_dataset: Maker,
    make_checkpoint: Maker,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from unmask.cli.evaluate import main

    given = [f"checkpoint={make_checkpoint()}", f"dataset.root='{make_dataset()}'", "device=cpu"]
    for number, card in enumerate(("false", "true")):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *given, f"card={card}", f"hydra.run.dir=run{number}"])
        main()
    assert not (in_folder / "run0" / "model_card.md").exists()
    assert (in_folder / "run1" / "model_card.md").is_file()
    assert "run1/model_card.md" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "scores=[theirs.csv]", "card=true"])
    with pytest.raises(SystemExit):
        main()
    assert "card=true" in capsys.readouterr().err
