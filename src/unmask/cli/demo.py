"""Run the whole pipeline on drawn faces, as `make demo` does. Every stage is a command that a user can type."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.cli.shell import fail
from unmask.config import config_dir
from unmask.errors import ConfigError, Interrupted, UnmaskError
from unmask.paths import home_folder, show_command
from unmask.processes import end_with_starter, mark_children, wait_for
from unmask.training.interruption import ending_on_sigterm


@dataclass(frozen=True)
class Stage:
    """A command of the demo.

    Args:
        name: Command: `prepare`, `train`, `evaluate` or `predict`.
        arguments: Command line arguments.
    """

    name: str
    arguments: list[str]

    @property
    def shown(self) -> str:
        """The command as a user types it in a checkout."""
        return show_command(f"{self.name}.py", *self.arguments)


def main() -> None:
    """Run `make demo`; arguments are overrides of the training, such as `trainer.max_epochs=8`."""
    end_with_starter()
    mark_children()
    try:
        with ending_on_sigterm():
            run(sys.argv[1:])
    except UnmaskError as error:
        fail(str(error))
    except (KeyboardInterrupt, Interrupted) as error:
        sys.exit(error.exit_code if isinstance(error, Interrupted) else 130)


def run(overrides: list[str]) -> None:
    """Prepare, train, evaluate and predict; print figures, seconds and where to look."""
    root = home_folder()
    folder = root / "outputs" / "demo"
    drawn, faces = root / "data" / "demo", root / "data" / "demo-faces"
    seconds: dict[str, float] = {}
    print("The demo draws and forges videos, prepares faces, trains ResNet-18 from scratch, evaluates and predicts.")
    print("It takes about four minutes on two cores, 2 GB of memory and 300 MB of disk, and downloads nothing.")

    # Many people in short videos: a network learns forgeries rather than persons from them.
    drawing = ["source=synthetic", f"source.root={drawn}", "source.num_identities=224", "source.num_frames=8"]
    _run(Stage("prepare", [*drawing, f"output={faces}", "crop.num_frames=3"]), folder, seconds)
    training = ["experiment=demo", f"dataset.root={faces}", *overrides]
    trained = _run(Stage("train", training), folder, seconds)
    checkpoint = trained["best_checkpoint"]
    evaluated = _run(Stage("evaluate", [f"checkpoint={checkpoint}", f"dataset.root={faces}"]), folder, seconds)
    _run(Stage("predict", [f"checkpoint={checkpoint}", *_choose_test_videos(faces)]), folder, seconds)
    _print_summary(evaluated, trained, folder, seconds)


def _run(stage: Stage, folder: Path, seconds: dict[str, float]) -> dict[str, Any]:
    """Run a stage in a process of its own, as a user would, and return its `result.json`."""
    print(f"\n$ {stage.shown}", flush=True)
    run_dir = folder / stage.name
    code = f"from unmask.cli.{stage.name} import main; main()"
    start = time.monotonic()
    exit_code = wait_for(subprocess.Popen([sys.executable, "-c", code, *stage.arguments, f"hydra.run.dir={run_dir}"]))
    seconds[stage.name] = time.monotonic() - start
    if exit_code != 0:
        raise ConfigError(f"The demo stopped: '{stage.shown}' ended with exit code {exit_code}.")
    result: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
    return result


def _choose_test_videos(faces: Path) -> list[str]:
    """Return one real and one forged video of each method that the training never saw."""
    import pandas as pd

    videos = pd.read_parquet(faces / "videos.parquet")
    test = videos[(videos["split"] == "test") & (videos["outcome"] == "ok")]
    return [str(path) for path in test.groupby("method", sort=False)["path"].first()]


def _print_summary(evaluated: dict[str, Any], trained: dict[str, Any], folder: Path, seconds: dict[str, float]) -> None:
    (figures,) = evaluated["datasets"].values()
    video, frame = figures["video"], figures["frame"]
    print("\nResult on drawn faces of people that the training never saw (it shows that the machinery works, no more):")
    print(f"  test/video_auroc {video['auroc']:.3f}   test/auroc {frame['auroc']:.3f}")
    for method, values in figures["by_method"].items():
        print(f"    {method:<15} video ROC-AUC {values['video']['auroc']:.3f}")
    print("\nSeconds per stage: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()), end="")
    print(f"; {sum(seconds.values()):.0f} in all")
    print("\nWhere to look:")
    print(f"  report       {evaluated['report']}")
    print(f"  predictions  {folder / 'predict' / 'predictions.json'}")
    print(f"  checkpoint   {trained['best_checkpoint']}")
    print(f"  all runs     make ui, then {trained['run_page']}")
    print("  a web page   make app")
    print(f"  configs      {config_dir()}")


if __name__ == "__main__":
    main()
