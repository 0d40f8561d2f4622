"""Read a bundle: the exported network and its spec, as the end of training writes them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.decision import Decision
from unmask.errors import BundleError, ConfigError
from unmask.faces.spec import CropSpec, InputSpec
from unmask.inference.onnx_wire import names_further_files
from unmask.models.bundle import BUNDLE_FORMAT, MODEL_FILE, SPEC_FILE, hash_file


@dataclass(frozen=True)
class Bundle:
    """What a bundle tells about its network.

    Args:
        folder: Holds `model.onnx` and `spec.json`.
        network: Name of the architecture.
        crop_spec: How the crops it was trained on were made.
        input_spec: How crops come into the network.
        decision: Threshold and aggregation, chosen on the validation split.
        class_names: Names of the labels 0 and 1.
        provenance: Run id, dataset, commit, seed and the like, plain values.
    """

    folder: Path
    network: str
    crop_spec: CropSpec
    input_spec: InputSpec
    decision: Decision
    class_names: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def model(self) -> Path:
        """The exported network."""
        return self.folder / MODEL_FILE


MAX_MODEL_BYTES = 1_000_000_000
"""A network of 250 million numbers."""

MAX_SPEC_BYTES = 1_000_000


def is_bundle(path: str | Path) -> bool:
    """Tell whether a path names a bundle rather than a checkpoint: a folder, or a file of ONNX or JSON."""
    path = Path(path)
    return path.is_dir() or path.suffix in (".onnx", ".json")


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle's spec, and check that its network is the one it was written with.

    Args:
        path: The folder, or the `model.onnx` or `spec.json` in it.

    Raises:
        BundleError: Something is absent, damaged, or of another format.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    for name in (MODEL_FILE, SPEC_FILE):
        if not (folder / name).is_file():
            raise BundleError(
                f"'{folder}' is no bundle: it has no '{name}'. Name the folder 'bundle' of a training, or a checkpoint."
            )
    for name, most in ((MODEL_FILE, MAX_MODEL_BYTES), (SPEC_FILE, MAX_SPEC_BYTES)):
        size = (folder / name).stat().st_size
        if size > most:
            raise BundleError(
                f"'{folder / name}' has {size:,} bytes, more than the {most:,} that are read. Name a bundle that "
                f"train.py wrote."
            )
    spec = _read_spec(folder / SPEC_FILE)
    try:
        bundle = _interpret(folder, spec)
        expected = spec["model_sha256"]
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise BundleError(
            f"'{folder / SPEC_FILE}' is not a whole spec of format {BUNDLE_FORMAT}: {type(error).__name__} {error}. "
            f"Copy the bundle again, whole."
        ) from error
    if hash_file(bundle.model) != expected:
        raise BundleError(
            f"'{bundle.model}' is not the network that '{SPEC_FILE}' describes: its SHA-256 is not '{expected}'. "
            f"It was damaged or exchanged; copy the bundle again, whole."
        )
    _check_is_alone(bundle.model)
    return bundle


def _check_is_alone(model: Path) -> None:
    """Raise unless a network has all its weights in itself."""
    try:
        has_further = names_further_files(model.read_bytes())
    except ValueError as error:
        raise BundleError(f"'{model}' cannot be read as a network: {error}. Copy the bundle again.") from error
    if has_further:
        raise BundleError(
            f"'{model}' names further files for its weights, and they could be any on this machine. It is not "
            f"read; name a bundle that train.py wrote."
        )


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"'{path}' cannot be read as JSON: {error}. Copy the bundle again, whole.") from error
    found = spec.get("format") if isinstance(spec, dict) else None
    if found != BUNDLE_FORMAT:
        raise BundleError(
            f"'{path}' has the format {found!r}, and this version of unmask reads {BUNDLE_FORMAT}. "
            f"Name a bundle that train.py wrote, or use the version that wrote it."
        )
    return dict(spec)


def _interpret(folder: Path, spec: dict[str, Any]) -> Bundle:
    return Bundle(
        folder=folder,
        network=str(spec["network"]),
        crop_spec=CropSpec.from_dict(spec["preprocessing"]),
        input_spec=InputSpec.from_dict(spec["input"]),
        decision=Decision.from_dict(spec["decision"]),
        class_names=tuple(spec["class_names"]),
        provenance=dict(spec["provenance"]),
    )
