import csv
from pathlib import Path

import pytest

from unmask.cli.predict_output import print_table, write_predictions
from unmask.cli.predict_save import list_extras
from unmask.errors import ConfigError
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


def test_table_says_how_probable_a_fake_is_if_the_model_knows(shown: pytest.CaptureFixture[str]) -> None:
    print_table([make_prediction(probability=0.25)])
    text = shown.readouterr().out
    assert "P(fake)" in text
    assert "25%" in text
    assert "face 1 (does not decide)" in text
    print_table([make_prediction()])
    assert "P(fake)" not in shown.readouterr().out


def test_stretches_that_score_as_fake_are_told_the_worst_first(shown: pytest.CaptureFixture[str]) -> None:
    many = [TimeRange(float(number), number + 0.5, number / 10) for number in range(7)]
    print_table([make_prediction(*many, TimeRange(8.0, 8.0, 0.95))])
    text = shown.readouterr().out
    assert "suspicious: 'a\\x1b[2J.mp4': 8.0 s (0.95), 6.0 to 6.5 s (0.60)" in text
    assert "and 3 more in predictions.json" in text
    assert "\x1b[2J" not in text


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


def test_extra_that_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match=r"names 'heatmap'. Choose of: heatmaps, video, timeline"):
        list_extras("heatmap")
    with pytest.raises(ConfigError, match=r"save=3 is no list of names"):
        list_extras(3)  # type: ignore[arg-type]
    assert list_extras("") == list_extras(None) == []
