"""Path handling: path-valued keys, `~` expansion, shell-quoted commands, atomic writes and write errors."""

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
        "checkpoint", "resume", "weights", "splits", "protocol", "lists", "shards", "scores",
    }
)  # fmt: skip
"""Last words of keys whose value is a file or folder (`source.root`, `paths.output_dir`, `detector_weights`).

A naming rule instead of a list of keys, so that it also covers users' own packages.
"""


def is_path_key(key: str) -> bool:
    """Tell from the last word of a key whether its value is a path.

    Args:
        key: Dotted key, such as `source.root`.
    """
    return key.rpartition(".")[2].rpartition("_")[2] in PATH_WORDS


def expand_home(path: str) -> str:
    """Return a path with a leading `~` or `~user` replaced by the home folder.

    Args:
        path: Path, or a `sqlite:///` or `file://` URI such as `sqlite:///~/mlflow.db`.
    """
    for scheme in ("sqlite:///", "file://"):
        if path.startswith(f"{scheme}~"):
            return scheme + os.path.expanduser(path.removeprefix(scheme))
    return os.path.expanduser(path)


def home_folder() -> Path:
    """Return the root folder of all outputs: `$UNMASK_HOME`, or the working folder."""
    return Path(expand_home(os.environ.get("UNMASK_HOME") or "."))


CONSOLE_VARIABLE = "UNMASK_CONSOLE"
"""Environment variable that the console script `unmask` sets, so that messages show its commands, not `python ...`."""


def show_command(*arguments: object) -> str:
    """Return a command line quoted for pasting into a shell.

    Args:
        arguments: Program and arguments, such as `"train.py", f"dataset.root={root}"`.
    """
    program, *others = map(str, arguments)
    if CONSOLE_VARIABLE in os.environ and program.endswith(".py"):
        return shlex.join(["unmask", Path(program).stem, *others])
    return shlex.join(["python", program, *others])


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
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
    """Turn operating system errors while writing a file into an OutputError that names it.

    Wrap only code that writes: reading raises some of the same errors.

    Args:
        path: Final path of the file, not that of the temporary part file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_DISKS | _OF_PATHS:
            raise
        raise OutputError(describe_refusal(error, path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically; an interruption leaves the previous version.

    Raises:
        OutputError: The disk is full, or the folder is not writable.
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
    """Tell whether an error can only come from writing: the disk is full or read-only."""
    return error.errno in _OF_DISKS


def describe_refusal(error: OSError, path: Path | None = None) -> str:
    """Return a message with the file that could not be written, the reason and the fix.

    Args:
        error: Error from the operating system.
        path: File that was written; None takes it from the error or its traceback.
    """
    place = path or _find_file(error)
    name = "an output file" if place is None else f"'{place}'"
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno not in _FULL:
        return f"Cannot write {name}: {reason}. Choose a writable folder."
    return f"Cannot write {name}: {reason}{_tell_free(place)}. Free some disk space."


def _find_file(error: OSError) -> Path | None:
    """Return the file that could not be written; when the disk is full, the error does not name it."""
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
    return "" if folder is None else f" ({shutil.disk_usage(folder).free / 1e6:.0f} MB free)"


def remove_parts(folder: Path, *, is_deep: bool = True) -> None:
    """Remove part files in a folder, and by default below it, that killed processes left behind."""
    for path in list(folder.rglob(".*.part*") if is_deep else folder.glob(".*.part*")):
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
