"""Checkpoints and bundles by their address in MLflow: `runs:/<run id>/...` and `models:/<name>@<alias>`."""

import os
import re
from pathlib import Path

from unmask.errors import CheckpointError
from unmask.paths import expand_home, home_folder
from unmask.training.tracking_store import find_artifact_folder, make_client, store_file, store_uri

_BEST = "checkpoints/best.ckpt"
_BUNDLE = "bundle"


def find_uri(tracking_db: str) -> str:
    """Return the store that commands without a `logger` look into: the environment's, or the sqlite file."""
    return expand_home(os.environ.get("MLFLOW_TRACKING_URI") or "") or store_uri(tracking_db)


def fetch_checkpoint(address: str, *, uri: str, folder: Path) -> Path:
    """Return the file of a checkpoint that MLflow holds.

    Args:
        address: `runs:/<run id>` or `runs:/<run id>/checkpoints/last.ckpt`; `models:/<name>@<alias>` or
            `models:/<name>/<version>`. Without a path it is the best checkpoint.
        uri: Of the store.
        folder: Where one that lies on a server is put.

    Raises:
        CheckpointError: No such address, run, version or file.
    """
    return _fetch(address, uri=uri, folder=folder, prefers_bundle=False)


def fetch_model(address: str, *, uri: str | None = None, folder: Path | None = None) -> Path:
    """Return what predicts soonest of a run that MLflow holds: its bundle, or its best checkpoint where it has none.

    Args:
        address: As for `fetch_checkpoint`; one with a path is that file or folder.
        uri: Of the store; None for that of the environment (`MLFLOW_TRACKING_URI`, or `mlflow.db` in `UNMASK_HOME`).
        folder: Where one that lies on a server is put; None for `outputs/downloads` in `UNMASK_HOME`.

    Raises:
        CheckpointError: No such address, run, version or file.
    """
    home = home_folder()
    found_uri = uri or find_uri(str(home / "mlflow.db"))
    return _fetch(address, uri=found_uri, folder=folder or home / "outputs" / "downloads", prefers_bundle=True)


def _fetch(address: str, *, uri: str, folder: Path, prefers_bundle: bool) -> Path:
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:  # a service does not install it
        raise CheckpointError(
            f"checkpoint='{address}' is an address in MLflow, and {error.name} is not installed here. Install mlflow, "
            f"or name the folder of a bundle."
        ) from error
    store = store_file(uri)
    if store is not None and not store.is_file():
        raise CheckpointError(
            f"checkpoint='{address}' cannot be looked up: there is no MLflow store '{uri}'. {_hint()}"
        )
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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"checkpoint='{address}' is not in the MLflow store '{uri}': {reason} {_hint()}"
        ) from error


def _find_file(artifacts: Path, path: str) -> Path:
    """Return the artifact itself: MLflow's client would leave a copy of it among the temporary files."""
    found = artifacts / path
    if not found.exists() or not found.resolve().is_relative_to(artifacts.resolve()):
        raise FileNotFoundError(f"'{path}' is not among the artifacts in '{artifacts}'.")
    return found


def _hint() -> str:
    return (
        "A run keeps its best checkpoint there, and the last one with tracking.checkpoints=all. "
        "Name the store with MLFLOW_TRACKING_URI=..., or give the path of a file that train.py wrote."
    )


def _resolve(address: str, client: object) -> tuple[str, str | None]:
    """Return the run, and the path in it where the address names one."""
    run = re.fullmatch(r"runs:/([^/]+)(?:/(.+))?", address)
    if run:
        return run.group(1), run.group(2)
    model = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))", address)
    if model is None:
        raise CheckpointError(
            f"checkpoint='{address}' is no address in MLflow. Write runs:/<run id>/checkpoints/best.ckpt, "
            f"models:/<name>@<alias> or models:/<name>/<version>."
        )
    name, alias, version = model.groups()
    found = (
        client.get_model_version_by_alias(name, alias)  # type: ignore[attr-defined]
        if alias
        else client.get_model_version(name, version)  # type: ignore[attr-defined]
    )
    return str(found.run_id), None
