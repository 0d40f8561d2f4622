"""The command that says of pictures and videos whether their faces are real or fake.

An argument is a path if it exists (even as `a=b.jpg`), or if it looks neither like an override (`key=value`,
`+key=value`, `~key`) nor like a flag; and so is everything after `--`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.cli.arguments import split_arguments
from unmask.cli.checkpoint import find_checkpoint
from unmask.cli.predict_output import print_table, write_predictions
from unmask.cli.predict_save import list_extras, save_all
from unmask.cli.shell import run_command

if TYPE_CHECKING:
    from unmask.inference.inputs import Input
    from unmask.inference.predictor import Predictor
    from unmask.inference.results import Prediction


_KEPT = "What is written is kept. Write elsewhere with UNMASK_HOME=... and run the same command again."


@dataclass(frozen=True)
class Outcome:
    """What became of the files.

    Args:
        predictions: A row each.
        num_failed: How many could not be read, or lack something that `save` asked for.
        backend: `onnx` or `torch`, which ran the network.
    """

    predictions: "list[Prediction]"
    num_failed: int
    backend: str


def main() -> None:
    """Run `python predict.py checkpoint=... PATH...`; exit code 1 where a file could not be read or drawn."""
    arguments = split_arguments(sys.argv[1:])
    sys.argv[1:] = arguments.overrides  # Hydra's grammar would choke on paths
    num_failed = 0

    def run(cfg: DictConfig) -> None:
        nonlocal num_failed
        num_failed += predict(cfg, paths=arguments.paths).num_failed

    run_command(run, config_name="predict", kept=_KEPT)
    if num_failed:
        sys.exit(1)


def predict(cfg: DictConfig, *, paths: Sequence[str] = ()) -> Outcome:
    """Predict every file, write what `predict_files` writes, print a table."""
    from unmask.config import run_dir
    from unmask.inference.save import has_no_maps

    outcome = predict_files(cfg, paths=paths)
    print_table(outcome.predictions)
    if "heatmaps" in list_extras(cfg.save) and has_no_maps(outcome.predictions):
        print(
            "No heat maps: the bundle of this network has none. Name its checkpoint, which has them by Grad-CAM."
            if outcome.backend == "onnx"
            else "No heat maps: this network has none. Train it with model.heatmap_layer=<layer> for Grad-CAM."
        )
    print(f"predictions  {run_dir() / 'predictions.json'}")
    return outcome


def predict_files(cfg: DictConfig, *, paths: Sequence[str] = ()) -> Outcome:
    """Predict every file; write `predictions.json`, `predictions.csv` and `result.json` into the run folder.

    Args:
        cfg: Of `configs/predict.yaml`.
        paths: Named as plain arguments, beside `cfg.inputs`.

    Raises:
        ConfigError: Nothing was named.
    """
    from unmask.config import run_dir
    from unmask.errors import ConfigError
    from unmask.inference.inputs import expand_inputs
    from unmask.inference.settings import PredictorSettings

    extras = list_extras(cfg.save)
    names = [*paths, *cfg.inputs]
    if not names:
        raise ConfigError("Nothing to predict. Name files or folders: python predict.py checkpoint=... clip.mp4")
    inputs = expand_inputs(names)
    checkpoint = find_checkpoint(cfg.checkpoint, cfg.paths, takes_bundle=True)
    predictor = PredictorSettings.from_config(cfg).load(checkpoint, maps="heatmaps" in extras)
    predictions = _predict_inputs(predictor, inputs)
    folder, write = run_dir(), partial(write_predictions, checkpoint=cfg.checkpoint, names=names)
    write(predictions, folder, extras={})  # before anything else, which may fail: they may have taken hours
    num_failed = sum(row.error is not None for row in predictions)
    if extras:
        saved = save_all(predictions, folder, extras=extras, predictor=predictor)
        predictions, num_failed = [each.prediction for each in saved], sum(each.has_failed for each in saved)
        write(
            predictions, folder, extras={each.prediction.path: each.files for each in saved if each.files is not None}
        )
    return Outcome(predictions, num_failed, predictor.backend.name)


def _predict_inputs(predictor: "Predictor", inputs: "Sequence[Input]") -> "list[Prediction]":
    """Predict, with a bar that also moves within a long video."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from unmask.inference.files import watch_inputs

    predictions: list[Prediction] = []
    columns = (TextColumn("Predicting"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=len(inputs), state="")
        for step in watch_inputs(predictor, inputs):
            share = step.num_done / max(step.num_frames, 1)
            if step.prediction is not None:
                predictions.append(step.prediction)
                share = 0.0
            state = f"file {min(len(predictions) + 1, len(inputs))} of {len(inputs)}"
            if step.num_frames > 1:
                state += f", frame {step.num_done} of {step.num_frames}"
            bar.update(task, completed=len(predictions) + share, state=state)
    return predictions
