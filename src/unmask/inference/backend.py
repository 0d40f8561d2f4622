"""What runs the network: ONNX Runtime for a bundle, PyTorch for a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unmask.errors import BundleError, ConfigError

Floats = npt.NDArray[np.float32]

_OUTPUTS = ["logit", "activation_map"]


@dataclass(frozen=True)
class Scored:
    """What a network says of a batch of crops.

    Args:
        scores: P(fake), shape `(N,)`.
        activation_maps: High where the crop looks fake, shape `(N, h, w)`; None from a network without such maps.
    """

    scores: Floats
    activation_maps: Floats | None


class Backend(Protocol):
    """Scores batches of prepared crops."""

    @property
    def name(self) -> str:
        """`onnx` or `torch`."""
        ...

    def score(self, images: npt.NDArray[np.uint8]) -> Scored:
        """Score a batch.

        Args:
            images: RGB, shape `(N, 3, size, size)`, N at least 1.
        """
        ...


class OnnxBackend:
    """Runs an exported network with ONNX Runtime.

    Args:
        path: Of `model.onnx`.
        device: `auto`, `cpu`, `cuda` or `cuda:<n>`.
        input_size: Side of the pictures it must take; None for any.
        num_threads: On the CPU; None for one a core. Several processes side by side should have one each.

    Raises:
        BundleError: The file is no network, or not one of ours.
        ConfigError: The device is not there.
    """

    name = "onnx"

    def __init__(
        self, path: Path, *, device: str = "auto", input_size: int | None = None, num_threads: int | None = None
    ) -> None:
        import onnxruntime

        providers = _choose_providers(device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if num_threads is not None:
            options.intra_op_num_threads = options.inter_op_num_threads = num_threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
        except Exception as error:  # its own exceptions share no base but this one
            reason = str(error).splitlines()[0]
            raise BundleError(f"'{path}' cannot be read as a network: {reason}. Copy the bundle again.") from error
        inputs, outputs = self._session.get_inputs(), [item.name for item in self._session.get_outputs()]
        if "logit" not in outputs or [item.name for item in inputs] != ["images"]:
            raise BundleError(f"'{path}' is a network of something else: its outputs are {', '.join(outputs)}.")
        shape = [3, input_size or "size", input_size or "size"]
        if inputs[0].type != "tensor(uint8)" or (input_size and list(inputs[0].shape[1:]) != shape):
            raise BundleError(
                f"'{path}' takes {inputs[0].type} of shape {inputs[0].shape}, where its spec says uint8 of "
                f"['N', {', '.join(map(str, shape))}]. Copy the bundle again, whole."
            )
        self._outputs = [name for name in _OUTPUTS if name in outputs]

    def score(self, images: npt.NDArray[np.uint8]) -> Scored:
        """Score a batch."""
        found = dict(zip(self._outputs, self._session.run(self._outputs, {"images": images}), strict=True))
        return Scored(_sigmoid(found["logit"]), found.get("activation_map"))


class TorchBackend:
    """Runs a network with PyTorch.

    Args:
        network: In evaluation mode, on `device`; takes uint8 of shape `(N, 3, size, size)`, returns logits.
        device: A `torch.device`.
    """

    name = "torch"

    def __init__(self, network: Any, *, device: Any) -> None:
        self.network = network
        self.device = device

    def score(self, images: npt.NDArray[np.uint8]) -> Scored:
        """Score a batch."""
        import torch

        from unmask.models.export import NetworkWithMap
        from unmask.models.network import FaceNetwork

        batch = torch.from_numpy(images).to(self.device)
        has_map = isinstance(self.network, FaceNetwork) and hasattr(self.network.head, "weight")
        with torch.inference_mode():
            if not has_map:
                return Scored(_sigmoid(self.network(batch).float().cpu().numpy()), None)
            logits, maps = NetworkWithMap(self.network).eval()(batch)
        return Scored(_sigmoid(logits.float().cpu().numpy()), maps.float().cpu().numpy())


def _sigmoid(logits: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -logits.reshape(-1).astype(np.float64))).astype(np.float32)


def _choose_providers(device: str, available: list[str]) -> list[Any]:
    kind, _, number = device.partition(":")
    has_gpu = "CUDAExecutionProvider" in available
    if kind == "cpu" or (kind == "auto" and not has_gpu):
        return ["CPUExecutionProvider"]
    if kind not in ("auto", "cuda") or not has_gpu or (number and not number.isdigit()):
        raise ConfigError(
            f"device={device} cannot be used: ONNX Runtime has {', '.join(available)} here. Choose auto or cpu, or "
            f"install onnxruntime-gpu."
        )
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
