"""What the app is set to: the settings of `predict.py`, so that a verdict does not depend on the door it came in by."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from unmask.inference.limits import Limits

MAX_FILES = 100
"""Files looked at in one go; the results of all of them are held."""


@dataclass(frozen=True)
class Settings:
    """Settings of the app.

    Args:
        folders: Below which models are looked for.
        device: Where networks run.
        margin: How much of the way from the threshold to 0, and to 1, is `uncertain`.
        batch_size: Crops scored at once.
        num_frames: Looked at per video; None for as many as the model's training data had.
        every_n: Looks at every n-th frame of a video instead.
        detector_weights: File of the detector's weights; None for those it fetches itself.
        limits: How much of one file is looked at.
    """

    folders: tuple[Path, ...]
    device: str
    margin: float
    batch_size: int
    num_frames: int | None
    every_n: int | None
    detector_weights: str | None
    limits: Limits


def read_settings() -> Settings:
    """Read `configs/predict.yaml`, with what `configs/local` changes in it.

    Raises:
        ConfigError: A key of it is wrong.
    """
    from unmask.config import read_defaults

    cfg = read_defaults("predict")
    return Settings(
        folders=(Path(cfg.paths.output_dir), Path(cfg.paths.multirun_dir)),
        device=cfg.device,
        margin=cfg.margin,
        batch_size=cfg.batch_size,
        num_frames=cfg.num_frames,
        every_n=cfg.every_n,
        detector_weights=cfg.detector_weights,
        limits=Limits(**cfg.limits),
    )


def given_model() -> str | None:
    """Return the model that was named on the command line after `--`, or by the environment's `UNMASK_CHECKPOINT`."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    return (named[0] if named else os.environ.get("UNMASK_CHECKPOINT")) or None
