"""Paths: which keys hold them, `~` in them, commands that name them, and files that cannot be written."""

import errno
import hashlib
import io
import os
import re
import shlex
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unmask.errors import OutputError

PATH_WORDS = frozenset(
    {
        "root", "dir", "subdir", "folder", "file", "path", "inputs", "output", "table", "csv", "db",
        "checkpoint", "resume", "weights", "splits",
    }
)  # fmt: skip
"""A key whose last word (`source.root`, `paths.output_dir`, `detector_weights`) is one of these names a file or folder.

A rule of names rather than a list of keys: it holds for the parts of a user's own package too.
"""


def is_path_key(key: str) -> bool:
    """Tell whether the value of a key is a path, by the last word of its name.

    Args:
        key: Dotted, such as `source.root`.
    """
    return key.rpartition(".")[2].rpartition("_")[2] in PATH_WORDS


def expand_home(path: str) -> str:
    """Return a path with a leading `~` or `~user` replaced by the home folder.

    Args:
        path: Also one in the address of a sqlite file or `file:`, such as `sqlite:///~/mlflow.db`.
    """
    for scheme in ("sqlite:///", "file://"):
        if path.startswith(f"{scheme}~"):
            return scheme + os.path.expanduser(path.removeprefix(scheme))
    return os.path.expanduser(path)


def home_folder() -> Path:
    """Return the folder that everything is written under: the environment's `UNMASK_HOME`, or the working folder."""
    return Path(expand_home(os.environ.get("UNMASK_HOME") or "."))


CONSOLE_VARIABLE = "UNMASK_CONSOLE"
"""Set where the console script `unmask` runs, so that commands are shown as they were typed."""


def show_command(*arguments: object) -> str:
    """Return a command as a shell takes it when it is pasted, whatever its paths are called.

    Args:
        arguments: The program and each of its arguments, such as `"train.py", f"dataset.root={root}"`.
    """
    program, *others = map(str, arguments)
    if CONSOLE_VARIABLE in os.environ and program.endswith(".py"):
        return shlex.join(["unmask", Path(program).stem, *others])
    return shlex.join(["python", program, *others])


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OF_DISKS = _FULL | {errno.EROFS}
_OF_PATHS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
_PART = re.compile(r"\..+\.(\d+)\.part(\.\w+)?")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise an OutputError that names a file, whatever keeps it from being written.

    Belongs around what writes alone: reading fails with some of the same errors.

    Args:
        path: The file, as its reader knows it: not the part that takes its place at the end.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_DISKS | _OF_PATHS:
            raise
        raise OutputError(describe_refusal(error, path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that is either whole or as it was, whatever interrupts.

    Raises:
        OutputError: The disk is full, or the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def is_of_disk(error: OSError) -> bool:
    """Tell whether only a write can have failed so: the disk is full, or can only be read."""
    return error.errno in _OF_DISKS


def describe_refusal(error: OSError, path: Path | None = None) -> str:
    """Say which file could not be written, why, and what helps.

    Args:
        error: Of the system.
        path: The file; None takes the one that the error names, or that was being written.
    """
    place = path or _find_file(error)
    name = "an output file" if place is None else f"'{place}'"
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno not in _FULL:
        return f"Cannot write {name}: {reason}. Name a folder that can be written to."
    return f"Cannot write {name}: {reason}{_tell_free(place)}. Make room on its disk."


def _find_file(error: OSError) -> Path | None:
    """Return the file that could not be written; the system names it where it is opened, and not where it is full."""
    if isinstance(error.filename, str | bytes):
        return Path(os.fsdecode(error.filename))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        for value in frame.f_locals.values():
            name = getattr(value, "name", None) if isinstance(value, io.IOBase) else None
            if isinstance(name, str) and Path(name).exists():
                return Path(name)
    return None


def _tell_free(path: Path | None) -> str:
    folder = next((folder for folder in (path.parents if path else ()) if folder.is_dir()), None)
    return "" if folder is None else f" ({shutil.disk_usage(folder).free / 1e6:.0f} MB are free)"


def remove_parts(folder: Path) -> None:
    """Remove what processes that were killed left half-written below a folder."""
    for path in list(folder.rglob(".*.part*")):
        found = _PART.fullmatch(path.name)
        if found and not _is_alive(int(found[1])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
