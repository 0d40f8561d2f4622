"""Unmask trains, compares and serves detectors of deepfake faces."""

import os
from typing import TYPE_CHECKING, Any

from unmask.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    DatasetError,
    DetectorError,
    LeakageError,
    MediaError,
    OutputError,
    SourceError,
    SpecMismatchError,
    TrackingError,
    TrainingError,
    UnmaskError,
    UntrustedError,
)

if TYPE_CHECKING:
    from unmask.cli.python import evaluate, evaluate_scores, predict, prepare, train
    from unmask.data.datamodule import FaceDataModule
    from unmask.data.tables import FaceDataset
    from unmask.inference.predictor import Predictor
    from unmask.tracking.addresses import fetch_model

__all__ = [
    "BundleError", "CheckpointError", "ConfigError", "DatasetError", "DetectorError", "FaceDataModule", "FaceDataset",
    "LeakageError", "MediaError", "OutputError", "Predictor", "SourceError", "SpecMismatchError", "TrackingError",
    "TrainingError", "UnmaskError", "UntrustedError", "__version__", "evaluate", "evaluate_scores", "fetch_model",
    "predict", "prepare", "train",
]  # fmt: skip

__version__ = "0.1.0"

# ONNX Runtime from 1.31 on reports the machine to its makers as soon as it is imported. What is looked at here is
# nobody's business; set the variable to 0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import unmask` stays light."""
    if name in ("prepare", "train", "evaluate", "evaluate_scores", "predict"):
        from unmask.cli import python

        return getattr(python, name)
    if name == "Predictor":
        from unmask.inference.predictor import Predictor

        return Predictor
    if name == "FaceDataset":
        from unmask.data.tables import FaceDataset

        return FaceDataset
    if name == "FaceDataModule":
        from unmask.data.datamodule import FaceDataModule

        return FaceDataModule
    if name == "fetch_model":
        from unmask.tracking.addresses import fetch_model

        return fetch_model
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
