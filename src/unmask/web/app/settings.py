"""What the app is set to: the settings of `predict.py`, so that a verdict does not depend on the door it came in by."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import ConfigError
from unmask.inference.settings import PredictorSettings
from unmask.paths import expand_home

MAX_FILES = 100
"""Files looked at in one go; the results of all of them are held."""

OF_APP = "this app, which its operator can raise in configs/local"
"""Whose limits those of files are, as visitors are told."""

PICTURES_MB = 200
"""What the pictures of one visitor's files may take, where the environment's `UNMASK_PICTURES_MB` says nothing."""


@dataclass(frozen=True)
class Settings:
    """Settings of the app.

    Args:
        folders: Below which models are looked for.
        predictor: How models are loaded.
        picture_bytes: Memory for the pictures of one visitor's files; beyond it those of older files are let go.
    """

    folders: tuple[Path, ...]
    predictor: PredictorSettings
    picture_bytes: int


def read_settings() -> Settings:
    """Read `configs/predict.yaml`, with what `configs/local` changes in it, and the environment.

    Raises:
        ConfigError: A key of it or a variable is wrong.
    """
    from unmask.config import read_defaults

    cfg = read_defaults("predict")
    return Settings(
        folders=(Path(cfg.paths.output_dir), Path(cfg.paths.multirun_dir)),
        predictor=PredictorSettings.from_config(cfg),
        picture_bytes=_read_picture_bytes(),
    )


def _read_picture_bytes() -> int:
    text = os.environ.get("UNMASK_PICTURES_MB") or str(PICTURES_MB)
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not 0 < megabytes < math.inf:
        raise ConfigError(
            f"UNMASK_PICTURES_MB='{text}' in the environment must be a number above 0: the megabytes that the pictures "
            f"of one visitor's files may take. Write such as UNMASK_PICTURES_MB={PICTURES_MB}, or leave it out."
        )
    return int(megabytes * 1e6)


def given_model() -> str | None:
    """Return the model that was named on the command line after `--`, or by the environment's `UNMASK_CHECKPOINT`."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    return expand_home(named[0] if named else os.environ.get("UNMASK_CHECKPOINT") or "") or None
