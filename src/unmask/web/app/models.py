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
from unmask.inference.predictor import PredictorSettings
from unmask.models.bundle import MODEL_FILE, SPEC_FILE
from unmask.paths import expand_home, home_folder
from unmask.tracking.addresses import ask_version_time, fetch_model

if TYPE_CHECKING:
    from unmask.inference.predictor import Predictor


MAX_FILES = 100
"""Maximum number of files at once; the results of all are kept."""

OF_APP = "this app, which its operator can raise in configs/local"
"""Owner of the file limits, as named in messages to visitors."""

IMAGES_MB = 200
"""Default of the environment variable `UNMASK_IMAGES_MB`: memory for the images of one visitor's files."""


@dataclass(frozen=True)
class Settings:
    """Settings of the app.

    Args:
        folders: Folders that are searched for models.
        predictor: Settings of the predictor.
        image_bytes: Memory for the images of one visitor's files; beyond it, images of older files are dropped.
    """

    folders: tuple[Path, ...]
    predictor: PredictorSettings
    image_bytes: int


def read_settings() -> Settings:
    """Read `configs/predict.yaml`, its overrides in `configs/local`, and the environment.

    Raises:
        ConfigError: Invalid key or variable.
    """
    from unmask.config import read_defaults

    cfg = read_defaults("predict")
    return Settings(
        folders=(Path(cfg.paths.output_dir), Path(cfg.paths.multirun_dir)),
        predictor=PredictorSettings.from_config(cfg),
        image_bytes=_read_image_bytes(),
    )


def _read_image_bytes() -> int:
    text = os.environ.get("UNMASK_IMAGES_MB") or str(IMAGES_MB)
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not 0 < megabytes < math.inf:
        raise ConfigError(
            f"UNMASK_IMAGES_MB='{text}' in the environment must be a number above 0: megabytes for the images of one "
            f"visitor's files. Set for example UNMASK_IMAGES_MB={IMAGES_MB}, or unset it."
        )
    return int(megabytes * 1e6)


