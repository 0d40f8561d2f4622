"""Run the network: ONNX Runtime for a bundle, without PyTorch, or PyTorch for a checkpoint; in full batches."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from unmask.errors import BundleError, CheckpointError, ConfigError
from unmask.faces.crop import as_stored, cut_crop, prepare_input, stack_planes
from unmask.faces.spec import CropSpec, InputSpec
from unmask.inference.results import FaceScore, FrameResult
from unmask.models.bundle import Bundle, is_bundle, load_bundle
from unmask.models.checkpoint import Checkpoint, choose_device, load_checkpoint
from unmask.paths import expand_home
from unmask.types import Array, Face, Frame, Image

if TYPE_CHECKING:
    from unmask.models.heatmaps import GradCam, NetworkWithMap

ADDRESSES = ("runs:/", "models:/")
"""Prefixes of MLflow addresses, which callers resolve."""

Floats = npt.NDArray[np.float32]

_OUTPUTS = ["logit", "activation_map"]

_CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Scored:
    """Scores and activation maps of a batch of crops.

    Args:
        scores: P(fake), shape `(N,)`.
        activation_maps: Activation maps, high where the crop looks fake, shape `(N, h, w)`; None if the network has
        none.
            Grad-CAM maps are scaled to [0, 1], others are unscaled: compare positions within a map, not maps.
    """

    scores: Floats
    activation_maps: Floats | None


class Backend(Protocol):
    """Scores batches of prepared crops."""

    @property
    def name(self) -> str:
        """`onnx` or `torch`."""
        ...

    @property
    def num_streams(self) -> int:
        """Number of concurrent calls of `score` for large workloads."""
        ...

    def score(self, images: npt.NDArray[np.uint8], *, in_stream: bool = False) -> Scored:
        """Score a batch.

        Args:
            images: RGB, shape `(N, 3, size, size)`, N at least 1.
            in_stream: Whether up to `num_streams - 1` other calls run at the same time, in other threads.
        """
        ...


def to_scores(logits: npt.NDArray[np.floating]) -> Floats:
    """Return P(fake) of logits of any shape, flattened."""
    return np.exp(-np.logaddexp(0.0, -logits.reshape(-1).astype(np.float64))).astype(np.float32)


class TorchBackend:
    """Runs a network with PyTorch.

    Args:
        network: In evaluation mode, on `device`; takes uint8 of shape `(N, 3, size, size)` and returns logits `(N,)`. A
            `FaceNetwork` has maps.
        device: A `torch.device`.
        maps: Whether a network without class activation maps gets maps too, by Grad-CAM, which more than doubles the
            time.
    """

    name = "torch"
    num_streams = 1  # PyTorch's threads are those of the whole process

    def __init__(self, network: Any, *, device: Any, maps: bool = True) -> None:
        self.network = network
        self.device = device
        self._maps = maps
        self._lock = Lock()

    def score(self, images: npt.NDArray[np.uint8], *, in_stream: bool = False) -> Scored:
        """Score a batch."""
        import torch

        from unmask.models.network import FaceNetwork

        batch = torch.from_numpy(images).to(self.device)
        is_ours = isinstance(self.network, FaceNetwork)
        has_map = is_ours and self.network.has_map
        if self._maps and is_ours and not has_map:
            with self._lock:  # the package keeps what it saw between the passes
                logits, found = self._grad_cam.score(batch)
            return Scored(to_scores(logits.float().cpu().numpy()), found)
        with torch.inference_mode():
            if not has_map:
                return Scored(to_scores(self.network(batch).float().cpu().numpy()), None)
            logits, maps = self._with_map(batch)
        return Scored(to_scores(logits.float().cpu().numpy()), maps.float().cpu().numpy())

    @cached_property
    def _with_map(self) -> "NetworkWithMap":
        from unmask.models.heatmaps import NetworkWithMap

        return NetworkWithMap(self.network).eval()

    @cached_property
    def _grad_cam(self) -> "GradCam":
        from unmask.models.heatmaps import GradCam

        return GradCam(self.network)


class OnnxBackend:
    """Runs an exported network with ONNX Runtime.

    Args:
        path: File `model.onnx`.
        device: `auto`, `cpu`, `cuda` or `cuda:<n>`.
        input_size: Side of the images that it must take; None for any.
        num_threads: Threads on the CPU; None for one a core. Several processes side by side should have one each.

    Raises:
        BundleError: The file is not a network, or not one of ours.
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
            raise BundleError(f"'{path}' is not a network of Unmask: its outputs are {', '.join(outputs)}.")
        shape = [3, input_size or "size", input_size or "size"]
        if inputs[0].type != "tensor(uint8)" or (input_size and list(inputs[0].shape[1:]) != shape):
            raise BundleError(
                f"'{path}' takes {inputs[0].type} of shape {inputs[0].shape}, but its spec says uint8 of "
                f"['N', {', '.join(map(str, shape))}]. Copy the whole bundle again."
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
        """Return a second session, opened on first use: for one image it would waste time and memory.

        The threads of one call wait for each other at every layer. While other threads prepare crops on the same cores,
        single-threaded calls have a higher throughput.
        """
        with self._opening:
            if self._stream is None and _identify(self._path) == self._identity:
                self._stream = _open_session(self._path, self._providers, num_threads=1)
        return self._stream or self._session  # the file may have been replaced or deleted


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
        raise BundleError(f"'{path}' is not a valid ONNX network: {reason}. Copy the bundle again.") from error


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


def load_model(
    path: str | Path,
    *,
    device: str,
    num_threads: int | None = None,
    maps: bool = True,
    trusted_modules: Sequence[str] = (),
) -> tuple[Bundle | Checkpoint, Backend]:
    """Read a bundle or a checkpoint, and create the backend of its network.

    Args:
        path: Folder or file of a bundle, or file of a checkpoint.
        device: `auto`, `cpu`, `cuda` ...
        num_threads: Threads of ONNX Runtime on the CPU; None for one a core.
        maps: Whether to compute activation maps that cost more than the score.
        trusted_modules: Packages whose networks may be built, beside those of `unmask.trust`.

    Raises:
        CheckpointError: The file is absent, damaged or of something else, or the path is an address in MLflow.
    """
    if str(path).startswith(ADDRESSES):
        raise CheckpointError(
            f"'{path}' is an address in MLflow, not a path. Fetch the model and give its path: "
            f"unmask.Predictor.load(unmask.fetch_model({str(path)!r}))"
        )
    path = Path(expand_home(str(path)))
    if is_bundle(path):
        bundle = load_bundle(path)
        size = bundle.input_spec.size
        return bundle, OnnxBackend(bundle.model, device=device, input_size=size, num_threads=num_threads)
    checkpoint = load_checkpoint(path, trusted_modules=trusted_modules)
    target = choose_device(device)
    return checkpoint, TorchBackend(checkpoint.build_network().to(target), device=target, maps=maps)


_Scores = list[tuple[float, Array | None]]


class Score(Protocol):
    """Gives P(fake) and the activation map of each crop."""

    def __call__(self, crops: Sequence[Image], *, in_stream: bool = False) -> _Scores:
        """Score crops, in one of several streams or with the whole machine."""
        ...


class Scorer:
    """Collect the faces of frames, and score them in threads while the next ones are cut out.

    OpenCV, FFmpeg and the networks release the GIL, so that they run in parallel. Use it as a context manager.

    Args:
        cut: Function that cuts a face out of a frame; should be fast, since the streams can do the rest.
        score: Function that scores the cuts.
        batch_size: Crops scored at the same time, in all streams together; about three times as many are held.
        num_streams: Calls of `score` that go side by side.
    """

    def __init__(self, cut: Callable[[Image, Face], Image], score: Score, *, batch_size: int, num_streams: int) -> None:
        self._cut = cut
        self._score = score
        self._part_size = max(batch_size // num_streams, 1)
        self._most_parts = 2 * num_streams
        self._frames: list[tuple[int, float, list[Face]]] = []
        self._crops: list[Image] = []
        self._scores: _Scores = []
        self._threads = ThreadPoolExecutor(max_workers=num_streams)
        self._running: deque[Future[_Scores]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def add(self, frame: Frame, faces: Sequence[Face]) -> None:
        """Take a frame and its faces; the frame may be forgotten then."""
        self._frames.append((frame.index, frame.time_seconds, list(faces)))
        for face in faces:
            self._crops.append(self._cut(frame.image, face))
            if len(self._crops) > self._part_size:  # one is kept back: a few faces alone are scored in one call
                self._submit(self._part_size)

    def finish(self) -> list[FrameResult]:
        """Return the frames, the faces of each numbered as they came."""
        if self._running or self._scores:
            self._submit(len(self._crops))
            while self._running:
                self._collect()
        else:
            self._scores = self._score(self._crops)
        scores = iter(self._scores)
        return [
            FrameResult(index, seconds, tuple(_join(number, face, *next(scores)) for number, face in enumerate(faces)))
            for index, seconds, faces in self._frames
        ]

    def _submit(self, count: int) -> None:
        while len(self._running) >= self._most_parts:
            self._collect()
        part, self._crops = self._crops[:count], self._crops[count:]
        self._running.append(self._threads.submit(self._score, part, in_stream=True))

    def _collect(self) -> None:
        self._scores += self._running.popleft().result()


class CropScorer:
    """Cut faces out of frames as a model's training data was cut, and score the crops.

    Args:
        backend: Backend that runs the network.
        crop_spec: Crop spec.
        input_spec: Input spec of the network.
        batch_size: Number of crops scored at once.
    """

    def __init__(self, backend: Backend, crop_spec: CropSpec, input_spec: InputSpec, *, batch_size: int) -> None:
        self._backend, self._batch_size = backend, batch_size
        self._crop_spec, self._input_spec = crop_spec, input_spec

    def start(self) -> Scorer:
        """Return a scorer of frames; a call of the network for a single crop would cost too much."""
        num_streams = max(min(self._backend.num_streams, self._batch_size // 4), 1)
        return Scorer(self._cut, self._score, batch_size=self._batch_size, num_streams=num_streams)

    def _cut(self, image: Image, face: Face) -> Image:
        # Images that were crops already are indexed where they lie, neither cut nor encoded again.
        if self._crop_spec.detector == "none":
            return prepare_input(image, self._input_spec)
        return cut_crop(image, face, self._crop_spec)

    def _score(self, crops: Sequence[Image], *, in_stream: bool = False) -> _Scores:
        if self._crop_spec.detector != "none":
            crops = [prepare_input(as_stored(crop, self._crop_spec), self._input_spec) for crop in crops]
        scores: _Scores = []
        for start in range(0, len(crops), self._batch_size):
            batch = stack_planes(crops[start : start + self._batch_size])
            scored = self._backend.score(batch, in_stream=in_stream)
            if not np.isfinite(scored.scores).all():
                raise CheckpointError(
                    "The network returned NaN or infinity for a crop: its weights are damaged. Train again."
                )
            maps = scored.activation_maps
            scores += [
                (float(score), None if maps is None else maps[position].copy())
                for position, score in enumerate(scored.scores)
            ]
        return scores


def _join(number: int, face: Face, score: float, activation_map: Array | None) -> FaceScore:
    return FaceScore(number, face.box, face.confidence, score, face.landmarks, activation_map)
