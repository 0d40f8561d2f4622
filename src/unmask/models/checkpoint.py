"""Read Lightning checkpoints: their weights, and our own entry with everything that prediction needs.

PyTorch is imported only when needed, because prediction from a bundle works without it.
"""

import pickle
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unmask.decision import Decision
from unmask.errors import CheckpointError, ConfigError, suggest
from unmask.faces.spec import CropSpec, InputSpec
from unmask.paths import expand_home
from unmask.types import Array

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unmask.models.network import FaceNetwork

ENTRY = "unmask"
"""Key of our entry in the checkpoint."""

FORMAT = 2
"""Format of the entry. Format 1, where a network had a `name` and a `library`, is still read: `upgrade_network`."""

_FORMATS = (1, 2)

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
"""Checkpoints of a run: the best epoch, the latest state, from which training resumes, and the state before it."""

CURVES = "curves.csv"
"""Metrics of each epoch, in the run folder: beside the folder of the checkpoints."""

CLASS_NAMES = ("real", "fake")

_NETWORK_PREFIX = "network."
_MODULE_PREFIX = "network.module."

_OLD_TARGET = "unmask.models.network.FaceNetwork"
"""`_target_` of every network in format 1."""


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint.

    Args:
        path: Path of the file.
        network_config: `_target_` and arguments of the network, and its input settings, as plain values.
        state: Weights of the network.
        crop_spec: Spec of the crops that the network was trained on.
        input_spec: Spec of the network's input.
        decision: Threshold and aggregation, chosen on the validation split.
        class_names: Names of the labels 0 and 1.
        provenance: Run ID, dataset, commit, seed and more, as plain values.
        epoch: Number of finished epochs.
        batch: Number of batches trained in the next epoch.
        is_resumable: Whether it contains the state of the optimizer and schedule, as `last.ckpt` does.
        learning: Training settings by dotted key, as plain values; empty if not recorded.
        trusted_modules: Packages whose networks may be built, in addition to those of `unmask.trust`.
    """

    path: Path
    network_config: dict[str, Any]
    state: dict[str, Any]
    crop_spec: CropSpec
    input_spec: InputSpec
    decision: Decision
    class_names: tuple[str, ...]
    provenance: dict[str, Any]
    epoch: int
    batch: int
    is_resumable: bool = False
    learning: dict[str, Any] = field(default_factory=dict)
    trusted_modules: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """Name of the network."""
        return name_network(self.network_config)

    def build_network(self) -> "FaceNetwork":
        """Return the trained network in evaluation mode, on the CPU.

        Raises:
            UntrustedError: The network is from a package that is not trusted.
            CheckpointError: The weights do not fit the network.
        """
        from unmask.models.network import rebuild_network

        try:
            return rebuild_network(
                self.network_config, self.state, file=self.path, trusted_modules=self.trusted_modules
            )
        except (RuntimeError, TypeError, ValueError, ConfigError) as error:
            raise CheckpointError(f"The weights in '{self.path}' do not fit its network: {error}") from error


def name_network(config: Mapping[str, Any]) -> str:
    """Return the name of a network: the `name` argument of its builder, or the builder's own name.

    Args:
        config: Config node `model`, as plain values.
    """
    named = config.get("name") or config.get("model_name")
    return str(named or str(config.get("_target_", "")).rpartition(".")[2])


def upgrade_network(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the config of a network to the current format; in format 1 it had only a `name` and a `library`.

    Args:
        config: Config node `model`, as plain values.
    """
    if config.get("_target_", _OLD_TARGET) != _OLD_TARGET:
        return dict(config)
    kept = {key: value for key, value in config.items() if key not in ("_target_", "library")}
    name = str(kept.setdefault("name", "resnet18"))
    if config.get("library") == "timm":
        kept["image_size"] = kept.setdefault("input_size", 224)
        return {"_target_": "unmask.models.backbones.build_timm"} | kept
    return {"_target_": f"unmask.models.backbones.build_{'tiny' if name == 'tiny' else 'resnet'}"} | kept


