"""The trained network as a model of MLflow, so that `mlflow models serve` answers and the registry takes it."""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from unmask.models.checkpoint import Checkpoint
from unmask.models.export import export_onnx


def save_model(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint's network as an MLflow model (ONNX), with signature, input example and our spec.

    Args:
        checkpoint: The best one.
        folder: Replaced if it exists.
    """
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    size = checkpoint.input_spec.size
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, 3, size, size), "images")]),
        Schema(
            [
                TensorSpec(np.dtype(np.float32), (-1,), "logit"),
                TensorSpec(np.dtype(np.float32), (-1, -1, -1), "activation_map"),
            ]
        ),
    )
    spec = {
        "preprocessing": checkpoint.crop_spec.to_dict(),
        "input_size": size,
        "decision": checkpoint.decision.to_dict(),
        "class_names": list(checkpoint.class_names),
        "provenance": checkpoint.provenance,
    }
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        export_onnx(checkpoint.build_network(), Path(temporary) / "model.onnx")
        mlflow.onnx.save_model(
            onnx.load(str(Path(temporary) / "model.onnx")),
            str(folder),
            signature=signature,
            input_example={"images": np.full((1, 3, size, size), 128, np.uint8)},
            # Named rather than guessed: MLflow finds them by running the model in a process of its own.
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime", "numpy")],
            save_as_external_data=False,
            metadata={"preprocessing_hash": checkpoint.crop_spec.hash},
        )
    (folder / "spec.json").write_text(json.dumps(spec, indent=2) + "\n")
