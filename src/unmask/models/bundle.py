"""Write a bundle: a folder with all that prediction needs, so that it runs without PyTorch."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from unmask.models.checkpoint import Checkpoint
from unmask.writing import writing

BUNDLE_FORMAT = 1

MODEL_FILE = "model.onnx"

SPEC_FILE = "spec.json"


def write_bundle(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write `model.onnx` and `spec.json`; the folder is either whole or as it was, whatever interrupts.

    Args:
        checkpoint: Of `load_checkpoint`, old ones too.
        folder: Replaced if it exists.

    Raises:
        OutputError: The disk is full, or the folder cannot be written to.
    """
    from unmask.models.export import export_onnx

    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            export_onnx(checkpoint.build_network(), part / MODEL_FILE)
            spec = _describe(checkpoint, sha256=hash_file(part / MODEL_FILE))
            (part / SPEC_FILE).write_text(json.dumps(spec, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            if folder.exists():
                folder.rename(old)  # a folder with files in it cannot be replaced in one step
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    return folder


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(checkpoint: Checkpoint, *, sha256: str) -> dict[str, Any]:
    return {
        "format": BUNDLE_FORMAT,
        "network": checkpoint.network_config["name"],
        "model_sha256": sha256,
        "preprocessing": checkpoint.crop_spec.to_dict(),
        "preprocessing_hash": checkpoint.crop_spec.hash,
        "input": checkpoint.input_spec.to_dict(),
        "decision": checkpoint.decision.to_dict(),
        "class_names": list(checkpoint.class_names),
        "provenance": checkpoint.provenance,
    }
