"""Checkpoints by their address in MLflow: `runs:/<run id>/...` and `models:/<name>@<alias>`."""

import os
import re
from pathlib import Path

from unmask.errors import CheckpointError
from unmask.training.tracking_store import make_client, store_uri

_BEST = "checkpoints/best.ckpt"


def find_uri(tracking_db: str) -> str:
    """Return the store that commands without a `logger` look into: the environment's, or the sqlite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or store_uri(tracking_db)


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
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise CheckpointError(
            f"checkpoint='{address}' cannot be looked up: there is no MLflow store '{uri}'. {_hint()}"
        )
    client = make_client(uri)
    try:
        run_id, path = _resolve(address, client)
        if client.get_run(run_id).info.artifact_uri.startswith("file:"):
            return Path(client.download_artifacts(run_id, path))
        target = folder / run_id
        target.mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(run_id, path, str(target)))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"checkpoint='{address}' is not in the MLflow store '{uri}': {reason} {_hint()}"
        ) from error


def _hint() -> str:
    return "Name the store with MLFLOW_TRACKING_URI=..., or give the path of a file that train.py wrote."


def _resolve(address: str, client: object) -> tuple[str, str]:
    run = re.fullmatch(r"runs:/([^/]+)(?:/(.+))?", address)
    if run:
        return run.group(1), run.group(2) or _BEST
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
    return str(found.run_id), _BEST
