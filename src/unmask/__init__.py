"""Unmask trains, compares and serves detectors of deepfake faces."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.inference.predictor import Predictor
    from unmask.tracking.addresses import fetch_model

__all__ = ["Predictor", "__version__", "fetch_model"]

__version__ = "0.1.0"

# ONNX Runtime from 1.31 on reports the machine to its makers as soon as it is imported. What is looked at here is
# nobody's business; set the variable to 0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import unmask` stays light."""
    if name == "Predictor":
        from unmask.inference.predictor import Predictor

        return Predictor
    if name == "fetch_model":
        from unmask.tracking.addresses import fetch_model

        return fetch_model
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
