"""The trained network as a model of MLflow, which `mlflow models serve` and the registry take."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def save_model(bundle: Path, folder: Path) -> None:
    """Write a bundle as an MLflow model (ONNX), with signature, input example and our spec.

    Args:
        bundle: Bundle of the best checkpoint.
        folder: Folder of the model, replaced if it exists.
    """
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    from unmask.models.bundle import MODEL_FILE, SPEC_FILE

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
        # Given rather than inferred: MLflow infers them by running the model in another process.
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime", "numpy")],
        save_as_external_data=False,
        metadata={"preprocessing_hash": spec["preprocessing_hash"]},
    )
    shutil.copy(bundle / SPEC_FILE, folder / SPEC_FILE)
    _share(bundle / MODEL_FILE, folder / "model.onnx")


def _share(ours: Path, theirs: Path) -> None:
    """Replace MLflow's copy of the network by a hard link to the bundle's; it stays a copy if the disk cannot link."""
    part = theirs.with_suffix(".part")
    try:
        os.link(ours, part)
    except OSError:
        return
    part.replace(theirs)


def register_version(client: Any, run_id: str, *, name: str, objective_key: str, objective: float) -> None:
    """Make the model of a run a version in the registry; the alias `best` goes to the one with the highest objective.

    A second call with the same objective changes nothing.

    Args:
        client: Client of MLflow.
        run_id: MLflow run ID of a run that holds the artifact `model`.
        name: Name of the registered model.
        objective_key: Metric key; larger is better.
        objective: Value of the metric.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    tags = {"objective": objective_key, "value": repr(objective)}
    of_run = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    version = next((found for found in of_run if tags.items() <= found.tags.items()), None)
    if version is None:
        version = client.create_model_version(name, source, run_id, tags=tags)
    try:
        best = client.get_model_version_by_alias(name, "best")
        is_best = best.tags.get("objective") != objective_key or float(best.tags.get("value", "-inf")) <= objective
    except MlflowException:
        is_best = True  # it has no version with that alias yet
    if is_best:
        client.set_registered_model_alias(name, "best", version.version)
