"""Find the models that this machine has."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from unmask.models.bundle import MODEL_FILE, SPEC_FILE


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
    first = known[0] if known else _describe(Path(given), name=given)
    return [first, *(model for model in found if model != first)]


def _search(folder: Path) -> list[ModelFile]:
    # MLflow's own copy of a bundle lies beside a file MLmodel.
    specs = [path.parent for path in folder.glob(f"**/{SPEC_FILE}") if (path.parent / MODEL_FILE).is_file()]
    bundles = [path for path in specs if not (path / "MLmodel").exists() and not _is_hidden(path.relative_to(folder))]
    runs = {path.parent for path in bundles}
    checkpoints = [path for path in folder.glob("**/checkpoints/best*.ckpt") if path.parents[1] not in runs]
    return [_describe(path, name=_call(path, folder)) for path in [*bundles, *checkpoints]]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)  # a bundle that is being written


def _call(path: Path, folder: Path) -> str:
    """Call a bundle after its run, and a checkpoint after its run and file."""
    below = path.relative_to(folder)
    if path.suffix == ".ckpt":
        return str(below)
    return str(below.parent if below.name == "bundle" and len(below.parts) > 1 else below)


def _describe(path: Path, *, name: str) -> ModelFile:
    file = path / MODEL_FILE if path.is_dir() else path
    try:
        return ModelFile(str(path) if "://" not in name else name, name, file.stat().st_mtime)
    except OSError:
        return ModelFile(name, name, 0.0)  # loading it will say what is wrong
