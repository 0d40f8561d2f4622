"""Find the models that this machine has."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from unmask.models.bundle import MODEL_FILE, SPEC_FILE
from unmask.paths import home_folder


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
