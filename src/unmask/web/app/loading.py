"""Load a model once for all visitors."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from unmask.forgeries import name_model
from unmask.web.app.finding import ModelFile
from unmask.web.app.settings import Settings

if TYPE_CHECKING:
    from unmask.inference.predictor import Predictor


_MAX_MODELS = 4


@dataclass(frozen=True)
class Model:
    """A model that is ready.

    Args:
        file: Where it came from.
        path: Of the bundle or checkpoint on this machine.
        predictor: Scores with it.
        network: Name of the architecture.
        provenance: Run id, dataset, commit, seed and the like.
        lock: Held while it works: visitors take turns, so that memory stays flat however many they are.
    """

    file: ModelFile
    path: Path
    predictor: "Predictor"
    network: str
    provenance: dict[str, Any]
    lock: threading.Lock

    @property
    def title(self) -> str:
        """What it is called: its run, its network and what it was trained on.

        The name of its file stands for that of its run where an older model does not know it, unless it is a hash.
        """
        file = "" if self.file.name.startswith("runs:/") else self.file.name
        return name_model(self.provenance | {"run_name": self.run_name or file}, network=self.network)

    @property
    def run_name(self) -> str:
        """Of its training; empty where that is not recorded."""
        return str(self.provenance.get("run_name") or "")


def load_model(file: ModelFile, settings: Settings) -> Model:
    """Load a bundle, without PyTorch, or a checkpoint; the four used last are kept.

    Raises:
        CheckpointError: Absent, damaged or of something else; code that a file may carry is never run.
        SpecMismatchError: The detector's weights are not those of the model's crops.
    """
    cached = st.cache_resource(_load, max_entries=_MAX_MODELS, show_spinner="Loading the model")
    model: Model = cached(file, settings)
    return model


def _load(file: ModelFile, settings: Settings) -> Model:
    from unmask.inference.loading import find_model

    path = find_model(file.path)
    network, provenance = _read_facts(path)
    return Model(file, path, settings.predictor.load(path), network, provenance, threading.Lock())


def _read_facts(path: Path) -> tuple[str, dict[str, Any]]:
    from unmask.inference.bundle import is_bundle, load_bundle

    if is_bundle(path):
        bundle = load_bundle(path)
        return bundle.network, bundle.provenance
    from unmask.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return str(checkpoint.network_config["name"]), checkpoint.provenance
