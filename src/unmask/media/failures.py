"""Make one error of all that FFmpeg and PyAV raise on damaged media."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from unmask.errors import MediaError
from unmask.writing import is_of_disk

Item = TypeVar("Item")


def list_failures() -> tuple[type[Exception], ...]:
    """Return what PyAV raises on damaged media, and, of what it writes, on a full disk: see `is_of_output`."""
    import av

    return (av.FFmpegError, EOFError, ValueError, IndexError, ArithmeticError)


def is_of_output(error: Exception) -> bool:
    """Tell whether an error of FFmpeg's is one of the disk that it writes to, and not of the file that it reads."""
    return isinstance(error, OSError) and is_of_disk(error)


def tell_reason(error: Exception) -> str:
    """Return the words of an error without the file, which messages name already."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


@contextmanager
def name_failures(path: Path) -> Iterator[None]:
    """Raise a MediaError that names the file, whatever PyAV makes of it.

    Belongs around what reads and writes media alone: mistakes of other code raise the same errors, and shall be seen.
    A full disk is let through, for `unmask.writing.writing` to name the file that is written.

    Args:
        path: The file that is read.
    """
    try:
        yield
    except list_failures() as error:
        if is_of_output(error):
            raise
        raise MediaError(
            f"'{path}' cannot be read again and drawn: {tell_reason(error)}. Check that it plays to its end."
        ) from error


def name_failures_of(items: Iterable[Item], path: Path) -> Iterator[Item]:
    """Yield what is read, and raise as `name_failures` where reading fails; what the caller does with it is its own.

    Args:
        items: Frames, for example, which are read as they are asked for.
        path: The file that is read.
    """
    with name_failures(path):
        yield from items