def upgrade_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename weights to the current format; in format 1 the network did not wrap a module.

    Args:
        state: `state_dict` of the LightningModule.
    """
    old = [key for key in state if key.startswith(_NETWORK_PREFIX)]
    if any(key.startswith(_MODULE_PREFIX) for key in old):
        return dict(state)
    renamed = {key: f"{_MODULE_PREFIX}{key.removeprefix(_NETWORK_PREFIX)}" for key in old}
    return {renamed.get(key, key): value for key, value in state.items()}


def make_entry(
    *,
    network_config: dict[str, Any],
    crop_spec: CropSpec,
    decision: Decision,
    provenance: dict[str, Any],
    learning: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return our entry of a checkpoint, as plain values so that `torch.load(weights_only=True)` reads it."""
    return {
        "format": FORMAT,
        "network": network_config,
        "preprocessing": crop_spec.to_dict(),
        "preprocessing_hash": crop_spec.hash,
        "decision": decision.to_dict(),
        "class_names": list(CLASS_NAMES),
        "provenance": provenance,
        "learning": learning or {},
    }


def load_checkpoint(path: str | Path, *, trusted_modules: Sequence[str] = ()) -> Checkpoint:
    """Read a checkpoint without running any code in it.

    Args:
        path: File written by `train.py`.
        trusted_modules: Packages whose networks `build_network` may build, in addition to those of `unmask.trust`.

    Raises:
        CheckpointError: The file is missing or damaged, or not a checkpoint of Unmask.
    """
    path = Path(expand_home(str(path)))
    check_is_file(path)
    _check_start(path)
    import torch  # takes seconds, and a typo should fail fast

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"'{path}' contains more than plain values, and reading it could run code. "
            f"Use a checkpoint written by train.py."
        ) from error
    except Exception as error:  # torch.load raises many kinds of errors on invalid files
        reason = str(error) or "it is empty (0 bytes)"
        raise CheckpointError(
            f"'{path}' is not a readable checkpoint: {reason}. It may be truncated; copy it again."
        ) from error
    entry = content.get(ENTRY) if isinstance(content, dict) else None
    if not isinstance(entry, dict) or entry.get("format") not in _FORMATS:
        keys = ", ".join(map(str, list(content)[:6])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"'{path}' is not a checkpoint of Unmask: it has no '{ENTRY}' entry of format {FORMAT}, only {keys}. "
            f"Use a checkpoint written by train.py."
        )
    try:
        return replace(_interpret(path, content, entry), trusted_modules=tuple(trusted_modules))
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"'{path}' is not a complete checkpoint of format {FORMAT}: {type(error).__name__} {error}. "
            f"Train again, or use the version of unmask that wrote it."
        ) from error


def check_is_file(path: Path, *, key: str = "checkpoint", wanted: str = BEST) -> None:
    """Raise unless a path is a file outside a bundle; for a bundle or folder of a run, suggest its checkpoint.

    Args:
        path: Path as given.
        key: Config key of the path.
        wanted: File name of the checkpoint to suggest.

    Raises:
        CheckpointError: The path does not exist, or is a folder or part of a bundle.
    """
    is_bundle = path.suffix in (".onnx", ".json") or (path / "spec.json").is_file()
    if path.is_file() and not is_bundle:
        return
    if not path.exists():
        raise CheckpointError(f"No such file: {key}='{path}'. Train one with: python train.py dataset.root=...")
    folder = path if path.is_dir() else path.parent
    near = [place / wanted for place in (folder, folder / "checkpoints", folder.absolute().parent / "checkpoints")]
    found = next((file for file in near if file.is_file()), None)
    fix = (
        f"Use the checkpoint of the same run: {shlex.quote(f'{key}={found}')}" if found else f"Use {wanted} of its run"
    )
    raise CheckpointError(f"{key}='{path}' is {'a bundle' if is_bundle else 'a folder'}, not a checkpoint. {fix}.")


