import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.cli.predict import list_extras, print_table, write_predictions
from unmask.errors import ConfigError
from unmask.forgeries import Forgeries, SourceRecord
from unmask.inference.results import FaceResult, Prediction, TimeRange
from unmask.types import MediaKind, Verdict

BOX = (0.0, 0.0, 9.0, 9.0)


def make_prediction(*stretches: TimeRange, probability: float | None = None) -> Prediction:
    faces = (
        FaceResult(0, BOX, 0.9, 0.3, Verdict.REAL, 20),
        FaceResult(1, BOX, 0.9, 0.8, Verdict.FAKE, 1, decides=False),
    )
    return Prediction(
        "a\x1b[2J.mp4", MediaKind.VIDEO, Verdict.REAL, 0.3, 0.5, faces, suspicious=stretches, probability=probability,
        num_examined=37, num_frames=1851,
    )  # fmt: skip


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> pytest.CaptureFixture[str]:
    monkeypatch.setenv("COLUMNS", "120")
    return capsys


def test_table_has_a_probability_if_the_model_is_calibrated(shown: pytest.CaptureFixture[str]) -> None:
    print_table([make_prediction(probability=0.25)])
    text = shown.readouterr().out
    assert "P(fake)" in text
    assert "25 %" in text
    assert "face 2 (does not decide)" in text
    print_table([make_prediction()])
    assert "P(fake)" not in shown.readouterr().out


def test_contradictions_of_a_verdict_are_printed(shown: pytest.CaptureFixture[str]) -> None:
    odd = replace(
        make_prediction(TimeRange(1.0, 2.0, 0.9)), headline="Real, though it looks forged", reason="See\x1b[2J."
    )
    print_table([odd])
    text = shown.readouterr().out
    assert "'a\\x1b[2J.mp4': Real, though it looks forged. See" in text
    assert "\x1b[2J" not in text


def test_the_warning_of_the_model_is_printed_once_and_stored_in_every_row(
    shown: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trained_on = (SourceRecord("mine\x1b[2J", Forgeries.DRAWN),)
    rows = [replace(make_prediction(), path=name, trained_on=trained_on) for name in ("a.mp4", "b.mp4")]
    print_table(rows)
    text = shown.readouterr().out
    assert text.startswith("warning: ")
    assert text.count("warning: ") == 1
    assert "'mine\\x1b[2J'" in text
    write_predictions(rows, tmp_path, checkpoint="b", names=["a"], extras={})
    for row in csv.DictReader((tmp_path / "predictions.csv").open()):
        assert "drew" in row["warning"]
        assert row["trained_on"].endswith("(drawn faces)")
    for row in json.loads((tmp_path / "predictions.json").read_text()):
        assert row["trained_on"] == [{"name": "mine\x1b[2J", "forgeries": "drawn"}]


def test_table_and_csv_say_how_many_frames_of_how_many_were_examined(
    shown: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    print_table([make_prediction()])
    assert "37 of 1851" in shown.readouterr().out
    write_predictions([make_prediction()], tmp_path, checkpoint="b", names=["a"], extras={})
    (row,) = csv.DictReader((tmp_path / "predictions.csv").open())
    assert (row["num_examined"], row["num_frames"]) == ("37", "1851")


def test_probability_is_in_the_csv(tmp_path: Path) -> None:
    write_predictions([make_prediction(probability=0.25)], tmp_path, checkpoint="b", names=["a"], extras={})
    (row,) = csv.DictReader((tmp_path / "predictions.csv").open())
    assert row["probability"] == "0.25"


@pytest.mark.parametrize("save", ["heatmaps,video", "heatmaps, video,", ["heatmaps", "video", "video"]])
def test_extras_are_a_list_or_text(save: str | list[str]) -> None:
    assert list_extras(save) == ["heatmaps", "video"]


def test_unknown_extra_is_named_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'heatmap'.*heatmaps, video, timeline"):
        list_extras("heatmap")
    with pytest.raises(ConfigError, match=r"save=3 is no list of names"):
        list_extras(3)  # type: ignore[arg-type]
    assert list_extras("") == list_extras(None) == []
