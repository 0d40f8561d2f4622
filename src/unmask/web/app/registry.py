"""Which version an alias in MLflow's registry stands for, such as `models:/faces@best`."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from unmask.errors import ConfigError
from unmask.paths import home_folder
from unmask.web.app.finding import ModelFile

SECONDS = 60.0
"""How long an answer of MLflow is taken for true; the page runs anew at every click."""


@dataclass
class Alias:
    """An alias, and when the version it stands for was made.

    Args:
        name: Of the registered model.
        alias: Of one of its versions.
        stamp: Of that version, in seconds; 0 before MLflow has answered.
        asked: When MLflow was asked last, on the monotonic clock.
    """

    name: str
    alias: str
    stamp: float = 0.0
    asked: float = -SECONDS

    def find_stamp(self) -> float:
        """Return when its version was made; MLflow is asked at most once a minute.

        Where it does not answer, what is loaded goes on: loading anew would fail too.
        """
        if time.monotonic() - self.asked >= SECONDS:
            self.asked = time.monotonic()  # before the answer, so that other visitors do not wait for it too
            self.stamp = _ask(self.name, self.alias) or self.stamp
        return self.stamp


def follow_aliases(files: Sequence[ModelFile]) -> list[ModelFile]:
    """Give models that are named by an alias the stamp of its version, so that a new version is loaded.

    Args:
        files: Those with a path stay as they are, and MLflow is not imported for them.
    """
    return [_follow(file) for file in files]


def _follow(file: ModelFile) -> ModelFile:
    found = re.fullmatch(r"models:/([^/@]+)@([^/]+)", file.path)
    if found is None:
        return file
    alias: Alias = st.cache_resource(_remember, show_spinner=False)(*found.groups())
    return replace(file, stamp=alias.find_stamp())


def _remember(name: str, alias: str) -> Alias:
    """Hold what is known of an alias for all visitors."""
    return Alias(name, alias)


def _ask(name: str, alias: str) -> float | None:
    """Ask MLflow's store, the one that loading takes, when a version was made; None where it does not say."""
    from unmask.training.tracking_fetch import find_uri
    from unmask.training.tracking_store import make_client, store_file

    try:
        uri = find_uri(str(home_folder() / "mlflow.db"))
    except ConfigError:
        return None  # loading says what is wrong with it
    store = store_file(uri)
    if store is not None and not store.is_file():
        return None  # asking would make an empty one
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return None  # loading says what to install
    try:
        return float(make_client(uri).get_model_version_by_alias(name, alias).creation_timestamp) / 1000
    except (MlflowException, SQLAlchemyError, OSError):
        return None  # loading says what is wrong, where nothing is loaded yet
