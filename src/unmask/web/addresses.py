"""Models by their MLflow addresses, for the service and the app: everything in `web` that asks MLflow."""

from pathlib import Path

from unmask.errors import ConfigError
from unmask.paths import expand_home, home_folder

_ADDRESSES = ("runs:/", "models:/")


def find_model(name: str) -> Path:
    """Return the path of a bundle or checkpoint, downloaded if it is on an MLflow server.

    Args:
        name: A path, `runs:/<run id>`, `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        CheckpointError: MLflow is not installed or does not have the model.
    """
    if not name.startswith(_ADDRESSES):
        return Path(expand_home(name))
    from unmask.training.tracking_fetch import fetch_model  # MLflow is optional

    return fetch_model(name)


def ask_version_time(name: str, alias: str) -> float | None:
    """Ask MLflow's store when the version behind an alias was created; None when there is no answer.

    Loading the model reports what is wrong with the store, so nothing is raised here.

    Args:
        name: Name of the registered model.
        alias: Alias of one of its versions.

    Returns:
        Seconds since 1970.
    """
    from unmask.training.tracking_fetch import find_uri
    from unmask.training.tracking_store import make_client, store_file

    try:
        uri = find_uri(str(home_folder() / "mlflow.db"))
    except ConfigError:
        return None
    store = store_file(uri)
    if store is not None and not store.is_file():
        return None  # a client would create an empty store
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return None
    try:
        return float(make_client(uri).get_model_version_by_alias(name, alias).creation_timestamp) / 1000
    except (MlflowException, SQLAlchemyError, OSError):
        return None
