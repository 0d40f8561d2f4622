"""The command that says of pictures and videos whether their faces are real or fake.

An argument is a path if it exists (even as `a=b.jpg`), or if it looks neither like an override (`key=value`,
`+key=value`, `~key`) nor like a flag; and so is everything after `--`.
"""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from unmask.cli.arguments import split_arguments
from unmask.cli.checkpoint import find_checkpoint
from unmask.cli.shell import run_command

if TYPE_CHECKING:
    from rich.text import Text

    from unmask.faces.spec import CropSpec
    from unmask.inference.results import Prediction

_COLOURS = {"fake": "red", "real": "green", "uncertain": "yellow", "no_face": "dim"}


def main() -> None:
    """Run `python predict.py checkpoint=... PATH...`; exit code 1 where a file could not be read."""
    arguments = split_arguments(sys.argv[1:])
    sys.argv[1:] = arguments.overrides  # Hydra's grammar would choke on paths
    num_errors = 0

    def run(cfg: DictConfig) -> None:
        nonlocal num_errors
        predictions = predict(cfg, paths=arguments.paths)
        num_errors += sum(prediction.error is not None for prediction in predictions)

    run_command(run, config_name="predict")
    if num_errors:
        sys.exit(1)


def predict(cfg: DictConfig, *, paths: Sequence[str] = ()) -> "list[Prediction]":
    """Predict every file, write `predictions.json` and `result.json`, print a table.

    Args:
        cfg: Of `configs/predict.yaml`.
        paths: Named as plain arguments, beside `cfg.inputs`.

    Raises:
        ConfigError: Nothing was named.
    """
    from unmask.config import run_dir
    from unmask.errors import ConfigError
    from unmask.inference.inputs import expand_inputs
    from unmask.inference.predictor import Predictor
    from unmask.inference.save import check_extras

    check_extras(cfg.save)
    names = [*paths, *cfg.inputs]
    if not names:
        raise ConfigError("Nothing to predict. Name files or folders: python predict.py checkpoint=... clip.mp4")
    inputs = expand_inputs(names)
    predictor = Predictor.load(
        find_checkpoint(cfg.checkpoint, cfg.paths),
        device=cfg.device,
        threshold=cfg.threshold,
        margin=cfg.margin,
        batch_size=cfg.batch_size,
        num_frames=cfg.num_frames,
        every_n=cfg.every_n,
        detector_weights=cfg.detector_weights,
    )
    predictions = list(_with_progress(predictor.predict_inputs(inputs), total=len(inputs)))
    extras = _save(predictions, run_dir(), names=cfg.save, spec=predictor.crop_spec) if cfg.save else {}
    _write(predictions, run_dir(), checkpoint=cfg.checkpoint, names=names, extras=extras)
    _print_table(predictions)
    print(f"predictions  {run_dir() / 'predictions.json'}")
    return predictions


def _with_progress(predictions: "Iterable[Prediction]", *, total: int) -> "Iterable[Prediction]":
    from rich.progress import track

    return track(predictions, description="Predicting", total=total, transient=True)


def _save(
    predictions: "Sequence[Prediction]", folder: Path, *, names: Sequence[str], spec: "CropSpec"
) -> dict[str, list[str]]:
    """Write heat maps and the like, in a folder per file; return what was written by path."""
    from unmask.inference.save import save_extras

    written = {}
    for position, row in enumerate(predictions):
        if row.error is None:
            home = folder / f"{position:04d}_{Path(row.path).stem[:60]}"
            written[row.path] = [str(path) for path in save_extras(row, home, names=names, spec=spec)]
    return written


_COLUMNS = ("path", "kind", "verdict", "score", "threshold", "faces", "frames", "error")


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a row per file, with the numbers of its faces and frames."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"faces": len(row["faces"]), "frames": len(row["frames"])})


def _write(
    predictions: "Sequence[Prediction]",
    folder: Path,
    *,
    checkpoint: str,
    names: Sequence[str],
    extras: dict[str, list[str]],
) -> None:
    from collections import Counter

    rows = [prediction.to_dict() for prediction in predictions]
    (folder / "predictions.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_csv(rows, folder / "predictions.csv")
    result = {
        "checkpoint": str(checkpoint),
        "inputs": list(names),
        "files": len(rows),
        "verdicts": dict(Counter(row["verdict"] for row in rows if row["verdict"])),
        "errors": sum(row["error"] is not None for row in rows),
        "predictions": str(folder / "predictions.json"),
        "table": str(folder / "predictions.csv"),
        "saved": extras,
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _print_table(predictions: "Sequence[Prediction]") -> None:
    """Print a row per file, and one per face where there are several."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("verdict")
    for heading in ("score", "threshold", "faces", "frames"):
        table.add_column(heading, justify="right")
    for row in predictions:
        if row.verdict is None:
            table.add_row(Text(row.path), Text("error", style="red"), "", "", "", "")
            continue
        frames = f"{sum(bool(frame.faces) for frame in row.frames)}/{len(row.frames)}"
        threshold = f"{row.threshold:.4f}"
        table.add_row(Text(row.path), _colour(row.verdict), _show(row.score), threshold, str(len(row.faces)), frames)
        for face in row.faces if len(row.faces) > 1 else ():
            name = Text(f"  face {face.track}" + ("" if face.decides else " (too brief to decide)"), style="dim")
            table.add_row(name, _colour(face.verdict), _show(face.score), "", "", str(face.num_frames))
    console = Console()
    console.print(table)
    for row in predictions:
        if row.error:
            console.print(f"error: {row.error}", style="red", markup=False, highlight=False, soft_wrap=True)


def _colour(verdict: str) -> "Text":
    from rich.text import Text

    return Text(str(verdict), style=_COLOURS[str(verdict)])


def _show(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
