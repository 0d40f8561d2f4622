"""The command that says of pictures and videos whether their faces are real or fake.

An argument is a path if it exists (even as `a=b.jpg`), or if it looks neither like an override (`key=value`,
`+key=value`, `~key`) nor like a flag; and so is everything after `--`.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.cli.arguments import split_arguments
from unmask.cli.checkpoint import find_checkpoint
from unmask.cli.predict_output import print_table, write_predictions
from unmask.cli.shell import run_command

if TYPE_CHECKING:
    from unmask.faces.spec import CropSpec
    from unmask.inference.results import Prediction


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
    """Predict every file, write `predictions.json`, `predictions.csv` and `result.json`, print a table.

    Args:
        cfg: Of `configs/predict.yaml`.
        paths: Named as plain arguments, beside `cfg.inputs`.

    Raises:
        ConfigError: Nothing was named.
    """
    from unmask.config import run_dir
    from unmask.errors import ConfigError
    from unmask.inference.inputs import expand_inputs
    from unmask.inference.save import check_extras, has_no_maps
    from unmask.inference.settings import PredictorSettings

    check_extras(cfg.save)
    names = [*paths, *cfg.inputs]
    if not names:
        raise ConfigError("Nothing to predict. Name files or folders: python predict.py checkpoint=... clip.mp4")
    inputs = expand_inputs(names)
    checkpoint = find_checkpoint(cfg.checkpoint, cfg.paths, takes_bundle=True)
    predictor = PredictorSettings.from_config(cfg).load(checkpoint)
    predictions = list(_with_progress(predictor.predict_inputs(inputs), total=len(inputs)))
    extras = _save(predictions, run_dir(), names=cfg.save, spec=predictor.crop_spec) if cfg.save else {}
    write_predictions(predictions, run_dir(), checkpoint=cfg.checkpoint, names=names, extras=extras)
    print_table(predictions)
    if "heatmaps" in cfg.save and has_no_maps(predictions):
        print("No heat maps: the bundle of this network has none. Name its checkpoint, which has them by Grad-CAM.")
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
            stem = re.sub(r"[^\w.,=+ -]", "_", Path(row.path).stem)[:60]  # anyone may have named it
            home = folder / f"{position:04d}_{stem}"
            written[row.path] = [str(path) for path in save_extras(row, home, names=names, spec=spec)]
    return written
