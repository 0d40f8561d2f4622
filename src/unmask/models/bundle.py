"""Write and read bundles: folders with everything that prediction without PyTorch needs.

A bundle may be untrusted. ONNX Runtime opens any file that a tensor refers to, and Protocol Buffers allow fields in any
order and encoding. So the fields of the network are parsed one by one, without the onnx package, which services do not
install (protobuf.dev/programming-guides/encoding, onnx/onnx.proto).
"""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.decision import Decision
from unmask.errors import BundleError, ConfigError
from unmask.faces.spec import CropSpec, InputSpec
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.paths import hash_file, writing
from unmask.trust import list_packages

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from unmask.models.network import FaceNetwork

BUNDLE_FORMAT = 1

MODEL_FILE = "model.onnx"

SPEC_FILE = "spec.json"

MAX_MODEL_BYTES = 1_000_000_000
"""Maximum size of `model.onnx`: 250 million float32 parameters."""

MAX_SPEC_BYTES = 1_000_000

MAX_FIELDS = 2_000_000
"""Maximum number of fields, parsed in a few seconds; our networks have a few thousand, timm's up to 100,000 or so."""

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14

# Fields of each message whose messages may contain a tensor at any depth.
_PLACES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


@dataclass(frozen=True)
class Bundle:
    """Contents of a bundle.

    Args:
        folder: Folder that contains `model.onnx` and `spec.json`.
        network: Name of the architecture.
        crop_spec: Spec of the crops that the network was trained on.
        input_spec: Spec of the network's input.
        decision: Threshold and aggregation, chosen on the validation split.
        class_names: Names of the labels 0 and 1.
        provenance: Run ID, dataset, commit, seed and more, as plain values.
    """

    folder: Path
    network: str
    crop_spec: CropSpec
    input_spec: InputSpec
    decision: Decision
    class_names: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder

    @property
    def model(self) -> Path:
        """The exported network."""
        return self.folder / MODEL_FILE


def write_bundle(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write `model.onnx` and `spec.json` atomically: an interruption leaves an existing folder unchanged.

    Args:
        checkpoint: Checkpoint to export.
        folder: Folder to write; replaced if it exists.

    Raises:
        OutputError: The disk is full, or the folder is not writable.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            export_onnx(checkpoint.build_network(), part / MODEL_FILE)
            spec = _describe(checkpoint, sha256=hash_file(part / MODEL_FILE))
            (part / SPEC_FILE).write_text(json.dumps(spec, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            if folder.exists():
                folder.rename(old)  # a folder that is not empty cannot be replaced in one step
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    return folder


def try_bundle(path: str | Path, folder: Path, *, own: Any) -> Path | None:
    """Write the bundle of a new checkpoint, or log a warning if its network cannot be exported to ONNX.

    Args:
        path: Path of the checkpoint.
        folder: Folder to write; replaced if it exists.
        own: Config of the network; packages named in it are trusted.
    """
    try:
        return write_bundle(load_checkpoint(path, trusted_modules=list_packages(own)), folder)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:  # errors of the exporter
        logger.warning("No bundle: the network of '%s' cannot be exported to ONNX: %s", path, error)
        return None


def export_onnx(network: "FaceNetwork", path: Path) -> None:
    """Export a network to ONNX.

    The input `images` is uint8 RGB, shape `(N, 3, size, size)`. The outputs are `logit`, shape `(N,)`, whose sigmoid is
    P(fake), and `activation_map`, shape `(N, h, w)`, high where the face looks fake. The second output is absent
    if the network has no class activation map.

    Args:
        network: Network on the CPU.
        path: File to write.
    """
    import torch

    from unmask.models.heatmaps import NetworkWithMap

    was_training = network.training
    model = (NetworkWithMap(network) if network.has_map else network).eval()
    outputs = ["logit", "activation_map"] if network.has_map else ["logit"]
    size = network.input_spec.size
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        # The newer exporter takes six times as long and writes a report to standard output.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, size, size, dtype=torch.uint8),),
            str(path),
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "N"} for name in ("images", *outputs)},
            opset_version=17,
            dynamo=False,
        )
    network.train(was_training)


def _describe(checkpoint: Checkpoint, *, sha256: str) -> dict[str, Any]:
    return {
        "format": BUNDLE_FORMAT,
        "network": checkpoint.network,
        "network_config": checkpoint.network_config,
        "model_sha256": sha256,
        "preprocessing": checkpoint.crop_spec.to_dict(),
        "preprocessing_hash": checkpoint.crop_spec.hash,
        "input": checkpoint.input_spec.to_dict(),
        "decision": checkpoint.decision.to_dict(),
        "class_names": list(checkpoint.class_names),
        "provenance": checkpoint.provenance,
    }


