"""Every exception that tells a user what to mend.

The commands print these as one message and end with exit code 2; anything else is a bug of ours and keeps its
traceback.
"""

import re
import shlex
import signal
from collections.abc import Iterable


class UnmaskError(Exception):
    """Base of all errors that a user can mend: says what was wrong, where, and how to mend it."""


class ConfigError(UnmaskError):
    """A key or value of the configuration is wrong."""


class SourceError(UnmaskError):
    """A raw dataset is absent or not laid out as its reader expects."""


class MediaError(UnmaskError):
    """A picture or video cannot be read."""


class DetectorError(UnmaskError):
    """A face detector or its weights cannot be used."""


class DatasetError(UnmaskError):
    """A face dataset is absent, incomplete or unfit for what was asked."""


class LeakageError(DatasetError):
    """A group, identity or video stands in more than one split."""


class SpecMismatchError(UnmaskError):
    """A model meets crops that were made otherwise than those it was trained on."""


class CheckpointError(UnmaskError):
    """A checkpoint is absent, damaged or of something else."""


class BundleError(CheckpointError):
    """A bundle is incomplete, damaged or of another format."""


class TrainingError(UnmaskError):
    """A training cannot go on: its loss is no number, or a batch does not fit into the memory."""


class TrackingError(UnmaskError):
    """The store that runs are tracked in cannot be used."""


class OutputError(UnmaskError):
    """A file cannot be written: its disk is full, or its folder refuses it. What was there before still is."""


class Interrupted(BaseException):
    """Somebody wants the process to end. Not an error, so that nothing that handles errors holds it up.

    Args:
        signal_number: That said so, such as `signal.SIGTERM`.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal_number


def list_problems(problems: Iterable[str], *, limit: int = 10) -> str:
    """Join the first problems, one a line, and say how many more there are.

    Args:
        problems: One line of text each.
        limit: How many are shown.
    """
    lines = list(problems)
    shown = "\n".join(f"  {line}" for line in lines[:limit])
    return f"{shown}\n  ... and {len(lines) - limit} more" if len(lines) > limit else shown


def show_command(program: str, **values: object) -> str:
    """Return a command as it can be pasted into a shell, whatever its paths are called.

    Args:
        program: Such as `train.py`.
        values: By key of the command line; `__` in a key stands for its dot.
    """
    arguments = [f"{key.replace('__', '.')}={_quote_value(str(value))}" for key, value in values.items()]
    return shlex.join(["python", program, *arguments])


def _quote_value(value: str) -> str:
    """Quote what Hydra's grammar would not read as plain text."""
    if re.fullmatch(r"[\w.+@%/-]+", value, re.ASCII):
        return value
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), value)
    return f'"{escaped.replace("${", chr(92) + "${")}"'
