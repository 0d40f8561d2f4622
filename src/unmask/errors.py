"""Errors that a user can fix, and the "did you mean" suggestions in their messages.

Commands print these errors without a traceback and exit with code 2. Any other exception is a bug in Unmask and keeps
its traceback.
"""

import difflib
import re
import signal
from collections.abc import Iterable


class UnmaskError(Exception):
    """Base class of all errors that a user can fix; the message says what is wrong, where, and how to fix it."""


class ConfigError(UnmaskError):
    """A configuration key or value is invalid."""


class SourceError(UnmaskError):
    """A raw dataset is missing or does not have the layout its reader expects."""


class MediaError(UnmaskError):
    """An image or video cannot be read."""


class LimitError(MediaError):
    """An image or video exceeds a configurable limit.

    Args:
        problem: Sentence describing what exceeds the limit.
        limit: Configuration key of the limit, for commands that have one.
        needed: Smallest value that would admit the file.
        instead: Alternative fix, such as "scale it down".
    """

    def __init__(self, problem: str, limit: str, needed: float, instead: str) -> None:
        super().__init__(problem, limit, needed, instead)  # all four, so that the error can be pickled
        self.problem, self.limit, self.needed, self.instead = problem, limit, needed, instead

    def __str__(self) -> str:
        return f"{self.problem} Raise the limit with {self.limit}={self.needed}, or {self.instead}."

    def tell_guest(self, *, where: str) -> str:
        """Return the message for a user who cannot set the limit.

        Args:
            where: Where the limit applies and who can raise it, such as "this service, whose operator can raise it".
        """
        return f"{self.problem} {self.instead[0].upper()}{self.instead[1:]}: {self.limit} is a limit of {where}."


def names_limit(message: str) -> bool:
    """Tell whether a stored message reports a file over a limit, which may have been raised since."""
    return "Raise the limit with " in message


def tell_guest(error: UnmaskError, *, where: str) -> str:
    """Return an error message for a user who cannot change settings; see `LimitError.tell_guest`."""
    return error.tell_guest(where=where) if isinstance(error, LimitError) else str(error)


class DetectorError(UnmaskError):
    """A face detector or its weights cannot be used."""


class DatasetError(UnmaskError):
    """A face dataset is missing, incomplete or unsuitable for the requested task."""


class LeakageError(DatasetError):
    """A group, identity or video appears in more than one split."""


class SpecMismatchError(UnmaskError):
    """Crops were preprocessed differently from those the model was trained on."""


class CheckpointError(UnmaskError):
    """A checkpoint is missing, damaged or not an Unmask checkpoint."""


class BundleError(CheckpointError):
    """A bundle is incomplete, damaged or in an unknown format."""


class UntrustedError(CheckpointError):
    """A file names code from a package that the user has not trusted."""


class TrainingError(UnmaskError):
    """Training cannot continue: the loss is not a number, or a batch ran out of memory."""


class TrackingError(UnmaskError):
    """The MLflow tracking store cannot be used."""


class OutputError(UnmaskError):
    """A file cannot be written because the disk is full or the folder is not writable; existing files are kept."""


class Interrupted(BaseException):
    """Shutdown requested by a signal. Not an `Exception`, so that error handlers do not swallow it.

    Args:
        signal_number: Signal received, such as `signal.SIGTERM`.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """Exit code by shell convention: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal_number


def list_problems(problems: Iterable[str], *, limit: int = 10) -> str:
    """Join the first problems, one per line, and count the rest.

    Args:
        problems: Problems, one line of text each.
        limit: Maximum number of problems shown.
    """
    lines = list(problems)
    shown = "\n".join(f"  {line}" for line in lines[:limit])
    return f"{shown}\n  ... and {len(lines) - limit} more" if len(lines) > limit else shown


_KNOWN_ELSEWHERE = {
    "avg": "mean", "average": "mean", "maximum": "max", "youden": "balanced_accuracy", "eqerr": "eer",
    "16": "fp16", "16mixed": "fp16", "float16": "fp16", "half": "fp16", "amp": "fp16", "mixed": "fp16",
    "bf16mixed": "bf16", "bfloat16": "bf16", "32": "fp32", "32true": "fp32", "float32": "fp32", "full": "fp32",
    "gpu": "cuda", "nvidia": "cuda", "cuda": "gpu", "metal": "mps", "distributeddataparallel": "ddp",
    "validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test",
    "balanced": "weighted", "random": "natural",
    "cosineannealinglr": "cosine", "cosineannealing": "cosine", "cosinewarmup": "cosine",
    "reducelronplateau": "plateau", "onecyclelr": "onecycle", "1cycle": "onecycle", "constant": "none",
    "crossentropy": "bce", "ce": "bce", "bcewithlogits": "bce", "bcewithlogitsloss": "bce", "focalloss": "focal",
    "mtcnn": "retinaface_mobilenet", "scrfd": "retinaface_mobilenet", "insightface": "retinaface_mobilenet",
    "blazeface": "retinaface_mobilenet", "mediapipe": "retinaface_mobilenet", "yolo": "retinaface_mobilenet",
    "dlib": "retinaface_mobilenet", "retinafaceresnet50": "retinaface", "opencv": "haar", "cascade": "haar",
    "ff": "ffpp", "ffplusplus": "ffpp", "faceforensics": "ffpp", "faceforensicsplusplus": "ffpp", "ffc23": "ffpp",
    "imagefolder": "image_folder", "folder": "image_folder", "images": "image_folder", "drawn": "synthetic",
    "selfblended": "sbi", "selfblending": "sbi", "wandb": "mlflow", "tensorboard": "mlflow",
}  # fmt: skip
"""Common aliases, stripped as by `strip_signs`. An alias is ignored where its target is not among the choices."""


def find_meant(name: object, choices: Iterable[str]) -> str | None:
    """Return the choice that a name most likely means, or None without a close match.

    Matches other spellings first, then common aliases, then the most similar choice.

    Args:
        name: Name as the user typed it.
        choices: Valid names.
    """
    known = list(choices)
    spelled = {strip_signs(choice): choice for choice in reversed(known)}
    stripped = strip_signs(str(name))
    meant = _KNOWN_ELSEWHERE.get(stripped)
    if stripped in spelled or meant in known:
        return spelled.get(stripped, meant)
    near = difflib.get_close_matches(str(name), known, n=1) or difflib.get_close_matches(stripped, spelled, n=1)
    return spelled.get(near[0], near[0]) if near else None


def suggest(name: object, choices: Iterable[str], *, key: str = "") -> str:
    """Return " Did you mean '...'?" with a leading space, or "" without a close match.

    Args:
        name: Name as the user typed it.
        choices: Valid names.
        key: Key shown before the choice, as `key=choice`.
    """
    meant = find_meant(name, choices)
    return "" if meant is None else f" Did you mean '{f'{key}=' if key else ''}{meant}'?"


def strip_signs(name: str) -> str:
    """Return a name in lower case without punctuation, so that spelling variants compare equal."""
    return re.sub(r"[\W_]", "", name.lower().replace("++", "plusplus"))
