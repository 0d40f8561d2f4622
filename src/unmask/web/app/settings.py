"""What the app is set to: the settings of `predict.py`, so that a verdict does not depend on the door it came in by."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from unmask.inference.settings import PredictorSettings

MAX_FILES = 100
"""Files looked at in one go; the results of all of them are held."""


@dataclass(frozen=True)
class Settings:
    """Settings of the app.

    Args:
        folders: Below which models are looked for.
        predictor: How models are loaded.
    """

    folders: tuple[Path, ...]
    predictor: PredictorSettings


def read_settings() -> Settings:
    """Read `configs/predict.yaml`, with what `configs/local` changes in it.

    Raises:
        ConfigError: A key of it is wrong.
    """
    from unmask.config import read_defaults

    cfg = read_defaults("predict")
    return Settings(
        folders=(Path(cfg.paths.output_dir), Path(cfg.paths.multirun_dir)),
        predictor=PredictorSettings.from_config(cfg),
    )


def given_model() -> str | None:
    """Return the model that was named on the command line after `--`, or by the environment's `UNMASK_CHECKPOINT`."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    return (named[0] if named else os.environ.get("UNMASK_CHECKPOINT")) or None
