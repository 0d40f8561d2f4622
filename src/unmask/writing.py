"""Make one error of what the system says of a file that cannot be written."""

import errno
import io
import os
import re
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unmask.errors import OutputError

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