def given_model() -> str | None:
    """Return the model given on the command line after `--`, or by the variable `UNMASK_CHECKPOINT`."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    return expand_home(named[0] if named else os.environ.get("UNMASK_CHECKPOINT") or "") or None


@dataclass(frozen=True)
class ModelFile:
    """A model that visitors can choose.

    Args:
        path: Folder of a bundle, a checkpoint, or an MLflow address.
        name: Name in the list.
        stamp: Modification time in seconds; 0 if unknown. It changes when the model is overwritten.
    """

    path: str
    name: str
    stamp: float

    @property
    def key(self) -> str:
        """Key of its widgets; it appears in the page, which must not reveal the path."""
        return hashlib.sha256(self.path.encode(errors="surrogatepass")).hexdigest()[:12]

    @property
    def place(self) -> str:
        """Its location as visitors may see it; see `place_of`."""
        return place_of(self.path)

    @property
    def made(self) -> str:
        """The formatted modification time."""
        return f"{datetime.fromtimestamp(self.stamp):%d %b %Y, %H:%M}" if self.stamp else "date unknown"

    @property
    def label(self) -> str:
        """Name and date."""
        return f"{self.name} · {self.made}"


def list_models(folders: Iterable[Path], *, given: str | None = None) -> list[ModelFile]:
    """List the given model first, then bundles and checkpoints below the folders, newest first.

    A run's checkpoint is omitted if the run has a bundle: both give the same score, and the bundle loads faster.
    """
    found = sorted((model for folder in folders for model in _search(folder)), key=lambda model: -model.stamp)
    if given is None:
        return found
    known = [model for model in found if Path(model.path).resolve() == Path(given).resolve()]
    first = known[0] if known else _describe(given, name=place_of(given))
    return [first, *(model for model in found if model != first)]


def place_of(path: str) -> str:
    """Return the part of a path that visitors may see, without the folder names of this machine.

    Args:
        path: Path below `UNMASK_HOME` or the working folder, which becomes relative to it; any other path is reduced to
            the name of the run. An MLflow address is returned unchanged.
    """
    if ":/" in path:
        return path
    absolute = Path(os.path.abspath(path))
    for name in (home_folder(), "."):
        root = Path(os.path.abspath(name))  # not resolved: a symlink below it may point anywhere
        if root in absolute.parents and root != root.parent:
            return str(absolute.relative_to(root))
    if absolute.parent.name == "checkpoints":
        return absolute.parents[1].name
    return (absolute.parent.name if absolute.name == "bundle" else "") or absolute.name


def _search(folder: Path) -> list[ModelFile]:
    # MLflow keeps its own copy of a bundle beside a file MLmodel.
    specs = [path.parent for path in folder.glob(f"**/{SPEC_FILE}") if (path.parent / MODEL_FILE).is_file()]
    bundles = [path for path in specs if not (path / "MLmodel").exists() and not _is_hidden(path.relative_to(folder))]
    runs = {path.parent for path in bundles}
    checkpoints = [path for path in folder.glob("**/checkpoints/best*.ckpt") if path.parents[1] not in runs]
    return [_describe(str(path), name=_call(path, folder)) for path in [*bundles, *checkpoints]]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)  # a bundle being written


def _call(path: Path, folder: Path) -> str:
    """Name a bundle after its run, and a checkpoint after its run and file."""
    below = path.relative_to(folder)
    if path.suffix == ".ckpt":
        return str(below)
    return str(below.parent if below.name == "bundle" and len(below.parts) > 1 else below)


def _describe(path: str, *, name: str) -> ModelFile:
    file = Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)
    try:
        return ModelFile(path, name, file.stat().st_mtime)
    except OSError:
        return ModelFile(path, name, 0.0)  # loading it will report the error


ALIAS_SECONDS = 60.0
"""How long an answer from MLflow is cached; the page reruns at every click."""


@dataclass
class Alias:
    """An alias in MLflow's registry, such as `models:/faces@best`, and the age of its version.

    Args:
        name: Name of the registered model.
        alias: Alias of one of its versions.
        stamp: Creation time of that version in seconds; 0 until MLflow has answered.
        asked: Time of the last request to MLflow, on the monotonic clock.
    """

    name: str
    alias: str
    stamp: float = 0.0
    asked: float = -ALIAS_SECONDS

    def find_stamp(self) -> float:
        """Return the creation time of its version, asking MLflow at most once a minute.

        Without an answer the loaded model stays in use: reloading would fail too.
        """
        if time.monotonic() - self.asked >= ALIAS_SECONDS:
            self.asked = time.monotonic()  # set before the answer, so that other visitors do not wait too
            self.stamp = ask_version_time(self.name, self.alias) or self.stamp
        return self.stamp


def follow_aliases(files: Sequence[ModelFile]) -> list[ModelFile]:
    """Set the stamp of models given by alias to that of their version, so that a new version is loaded.

    Args:
        files: Models; those given by path are unchanged, and do not import MLflow.
    """
    return [_follow(file) for file in files]


def _follow(file: ModelFile) -> ModelFile:
    found = re.fullmatch(r"models:/([^/@]+)@([^/]+)", file.path)
    if found is None:
        return file
    alias: Alias = st.cache_resource(_remember, show_spinner=False)(*found.groups())
    return replace(file, stamp=alias.find_stamp())


def _remember(name: str, alias: str) -> Alias:
    """Create the alias that all visitors share."""
    return Alias(name, alias)


_MAX_MODELS = 4


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Args:
        file: Its entry in the list.
        path: Bundle or checkpoint on this machine.
        predictor: Predictor of the model.
        network: Name of the architecture.
        provenance: Run ID, dataset, commit, seed and so on.
        lock: Lock held while scoring: visitors take turns, so that memory use does not grow with their number.
    """

    file: ModelFile
    path: Path
    predictor: "Predictor"
    network: str
    provenance: dict[str, Any]
    lock: threading.Lock

    @property
    def title(self) -> str:
        """Its run, network and training data.

        Older models do not record the name of their run; then the file name is used, unless it is a run ID.
        """
        file = "" if self.file.name.startswith("runs:/") else self.file.name
        return name_model(self.provenance | {"run_name": self.run_name or file}, network=self.network)

    @property
    def run_name(self) -> str:
        """Name of its training run; empty if not recorded."""
        return str(self.provenance.get("run_name") or "")


def load_model(file: ModelFile, settings: Settings) -> Model:
    """Load a bundle, without PyTorch, or a checkpoint; the four used last stay loaded.

    Raises:
        CheckpointError: Missing, damaged or foreign file; code in a file is never run.
        SpecMismatchError: The detector's weights differ from those that made the model's crops.
    """
    cached = st.cache_resource(_load, max_entries=_MAX_MODELS, show_spinner="Loading the model")
    model: Model = cached(file, settings)
    return model


def _load(file: ModelFile, settings: Settings) -> Model:
    path = fetch_model(file.path)
    network, provenance = _read_facts(path)
    return Model(file, path, settings.predictor.load(path), network, provenance, threading.Lock())


def _read_facts(path: Path) -> tuple[str, dict[str, Any]]:
    from unmask.models.bundle import is_bundle, load_bundle

    if is_bundle(path):
        bundle = load_bundle(path)
        return bundle.network, bundle.provenance
    from unmask.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return checkpoint.network, checkpoint.provenance