def is_bundle(path: str | Path) -> bool:
    """Return whether a path is a bundle (a folder, an ONNX file or a JSON file) rather than a checkpoint."""
    path = Path(path)
    return path.is_dir() or path.suffix in (".onnx", ".json")


def load_bundle(path: str | Path) -> Bundle:
    """Read the spec of a bundle, and check that it describes the network beside it.

    Args:
        path: Folder of the bundle, or the `model.onnx` or `spec.json` in it.

    Raises:
        BundleError: A file is missing, damaged or of another format.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    for name in (MODEL_FILE, SPEC_FILE):
        if not (folder / name).is_file():
            raise BundleError(
                f"'{folder}' is not a bundle: '{name}' is missing. Use the folder 'bundle' of a training run, "
                f"or a checkpoint."
            )
    for name, most in ((MODEL_FILE, MAX_MODEL_BYTES), (SPEC_FILE, MAX_SPEC_BYTES)):
        size = (folder / name).stat().st_size
        if size > most:
            raise BundleError(
                f"'{folder / name}' has {size:,} bytes, more than the maximum of {most:,}. Use a bundle written by "
                f"train.py."
            )
    spec = _read_spec(folder / SPEC_FILE)
    try:
        bundle = _interpret(folder, spec)
        expected = spec["model_sha256"]
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise BundleError(
            f"'{folder / SPEC_FILE}' is not a complete spec of format {BUNDLE_FORMAT}: {type(error).__name__} {error}. "
            f"Copy the whole bundle again."
        ) from error
    if hash_file(bundle.model) != expected:
        raise BundleError(
            f"'{bundle.model}' is not the network that '{SPEC_FILE}' describes: its SHA-256 is not '{expected}'. "
            f"It is damaged or was replaced. Copy the whole bundle again."
        )
    _check_is_alone(bundle.model)
    return bundle


def _check_is_alone(model: Path) -> None:
    """Raise if a network stores weights in other files."""
    try:
        has_further = names_further_files(model.read_bytes())
    except ValueError as error:
        raise BundleError(f"'{model}' is not a valid ONNX network: {error}. Copy the bundle again.") from error
    if has_further:
        raise BundleError(
            f"'{model}' refers to external files for its weights, which could be any file on this machine. "
            f"Use a bundle written by train.py."
        )


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"'{path}' is not valid JSON: {error}. Copy the whole bundle again.") from error
    found = spec.get("format") if isinstance(spec, dict) else None
    if found != BUNDLE_FORMAT:
        raise BundleError(
            f"'{path}' has format {found!r}, but this version of unmask reads format {BUNDLE_FORMAT}. "
            f"Use a bundle written by train.py, or the version of unmask that wrote this one."
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


def names_further_files(data: bytes) -> bool:
    """Return whether an ONNX file stores values of a tensor in another file.

    Args:
        data: Contents of the file.

    Raises:
        ValueError: It is not a valid ONNX file, or has too many fields.
    """
    waiting, num_fields = [("model", 0, len(data))], 0
    while waiting:  # a stack, because deeply nested messages would exceed the recursion limit
        message, start, end = waiting.pop()
        for number, first, last in _list_fields(data, start, end):
            num_fields += 1
            if num_fields > MAX_FIELDS:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            if message == "tensor" and _is_external(data, number, first, last):
                return True
            inner = _PLACES[message].get(number)
            if inner is not None:
                waiting.append((inner, first, last))
    return False


def _is_external(data: bytes, number: int, first: int, last: int) -> bool:
    # A location of 0, the default, means this file.
    return number == _EXTERNAL_DATA or (number == _DATA_LOCATION and data[first:last].strip(b"\x80\0") != b"")


def _list_fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field, and the start and end of its value."""
    while start < end:
        tag, start = _read_varint(data, start, end)
        tag &= 0xFFFFFFFF  # readers drop higher bits
        kind = tag & 7
        if kind == _VARINT:
            stop = _read_varint(data, start, end)[1]
        elif kind == _BYTES:
            length, start = _read_varint(data, start, end)
            stop = start + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = start + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"unexpected field of wire type {kind}")  # groups, which ONNX does not use
        if stop > end:
            raise ValueError("it is cut off")
        yield tag >> 3, start, stop
        start = stop


def _read_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return an integer, and the position after it."""
    value = 0
    for place in range(start, min(start + 10, end)):
        value |= (data[place] & 0x7F) << 7 * (place - start)
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError("it is cut off")
