"""What the service keeps below its folder beside the jobs: a lock, and a copy of its model."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unmask.errors import ConfigError, OutputError
from unmask.inference.bundle import is_bundle, load_bundle
from unmask.inference.loading import find_model
from unmask.models.bundle import SPEC_FILE
from unmask.web.api.settings import ModelSettings
from unmask.writing import describe_refusal, is_of_disk, writing

_LOCK, _COPY = "unmask.lock", ".model-"
_OF_DISKS = frozenset({"lost+found"})  # which stands in the root of a volume


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Have a folder alone: two services in one would take each other's jobs.

    Args:
        folder: Of the service; it is made if need be.

    Raises:
        ConfigError: Another service has it, it holds something else, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = sorted({path.name for path in folder.iterdir()} - _OF_DISKS)
        if strange and _LOCK not in strange:  # what a service deletes must be its own
            raise ConfigError(
                f"folder={folder} holds '{strange[0]}' and is no service's. Give one that is empty or not there."
            )
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"The service cannot write in folder={folder}: {error}. Give another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go of by the system, however the service ends
        except BlockingIOError as error:
            raise ConfigError(
                f"Another service works in folder={folder}. Stop it, or give this one a folder of its own."
            ) from error
        except OSError as error:
            raise ConfigError(f"The disk of folder={folder} knows no locks: {error}. Give another folder.") from error
        yield


@contextmanager
def copied_model(model: ModelSettings, folder: Path) -> Iterator[ModelSettings]:
    """Copy the model for as long as a service runs, and longer where it is killed: until the next one starts.

    A process that starts late, since the one before it ended, would otherwise load what lies at the path by then:
    half of the verdicts would be another training's.

    Args:
        model: Its path names the original.
        folder: Of the service.

    Raises:
        BundleError: It is a bundle, and not whole.
        ConfigError: The model cannot be copied.
        OutputError: The folder's disk is full.
    """
    for old in folder.glob(f"{_COPY}*"):
        shutil.rmtree(old, ignore_errors=True)
    with writing(folder):
        copy = Path(tempfile.mkdtemp(prefix=_COPY, dir=folder))
    try:
        yield replace(model, path=str(_copy(find_model(model.path), copy)))
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _copy(original: Path, copy: Path) -> Path:
    files = [original]
    if is_bundle(original):
        bundle = load_bundle(original)
        files = [bundle.model, bundle.folder / SPEC_FILE]
    elif not original.is_file():
        return original  # whoever loads it says what is wrong
    try:
        for file in files:
            shutil.copyfile(file, copy / file.name)
    except OSError as error:
        if is_of_disk(error):
            raise OutputError(describe_refusal(error, copy / files[-1].name)) from error
        raise ConfigError(f"The model cannot be copied to '{copy}': {error}. Give another folder.") from error
    return copy / original.name if len(files) == 1 else copy
