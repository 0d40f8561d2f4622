import json
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from unmask.paths import show_command

Type = Callable[..., str]
QUICK = (
    "model=tiny", "dataset.num_workers=0", "precision=fp32", "trainer.accelerator=cpu", "trainer.max_epochs=1",
    "dataset.samples_per_epoch=16", "logger.log_model=false", "logger.system_metrics_seconds=0",
)  # fmt: skip


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Runs a command as it is pasted into a shell, in a folder whose name has every difficulty; returns its output."""
    folder = tmp_path / "Daten ü 人" / "archive (1)" / "it's, a=b #1 50%"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("UNMASK_HOME", "~/alles, (1)")

    def run(command: str) -> str:
        python, script, *arguments = shlex.split(command)
        assert python == "python"
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        import_module(f"unmask.cli.{Path(script).stem}").main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_every_command_works_in_a_folder_with_an_awkward_name(typed: Type, synthetic_root: Path) -> None:
    folder = Path.cwd()
    (folder / "drawn").symlink_to(synthetic_root)
    raw = "source=ffpp source.root='~/drawn' source.splits='~/drawn/splits' source.methods=[FaceSwap]"
    printed = typed(
        f"python prepare.py {raw} 'output=~/faces (2)' num_workers=0 crop.num_frames=2 crop.crop_size=64 "
        "hydra.run.dir='~/pre, pare'"
    )
    assert (folder / "pre, pare" / "result.json").is_file()
    command = next(line.partition(": ")[2] for line in printed.splitlines() if "Train on it with: " in line)
    printed = typed(f"{command} {' '.join(QUICK)} 'hydra.run.dir=run (1), a=b'")
    result = json.loads((folder / "run (1), a=b" / "result.json").read_text())
    assert Path(result["tracking_uri"].removeprefix("sqlite:///")) == folder / "alles, (1)" / "mlflow.db"
    assert (folder / "alles, (1)" / "mlartifacts" / "unmask" / result["run_id"]).is_dir()

    command = next(line.partition("Next")[2].strip() for line in printed.splitlines() if line.startswith("Next"))
    assert "4 of 4 videos scored" in typed(command)
    for start in ("resume='run (1), a=b/checkpoints/last.ckpt'", f"reproduce={result['run_id']}"):
        typed(f"python train.py {start} trainer.max_epochs=2 'hydra.run.dir={start[:4]}, (2)'")
        assert (folder / f"{start[:4]}, (2)" / "checkpoints" / "best.ckpt").is_file()
    overrides = OmegaConf.load(folder / "resu, (2)" / ".hydra" / "overrides.yaml")
    assert any(str(text).startswith("dataset.root=") for text in overrides)

    video = next((synthetic_root / "original_sequences").rglob("*.mp4"))
    for name in ("-1 (2).mp4", "a:b %d [1].mp4", "~x.mp4"):
        (folder / name).symlink_to(video)
    typed(
        "python predict.py 'checkpoint=~/run (1), a=b/bundle' '-1 (2).mp4' 'a:b %d [1].mp4' '~/~x.mp4' "
        "'inputs=~/~x.mp4' num_frames=2 save=[video,heatmaps] 'hydra.run.dir=pre, dict'"
    )
    rows = json.loads((folder / "pre, dict" / "predictions.json").read_text())
    assert [(Path(row["path"]).name, row["error"]) for row in rows] == [
        ("-1 (2).mp4", None)
    ]  # all three are links to one file, which is predicted once


def test_a_shown_command_is_what_a_shell_reads_back() -> None:
    arguments = ["train.py", "dataset.root=it's (1)/a b", "resume=$HOME/`x`", 'run_name="q"', "-m"]
    assert shlex.split(show_command(*arguments)) == ["python", *arguments]
    assert show_command("train.py", "dataset.root=data/x", "output=...") == (
        "python train.py dataset.root=data/x output=..."
    )
