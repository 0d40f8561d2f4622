"""Every error that a user can fix, and the suggestions in their messages.

The commands print these as one message and end with exit code 2; anything else is a bug of ours and keeps its
traceback.
"""

import difflib
import re
import signal
from collections.abc import Iterable


class UnmaskError(Exception):
    """Base of all errors that a user can mend: says what was wrong, where, and how to mend it."""


class ConfigError(UnmaskError):
    """A key or value of the configuration is wrong."""


class SourceError(UnmaskError):
    """A raw dataset is absent or not laid out as its reader expects."""


class MediaError(UnmaskError):
    """An image or video cannot be read."""


class LimitError(MediaError):
    """An image or video is over a limit that can be raised.

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
"""Names without their signs, in small letters. Where a choice does not offer what is meant, the name says nothing."""


def find_meant(name: object, choices: Iterable[str]) -> str | None:
    """Return the choice that a name means: spelled otherwise, known elsewhere, or the nearest; None for no such.

    Args:
        name: As given.
        choices: Names of today.
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
    """Return a question that names the choice which is meant, behind a space; "" where none is near.

    Args:
        name: As given.
        choices: Names of today.
        key: Is shown before the choice, as `key=choice`.
    """
    meant = find_meant(name, choices)
    return "" if meant is None else f" Did you mean '{f'{key}=' if key else ''}{meant}'?"


def strip_signs(name: str) -> str:
    """Return a name in small letters, without the signs by which people spell it differently."""
    return re.sub(r"[\W_]", "", name.lower().replace("++", "plusplus"))
