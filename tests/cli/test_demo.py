import json
from pathlib import Path

import pytest

from unmask.cli.demo import Stage, run
from unmask.errors import ConfigError


def test_stage_shows_the_command_that_a_user_can_type() -> None:
    assert (
        Stage("predict", ["checkpoint=a.ckpt", "my clip.mp4"]).shown
        == "python predict.py checkpoint=a.ckpt 'my clip.mp4'"
    )


def test_demo_stops_at_the_first_command_that_fails(in_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (in_folder / "data" / "demo").mkdir(parents=True)
    (in_folder / "data" / "demo" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"'python prepare\.py source=synthetic .*' ended with exit code 2"):
        run([])
    assert (in_folder / "data" / "demo" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_demo_runs_the_whole_line_and_says_where_to_look(in_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(["model=tiny", "trainer.max_epochs=1"])
    shown = capfd.readouterr().out
    for part in (
        "$ python train.py experiment=demo",
        "test/video_auroc",
        "NeuralTextures",
        "Seconds per stage",
        "make ui",
    ):
        assert part in shown
    rows = json.loads(Path("outputs/demo/predict/predictions.json").read_text())
    assert len(rows) == 5
    assert all(row["error"] is None and row["faces"] for row in rows)
    assert Path("outputs/demo/evaluate/report.html").is_file()
