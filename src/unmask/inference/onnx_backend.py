"""ONNX Runtime, which runs the network of a bundle without PyTorch."""

import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from unmask.errors import BundleError, ConfigError
from unmask.inference.backend import Scored, to_scores

_OUTPUTS = ["logit", "activation_map"]

_CPU = "CPUExecutionProvider"


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
        self._path, self._providers, self._identity = path, providers, _identify(path)
        self._session = _open_session(path, providers, num_threads=num_threads)
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
        is_free = providers[0] == _CPU and num_threads is None
        self.num_streams = len(os.sched_getaffinity(0)) if is_free else 1
        self._stream: Any = None
        self._opening = Lock()

    def score(self, images: npt.NDArray[np.uint8], *, in_stream: bool = False) -> Scored:
        """Score a batch: with all threads, or in a stream with one."""
        session = self._get_stream() if in_stream and self.num_streams > 1 else self._session
        found = dict(zip(self._outputs, session.run(self._outputs, {"images": images}), strict=True))
        return Scored(to_scores(found["logit"]), found.get("activation_map"))

    def _get_stream(self) -> Any:
        """Return a second session, opened when first needed: for one picture it would be time and memory for nothing.

        Threads of one call wait for each other at every layer. While others prepare crops on the same cores, calls of
        one thread each get more done.
        """
        with self._opening:
            if self._stream is None and _identify(self._path) == self._identity:
                self._stream = _open_session(self._path, self._providers, num_threads=1)
        return self._stream or self._session  # the file may be another network's by now, or gone


def _identify(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _open_session(path: Path, providers: list[Any], *, num_threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if num_threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = num_threads
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as error:  # its own exceptions share no base but this one
        reason = str(error).splitlines()[0]
        raise BundleError(f"'{path}' cannot be read as a network: {reason}. Copy the bundle again.") from error


def _choose_providers(device: str, available: list[str]) -> list[Any]:
    kind, _, number = device.partition(":")
    has_gpu = "CUDAExecutionProvider" in available
    if kind == "cpu" or (kind == "auto" and not has_gpu):
        return [_CPU]
    if kind not in ("auto", "cuda") or not has_gpu or (number and not number.isdigit()):
        raise ConfigError(
            f"device={device} cannot be used: ONNX Runtime has {', '.join(available)} here. Choose auto or cpu, or "
            f"install onnxruntime-gpu."
        )
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), _CPU]