def _check_start(path: Path) -> None:
    """Raise for files such as images, which PyTorch would misleadingly report as able to run code."""
    with path.open("rb") as file:
        start = file.read(4)
    if start and not start.startswith((b"PK", b"\x80")):  # zip, and pickle
        raise CheckpointError(f"'{path}' is not a checkpoint. Use a file written by train.py, such as best.ckpt.")


def _interpret(path: Path, content: dict[str, Any], entry: dict[str, Any]) -> Checkpoint:
    weights = upgrade_weights(content["state_dict"])
    network = upgrade_network(entry["network"])
    epoch, batch = _find_progress(content)
    return Checkpoint(
        path=path,
        network_config=network,
        state={
            key.removeprefix(_NETWORK_PREFIX): value
            for key, value in weights.items()
            if key.startswith(_NETWORK_PREFIX)
        },
        crop_spec=CropSpec.from_dict(entry["preprocessing"]),
        input_spec=InputSpec.from_dict({"size": network["input_size"], **network}),
        decision=Decision.from_dict(entry["decision"]),
        class_names=tuple(entry["class_names"]),
        provenance=dict(entry["provenance"]),
        epoch=epoch,
        batch=batch,
        is_resumable="optimizer_states" in content,
        learning=dict(entry.get("learning", {})),
    )


def _find_progress(content: dict[str, Any]) -> tuple[int, int]:
    """Return the number of finished epochs and of batches in the next one, from Lightning's own counters."""
    if "loops" not in content:
        return int(content.get("epoch", 0)) + 1, 0
    loop = content["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    is_within = epochs["started"] > epochs["processed"]
    return int(epochs["processed"]), int(batches["processed"]) if is_within else 0


def choose_device(name: str) -> "torch.device":
    """Return a device; `auto` is the first GPU, or the CPU without one.

    Args:
        name: `auto`, or a torch device such as `cpu`, `cuda` or `cuda:1`.

    Raises:
        ConfigError: The device is unknown or unavailable.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        meant = suggest(name, ("auto", "cpu", "cuda", "mps"), key="device") if ":" not in str(name) else ""
        raise ConfigError(
            f"device={name} is not available: {reason}.{meant} Choose auto, cpu or another GPU."
        ) from error
    return device


def score_crops(network: "nn.Module", images: "torch.Tensor", *, device: "torch.device") -> list[float]:
    """Score a batch of crops in single precision.

    Args:
        network: Network in evaluation mode, on `device`.
        images: Crops as uint8, shape `(N, 3, size, size)`.
        device: Device of the network.

    Returns:
        P(fake) of each crop.
    """
    import torch

    with torch.inference_mode():
        logits = network(images.to(device, non_blocking=True)).float()
        scores: list[float] = torch.sigmoid(logits).reshape(-1).cpu().tolist()
        return scores


@dataclass
class Scorer:
    """Scores crops in memory with the network of a checkpoint, which it builds at the first call.

    Args:
        model: Checkpoint.
        device: `auto`, `cpu`, `cuda` ...
        batch_size: Number of crops per batch.
    """

    model: Checkpoint
    device: str = "auto"
    batch_size: int = 64
    _network: Any = field(default=None, init=False, repr=False)

    def score(self, videos: Sequence[Array]) -> list[list[float]]:
        """Return the score of each crop of each video, scored in common batches.

        Args:
            videos: Inputs of the network for each video, uint8, shape `(N, 3, size, size)`; `N` may be 0.
        """
        import torch

        target = choose_device(self.device)
        if self._network is None:
            self._network = self.model.build_network().to(target)
        filled = [crops for crops in videos if len(crops)]
        every = torch.from_numpy(np.concatenate(filled)) if filled else torch.empty(0)
        scores: list[float] = []
        for start in range(0, len(every), self.batch_size):
            scores += score_crops(self._network, every[start : start + self.batch_size], device=target)
        left = iter(scores)
        return [list(islice(left, len(crops))) for crops in videos]
