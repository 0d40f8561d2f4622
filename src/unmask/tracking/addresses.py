"""Resolve MLflow addresses such as `runs:/<run ID>/...` and `models:/<name>@<alias>`, and register models."""

import json
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import CheckpointError, ConfigError
from unmask.paths import expand_home, home_folder
from unmask.tracking.store import find_artifact_folder, first_line, make_client, store_file, store_uri

_PREFIXES = ("runs:/", "models:/")
_BEST = "checkpoints/best.ckpt"
_BUNDLE = "bundle"


def find_uri(tracking_db: str | None = None) -> str:
    """Return the store address for commands without a `logger`: `MLFLOW_TRACKING_URI`, or a sqlite file.

    Args:
        tracking_db: Path of the sqlite file; None for `mlflow.db` in `UNMASK_HOME`.
    """
    return expand_home(os.environ.get("MLFLOW_TRACKING_URI") or "") or store_uri(
        tracking_db or str(home_folder() / "mlflow.db")
    )


def is_address(name: str) -> bool:
    """Return whether a name is an MLflow address rather than a path."""
    return name.startswith(_PREFIXES)


def fetch_checkpoint(address: str, *, uri: str, folder: Path) -> Path:
    """Return the path of a checkpoint stored in MLflow.

    Args:
        address: `runs:/<run ID>`, `runs:/<run ID>/checkpoints/last.ckpt`, `models:/<name>@<alias>` or
            `models:/<name>/<version>`; without a path, the best checkpoint.
        uri: Address of the store.
        folder: Download folder for checkpoints on a server.

    Raises:
        CheckpointError: Unknown address, run, version or file.
    """
    return _fetch(address, uri=uri, folder=folder, prefers_bundle=False)


def fetch_model(name: str, *, uri: str | None = None, folder: Path | None = None) -> Path:
    """Return the path of a bundle or checkpoint, downloading it if it is on an MLflow server.

    Args:
        name: Path, or address as for `fetch_checkpoint`; an address without a path means the run's bundle, or its best
            checkpoint if it has no bundle.
        uri: Address of the store; None for `MLFLOW_TRACKING_URI`, or `mlflow.db` in `UNMASK_HOME`.
        folder: Download folder; None for `outputs/downloads` in `UNMASK_HOME`.

    Raises:
        CheckpointError: Unknown address, run, version or file, or MLflow is not installed.
    """
    if not is_address(name):
        return Path(expand_home(name))
    return _fetch(
        name, uri=uri or find_uri(), folder=folder or home_folder() / "outputs" / "downloads", prefers_bundle=True
    )


def ask_version_time(name: str, alias: str) -> float | None:
    """Return the creation time of the model version behind an alias, in seconds since 1970.

    Returns None on any error of the store; loading the model reports it.

    Args:
        name: Name of the registered model.
        alias: Alias of one of its versions.
    """
    try:
        uri = find_uri()
        if _is_absent(uri):
            return None  # connecting would create an empty store
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except (ConfigError, ImportError):
        return None
    try:
        return float(make_client(uri).get_model_version_by_alias(name, alias).creation_timestamp) / 1000
    except (MlflowException, SQLAlchemyError, OSError):
        return None


def _is_absent(uri: str) -> bool:
    file = store_file(uri)
    return file is not None and not file.is_file()


def _fetch(address: str, *, uri: str, folder: Path, prefers_bundle: bool) -> Path:
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise CheckpointError(
            f"checkpoint='{address}' is an MLflow address, but {error.name} is not installed. Install mlflow, or "
            f"give the path of a bundle."
        ) from error
    if _is_absent(uri):
        raise CheckpointError(f"Cannot find checkpoint='{address}': the MLflow store '{uri}' does not exist. {_hint()}")
    client = make_client(uri)
    try:
        run_id, named = _resolve(address, client)
        path = named or _BEST
        if prefers_bundle and named is None and client.list_artifacts(run_id, _BUNDLE):
            path = _BUNDLE
        artifacts = find_artifact_folder(client, run_id)
        if artifacts is not None:
            return _find_file(artifacts, path)
        target = folder / run_id
        target.mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(run_id, path, str(target)))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"Cannot find checkpoint='{address}' in the MLflow store '{uri}': {reason} {_hint()}"
        ) from error


def _find_file(artifacts: Path, path: str) -> Path:
    """Return the path of an artifact in place; MLflow's client would leave a copy in the temporary folder."""
    found = artifacts / path
    if not found.exists() or not found.resolve().is_relative_to(artifacts.resolve()):
        raise FileNotFoundError(f"No artifact '{path}' in '{artifacts}'.")
    return found


def _hint() -> str:
    return (
        "A run stores its best checkpoint there, and its last one with tracking.checkpoints=all. "
        "Set the store with MLFLOW_TRACKING_URI=..., or give the path of a checkpoint."
    )


def _resolve(address: str, client: Any) -> tuple[str, str | None]:
    """Return the run ID, and the artifact path or None if the address has none."""
    run = re.fullmatch(r"runs:/([^/]+)(?:/(.+))?", address)
    if run:
        return run.group(1), run.group(2)
    model = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))", address)
    if model is None:
        raise CheckpointError(
            f"Invalid MLflow address checkpoint='{address}'. Use runs:/<run id>/checkpoints/best.ckpt, "
            f"models:/<name>@<alias> or models:/<name>/<version>."
        )
    name, alias, version = model.groups()
    found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)
    return str(found.run_id), None


def save_model(bundle: Path, folder: Path) -> None:
    """Write a bundle as an MLflow model (ONNX) with signature, input example and spec.

    Args:
        bundle: Bundle of the best checkpoint.
        folder: Output folder, replaced if it exists.
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
        # To infer the requirements, MLflow would run the model in another process.
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime", "numpy")],
        save_as_external_data=False,
        metadata={"preprocessing_hash": spec["preprocessing_hash"]},
    )
    shutil.copy(bundle / SPEC_FILE, folder / SPEC_FILE)
    _share(bundle / MODEL_FILE, folder / "model.onnx")


def _share(ours: Path, theirs: Path) -> None:
    """Replace MLflow's copy of the network with a hard link to the bundle's, if the file system supports it."""
    part = theirs.with_suffix(".part")
    try:
        os.link(ours, part)
    except OSError:
        return
    part.replace(theirs)


def register_version(client: Any, run_id: str, *, name: str, objective_key: str, objective: float) -> None:
    """Register a run's model as a version, and point the alias `best` to the version with the highest objective.

    A second call with the same objective changes nothing.

    Args:
        client: MLflow client.
        run_id: MLflow ID of a run with the artifact `model`.
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
        is_best = True  # no version has the alias yet
    if is_best:
        client.set_registered_model_alias(name, "best", version.version)
