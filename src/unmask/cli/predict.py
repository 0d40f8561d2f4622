"""The command that judges whether the faces in images and videos are real or fake.

An argument is a path if it exists (even as `a=b.jpg`), or if it looks neither like an override (`key=value`,
`+key=value`, `~key`) nor like a flag; and so is everything after `--`.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from unmask.cli.arguments import split_arguments
from unmask.cli.checkpoints import find_checkpoint
from unmask.cli.shell import run_command

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from unmask.inference.limits import Input
    from unmask.inference.predictor import Predictor
    from unmask.inference.results import Prediction

_COLOURS = {"fake": "red", "real": "green", "uncertain": "yellow", "no_face": "dim"}

_COLUMNS = (
    "path", "kind", "verdict", "headline", "score", "threshold", "probability", "faces", "num_examined",
    "num_frames", "notes", "warning", "trained_on", "error",
)  # fmt: skip


def write_predictions(
    predictions: "Sequence[Prediction]",
    folder: Path,
    *,
    checkpoint: str,
    names: Sequence[str],
    extras: dict[str, list[str]],
) -> None:
    """Write `predictions.json`, `predictions.csv` and `result.json`.

    Args:
        predictions: Predictions, one row each.
        folder: Run folder.
        checkpoint: Checkpoint as the user named it.
        names: Files, folders and patterns as the user named them.
        extras: Further files written, by path of the input.
    """
    from collections import Counter

    from unmask.inference.results import render_csv
    from unmask.paths import write_bytes

    rows = [prediction.to_dict() for prediction in predictions]
    _write_json(rows, folder / "predictions.json")
    write_bytes(folder / "predictions.csv", render_csv(rows, _COLUMNS).encode("utf-8", "backslashreplace"))
    result = {
        "checkpoint": str(checkpoint),
        "inputs": list(names),
        "files": len(rows),
        "warnings": list(dict.fromkeys(row["warning"] for row in rows if row["warning"])),
        "verdicts": dict(Counter(row["verdict"] for row in rows if row["verdict"])),
        "errors": sum(row["error"] is not None for row in rows),
        "predictions": str(folder / "predictions.json"),
        "table": str(folder / "predictions.csv"),
        "saved": extras,
    }
    _write_json(result, folder / "result.json")


def _write_json(values: Any, path: Path) -> None:
    from unmask.paths import write_bytes

    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    # A file name need not be UTF-8. The escapes of Python's stand-ins for such bytes are those of JSON too.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def print_table(predictions: "Sequence[Prediction]") -> None:
    """Print a row per file, one per face where there are several, and below what else there is to say.

    First comes what the model was trained on where that makes its verdicts doubtful: it holds for every row.
    """
    from rich.console import Console

    console = Console()
    for warning in dict.fromkeys(row.warning for row in predictions if row.warning and row.error is None):
        text = f"warning: {_printable(warning)}"
        console.print(text, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(_make_table(predictions))
    for row in predictions:
        notes = [f"'{row.path}': {row.headline}. {row.reason}"] if _needs_words(row) else []
        for note in notes + [f"note: '{row.path}': {note}" for note in row.notes]:
            console.print(_printable(note), style="yellow", markup=False, highlight=False, soft_wrap=True)
        if row.error:
            text = f"error: {_printable(row.error)}"
            console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def _make_table(predictions: "Sequence[Prediction]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from unmask.decision import show_score
    from unmask.inference.words import name_face, show_probability

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("verdict")
    # Only a model that was calibrated on its validation split knows how probable a fake is.
    is_calibrated = any(row.probability is not None for row in predictions)
    for heading in ("score", "threshold", *["P(fake)"] * is_calibrated, "faces", "with a face", "examined"):
        table.add_column(heading, justify="right")
    for row in predictions:
        path = Text(_printable(row.path))
        if row.verdict is None:
            table.add_row(path, Text("error", style="red"))
            continue
        chance = [show_probability(row.probability)] * is_calibrated
        frames = (str(sum(bool(frame.faces) for frame in row.frames)), f"{row.num_examined} of {row.num_frames}")
        numbers = (show_score(row.score), show_score(row.threshold), *chance, str(len(row.faces)), *frames)
        table.add_row(path, _colour(row.verdict), *numbers)
        for face in row.faces if len(row.faces) > 1 else ():
            name = Text(f"  {name_face(face.track)}" + ("" if face.decides else " (does not decide)"), style="dim")
            numbers = (show_score(face.score), "", *[""] * is_calibrated, "", str(face.num_frames), "")
            table.add_row(name, _colour(face.verdict), *numbers)
    return table


def _needs_words(row: "Prediction") -> bool:
    """Tell whether a verdict needs more than its row: it is undecided, or something speaks against it."""
    odd = [face for face in row.faces if not face.decides and face.verdict != "real"]
    return bool(row.verdict == "uncertain" or row.suspicious or odd)


def _printable(text: str) -> str:
    """Write what would steer a terminal, turn the text around or not be UTF-8 as an escape."""
    is_odd = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return "".join(
        character.encode("unicode_escape").decode("ascii") if unicodedata.category(character) in is_odd else character
        for character in text
    )


def _colour(verdict: str) -> "Text":
    from rich.text import Text

    return Text(str(verdict), style=_COLOURS[str(verdict)])


@dataclass(frozen=True)
class Saved:
    """What was written beside the prediction of one file.

    Args:
        prediction: Prediction, with a note for each extra that could not be written.
        files: Files written; None without a prediction.
        has_failed: Whether the prediction or an extra is missing.
    """

    prediction: "Prediction"
    files: list[str] | None
    has_failed: bool


def list_extras(save: str | Sequence[str] | None) -> list[str]:
    """Return the names that `save` holds, as a list or as text: `save=heatmaps`, `'save="heatmaps,video"'`.

    Raises:
        ConfigError: There is no such extra, or it is no list.
    """
    from unmask.errors import ConfigError
    from unmask.inference.save import check_extras

    if not isinstance(save, str | Sequence | None):
        raise ConfigError(f"save={save} is no list of names. Write such as: save=[heatmaps,timeline]")
    names = [name.strip() for name in save.split(",")] if isinstance(save, str) else [str(name) for name in save or ()]
    names = list(dict.fromkeys(filter(None, names)))
    check_extras(names)
    return names


def save_all(
    predictions: "Sequence[Prediction]", folder: Path, *, extras: Sequence[str], predictor: "Predictor"
) -> list[Saved]:
    """Write the extras of every file, each into a folder of its own; what cannot be written is noted.

    Args:
        predictions: Predictions, one row each.
        folder: Run folder.
        extras: Names from `list_extras`.
        predictor: Predictor that made the predictions.
    """
    from rich.progress import track

    rows: Any = track(predictions, description="Saving", transient=True)
    with closing(rows):  # the threads of a bar that is left to the garbage collector may wait for each other for ever
        return [_save(row, _choose_folder(folder, row, at), extras, predictor) for at, row in enumerate(rows)]


def _save(row: "Prediction", home: Path, extras: Sequence[str], predictor: "Predictor") -> Saved:
    from unmask.errors import MediaError
    from unmask.inference.save import save_extras

    if row.error is not None:
        return Saved(row, None, has_failed=True)
    spec, max_pixels = predictor.crop_spec, predictor.limits.max_pixels
    written: list[Path] = []
    notes: list[str] = []
    failures: list[str] = []
    for name in extras:
        try:
            written += save_extras(row, home, names=[name], spec=spec, max_pixels=max_pixels, tell=notes.append)
        except MediaError as error:
            reason = str(error).replace(f"'{row.path}'", "the file")  # a note stands beside its name already
            failures.append(f"save=[{name}] was not done: {reason}")
    told = replace(row, notes=(*row.notes, *notes, *failures))
    return Saved(told, [str(path) for path in written], has_failed=bool(failures))


def _choose_folder(folder: Path, row: "Prediction", position: int) -> Path:
    """Return where the extras of a file go."""
    stem = re.sub(r"[^\w.,=+ -]", "_", Path(row.path).stem)[:60]  # anyone may have named it
    return folder / f"{position:04d}_{stem}"


_KEPT = "What is written is kept. Write elsewhere with UNMASK_HOME=... and run the same command again."


@dataclass(frozen=True)
class Outcome:
    """What became of the files.

    Args:
        predictions: Predictions, one row each.
        num_failed: Number of files that could not be read, or lack an extra of `save`.
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
        cfg: Configuration of `predict.yaml`.
        paths: Plain arguments of the command line, beside `cfg.inputs`.

    Raises:
        ConfigError: Nothing was named.
    """
    from unmask.config import run_dir
    from unmask.errors import ConfigError
    from unmask.inference.limits import expand_inputs
    from unmask.inference.predictor import PredictorSettings

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

    from unmask.inference.predictor import watch_inputs

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
