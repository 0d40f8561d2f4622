"""A bundle: a folder with all that prediction needs, so that it runs without PyTorch; written here, and read.

A bundle may come from a stranger. ONNX Runtime opens whatever file a tensor names, and Protocol Buffers leave the order
and spelling of fields to whoever writes them; so the fields of the network are walked one by one, without the library
of ONNX, which no service installs (protobuf.dev/programming-guides/encoding, onnx/onnx.proto).
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
"""A network of 250 million numbers."""

MAX_SPEC_BYTES = 1_000_000

MAX_FIELDS = 2_000_000
"""Some seconds. A network of ours has a few thousand, the largest of timm's some hundred thousand."""

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14

# By message: in which fields there are messages that can hold a tensor at last.
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
    def path(self) -> Path:
        """The folder."""
        return self.folder

    @property
    def model(self) -> Path:
        """The exported network."""
        return self.folder / MODEL_FILE


def write_bundle(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write `model.onnx` and `spec.json`; the folder is either whole or as it was, whatever interrupts.

    Args:
        checkpoint: Checkpoint to export, also an old one.
        folder: Folder to write; replaced if it exists.

    Raises:
        OutputError: The disk is full, or the folder cannot be written to.
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
                folder.rename(old)  # a folder with files in it cannot be replaced in one step
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    return folder


def try_bundle(path: str | Path, folder: Path, *, own: Any) -> Path | None:
    """Write the bundle of a checkpoint just trained; log a warning where its network cannot be exported to ONNX.

    Args:
        path: Path of the checkpoint.
        folder: Folder to write; replaced if it exists.
        own: Configuration of the network; the packages that it names are trusted.
    """
    try:
        return write_bundle(load_checkpoint(path, trusted_modules=list_packages(own)), folder)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:  # what the exporter fails with
        logger.warning("No bundle: the network of '%s' cannot be exported to ONNX: %s", path, error)
        return None


def export_onnx(network: "FaceNetwork", path: Path) -> None:
    """Write a network as ONNX.

    Its input `images` is uint8 RGB of shape `(N, 3, size, size)`; its outputs are `logit`, shape `(N,)`, whose sigmoid
    is P(fake), and `activation_map`, shape `(N, h, w)`, high where the face looks fake. A network without a
    class activation map has only the first output.

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
        # The newer exporter takes six times as long, and writes its own report to standard output.
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


def names_further_files(data: bytes) -> bool:
    """Tell whether a tensor of an ONNX file has its values in another file.

    Args:
        data: The whole file.

    Raises:
        ValueError: It is none, or one such as no exporter writes.
    """
    waiting, num_fields = [("model", 0, len(data))], 0
    while waiting:  # a list of its own, since messages in messages would exhaust a recursion
        message, start, end = waiting.pop()
        for number, first, last in _list_fields(data, start, end):
            num_fields += 1
            if num_fields > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS:,} fields")
            if message == "tensor" and _is_external(data, number, first, last):
                return True
            inner = _PLACES[message].get(number)
            if inner is not None:
                waiting.append((inner, first, last))
    return False


def _is_external(data: bytes, number: int, first: int, last: int) -> bool:
    # A location that is written out as 0 is the default: in this file.
    return number == _EXTERNAL_DATA or (number == _DATA_LOCATION and data[first:last].strip(b"\x80\0") != b"")


def _list_fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field, and the first and last byte of its value."""
    while start < end:
        tag, start = _read_varint(data, start, end)
        tag &= 0xFFFFFFFF  # readers drop what is above
        kind = tag & 7
        if kind == _VARINT:
            stop = _read_varint(data, start, end)[1]
        elif kind == _BYTES:
            length, start = _read_varint(data, start, end)
            stop = start + length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = start + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"a field of kind {kind} is in it")  # groups, which ONNX does not have
        if stop > end:
            raise ValueError("it is cut off")
        yield tag >> 3, start, stop
        start = stop


def _read_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return a whole number, and the place behind it."""
    value = 0
    for place in range(start, min(start + 10, end)):
        value |= (data[place] & 0x7F) << 7 * (place - start)
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError("it is cut off")
