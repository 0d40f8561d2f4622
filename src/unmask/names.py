"""Names that people know from elsewhere, and what the same thing is called here."""

import difflib
import re
from collections.abc import Iterable

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
