"""The trained network as a model of MLflow, so that `mlflow models serve` answers and the registry takes it."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np

from unmask.models.bundle import MODEL_FILE, SPEC_FILE


def save_model(bundle: Path, folder: Path) -> None:
    """Write a bundle as an MLflow model (ONNX), with signature, input example and our spec.

    Args:
        bundle: Of the best checkpoint.
        folder: Replaced if it exists.
    """
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    spec = json.loads((bundle / SPEC_FILE).read_text(encoding="utf-8"))
    size = spec["input"]["size"]
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, 3, size, size), "images")]),
        Schema(
            [
                TensorSpec(np.dtype(np.float32), (-1,), "logit"),
                TensorSpec(np.dtype(np.float32), (-1, -1, -1), "activation_map"),
            ]
        ),
    )
    shutil.rmtree(folder, ignore_errors=True)
    mlflow.onnx.save_model(
        onnx.load(str(bundle / MODEL_FILE)),
        str(folder),
        signature=signature,
        input_example={"images": np.full((1, 3, size, size), 128, np.uint8)},
        # Named rather than guessed: MLflow finds them by running the model in a process of its own.
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime", "numpy")],
        save_as_external_data=False,
        metadata={"preprocessing_hash": spec["preprocessing_hash"]},
    )
    shutil.copy(bundle / SPEC_FILE, folder / SPEC_FILE)
    _share(bundle / MODEL_FILE, folder / "model.onnx")


def _share(ours: Path, theirs: Path) -> None:
    """Let MLflow's copy of the network be the bundle's file; it stays a copy where the disk has no second names."""
    part = theirs.with_suffix(".part")
    try:
        os.link(ours, part)
    except OSError:
        return
    part.replace(theirs)
