"""Every exception that tells a user what to mend.

The commands print these as one message and end with exit code 2; anything else is a bug of ours and keeps its
traceback.
"""

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


class LimitError(MediaError):
    """A picture or video is over a limit that can be raised.

    Args:
        problem: What is over it, as a sentence.
        limit: Key of the limit, on the command lines that have one.
        needed: The least value that would let the file pass.
        instead: What else helps, such as "scale it down".
    """

    def __init__(self, problem: str, limit: str, needed: float, instead: str) -> None:
        super().__init__(problem, limit, needed, instead)  # all of them, so that it goes from process to process
        self.problem, self.limit, self.needed, self.instead = problem, limit, needed, instead

    def __str__(self) -> str:
        return f"{self.problem} Raise the limit with {self.limit}={self.needed}, or {self.instead}."

    def tell_guest(self, *, where: str) -> str:
        """Say the same to somebody who cannot set the limit.

        Args:
            where: What has it and who sets it, such as "this service, whose operator can raise it".
        """
        return f"{self.problem} {self.instead[0].upper()}{self.instead[1:]}: {self.limit} is a limit of {where}."


def names_limit(message: str) -> bool:
    """Tell whether a message that was kept is of a file over a limit, which may be another by now."""
    return "Raise the limit with " in message


def tell_guest(error: UnmaskError, *, where: str) -> str:
    """Return the words of an error for somebody who sends a file and sets nothing; see `LimitError.tell_guest`."""
    return error.tell_guest(where=where) if isinstance(error, LimitError) else str(error)


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


class UntrustedError(CheckpointError):
    """A file names code that is not run for a file unless the user allows its package."""


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
