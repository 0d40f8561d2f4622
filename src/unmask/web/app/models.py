"""The app's settings and the models it finds, follows and loads."""

import hashlib
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from unmask.errors import ConfigError
from unmask.forgeries import name_model
from unmask.inference.settings import PredictorSettings
from unmask.models.bundle import MODEL_FILE, SPEC_FILE
from unmask.paths import expand_home, home_folder
from unmask.web.addresses import ask_version_time, find_model

if TYPE_CHECKING:
    from unmask.inference.predictor import Predictor


MAX_FILES = 100
"""Files looked at in one go; the results of all of them are held."""

OF_APP = "this app, which its operator can raise in configs/local"
"""Whose limits those of files are, as visitors are told."""

PICTURES_MB = 200
"""What the pictures of one visitor's files may take, where the environment's `UNMASK_PICTURES_MB` says nothing."""


@dataclass(frozen=True)
class Settings:
    """Settings of the app.

    Args:
        folders: Below which models are looked for.
        predictor: How models are loaded.
        picture_bytes: Memory for the pictures of one visitor's files; beyond it those of older files are let go.
    """

    folders: tuple[Path, ...]
    predictor: PredictorSettings
    picture_bytes: int


def read_settings() -> Settings:
    """Read `configs/predict.yaml`, with what `configs/local` changes in it, and the environment.

    Raises:
        ConfigError: A key of it or a variable is wrong.
    """
    from unmask.config import read_defaults

    cfg = read_defaults("predict")
    return Settings(
        folders=(Path(cfg.paths.output_dir), Path(cfg.paths.multirun_dir)),
        predictor=PredictorSettings.from_config(cfg),
        picture_bytes=_read_picture_bytes(),
    )


def _read_picture_bytes() -> int:
    text = os.environ.get("UNMASK_PICTURES_MB") or str(PICTURES_MB)
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not 0 < megabytes < math.inf:
        raise ConfigError(
            f"UNMASK_PICTURES_MB='{text}' in the environment must be a number above 0: the megabytes that the pictures "
            f"of one visitor's files may take. Write such as UNMASK_PICTURES_MB={PICTURES_MB}, or leave it out."
        )
    return int(megabytes * 1e6)


def given_model() -> str | None:
    """Return the model that was named on the command line after `--`, or by the environment's `UNMASK_CHECKPOINT`."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    return expand_home(named[0] if named else os.environ.get("UNMASK_CHECKPOINT") or "") or None


@dataclass(frozen=True)
class ModelFile:
    """A model that can be chosen.

    Args:
        path: Folder of a bundle, a checkpoint, or an address in MLflow.
        name: What it is called in a list.
        stamp: When it was written, in seconds; 0 where that is not known. A model written anew has another one.
    """

    path: str
    name: str
    stamp: float

    @property
    def key(self) -> str:
        """Tells its widgets from those of other models; they are in the page, which must not name the path."""
        return hashlib.sha256(self.path.encode(errors="surrogatepass")).hexdigest()[:12]

    @property
    def place(self) -> str:
        """Where it lies, as visitors may know it; see `place_of`."""
        return place_of(self.path)

    @property
    def made(self) -> str:
        """The date of writing in words."""
        return f"{datetime.fromtimestamp(self.stamp):%d %b %Y, %H:%M}" if self.stamp else "date unknown"

    @property
    def label(self) -> str:
        """Name and date."""
        return f"{self.name} · {self.made}"


def list_models(folders: Iterable[Path], *, given: str | None = None) -> list[ModelFile]:
    """List the model that was named first, then bundles and checkpoints below the folders, newest first.

    A run's checkpoint is left out where the run has a bundle: they give the same score, and the bundle starts faster.
    """
    found = sorted((model for folder in folders for model in _search(folder)), key=lambda model: -model.stamp)
    if given is None:
        return found
    known = [model for model in found if Path(model.path).resolve() == Path(given).resolve()]
    first = known[0] if known else _describe(given, name=place_of(given))
    return [first, *(model for model in found if model != first)]


def place_of(path: str) -> str:
    """Return the part of a path that visitors may see: how this machine's folders are named is not their business.

    Args:
        path: Below `UNMASK_HOME` or the working folder, it is relative to it; elsewhere the name of the run is all that
            is left. An address in MLflow stays as it is.
    """
    if ":/" in path:
        return path
    absolute = Path(os.path.abspath(path))
    for name in (home_folder(), "."):
        root = Path(os.path.abspath(name))  # not resolved: a link below it may lead anywhere
        if root in absolute.parents and root != root.parent:
            return str(absolute.relative_to(root))
    if absolute.parent.name == "checkpoints":
        return absolute.parents[1].name
    return (absolute.parent.name if absolute.name == "bundle" else "") or absolute.name


def _search(folder: Path) -> list[ModelFile]:
    # MLflow's own copy of a bundle lies beside a file MLmodel.
    specs = [path.parent for path in folder.glob(f"**/{SPEC_FILE}") if (path.parent / MODEL_FILE).is_file()]
    bundles = [path for path in specs if not (path / "MLmodel").exists() and not _is_hidden(path.relative_to(folder))]
    runs = {path.parent for path in bundles}
    checkpoints = [path for path in folder.glob("**/checkpoints/best*.ckpt") if path.parents[1] not in runs]
    return [_describe(str(path), name=_call(path, folder)) for path in [*bundles, *checkpoints]]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)  # a bundle that is being written


def _call(path: Path, folder: Path) -> str:
    """Call a bundle after its run, and a checkpoint after its run and file."""
    below = path.relative_to(folder)
    if path.suffix == ".ckpt":
        return str(below)
    return str(below.parent if below.name == "bundle" and len(below.parts) > 1 else below)


def _describe(path: str, *, name: str) -> ModelFile:
    file = Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)
    try:
        return ModelFile(path, name, file.stat().st_mtime)
    except OSError:
        return ModelFile(path, name, 0.0)  # loading it will say what is wrong


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
            self.stamp = ask_version_time(self.name, self.alias) or self.stamp
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
