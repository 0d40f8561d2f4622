"""Find a trained network behind a path or an address, and make it ready to score."""

from importlib import import_module
from pathlib import Path

from unmask.inference.backend import Backend
from unmask.inference.bundle import Bundle, is_bundle, load_bundle
from unmask.inference.onnx_backend import OnnxBackend
from unmask.inference.torch_backend import TorchBackend
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.models.scoring import choose_device
from unmask.paths import expand_home

ADDRESSES = ("runs:/", "models:/")


def load_model(
    path: str | Path, *, device: str, num_threads: int | None = None, maps: bool = True
) -> tuple[Bundle | Checkpoint, Backend]:
    """Read a bundle or a checkpoint, and start what runs its network.

    Args:
        path: A folder, a file, or an address in MLflow.
        device: `auto`, `cpu`, `cuda` ...
        num_threads: Of ONNX Runtime on the CPU; None for one a core.
        maps: Whether activation maps are wanted where they cost more than the score.
    """
    path = find_model(str(path))
    if is_bundle(path):
        bundle = load_bundle(path)
        size = bundle.input_spec.size
        return bundle, OnnxBackend(bundle.model, device=device, input_size=size, num_threads=num_threads)
    checkpoint = load_checkpoint(path)
    target = choose_device(device)
    return checkpoint, TorchBackend(checkpoint.build_network().to(target), device=target, maps=maps)


def find_model(name: str) -> Path:
    """Return the path of a bundle or checkpoint; one that MLflow holds is fetched if it lies on a server.

    Args:
        name: A path, `runs:/<run id>`, `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        CheckpointError: MLflow is not installed, or does not have it.
    """
    if not name.startswith(ADDRESSES):
        return Path(expand_home(name))
    # By its name: prediction works without MLflow, and a service does not install it.
    found: Path = import_module("unmask.tracking.addresses").fetch_model(name)
    return found
