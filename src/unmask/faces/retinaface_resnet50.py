"""RetinaFace with a ResNet-50 backbone from retinaface-pytorch: slower and surer on small faces, best on a GPU."""

import hashlib
import io
import logging
import warnings
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from unmask.errors import DetectorError
from unmask.faces.boxes import RawFaces, check_thresholds, decode_faces, make_anchors
from unmask.faces.detector import check_max_side, shrink
from unmask.faces.spec import IMAGENET_MEAN, IMAGENET_STD
from unmask.parameters import check_whole
from unmask.types import Face, Image

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

WEIGHTS_URL = (
    "https://github.com/ternaus/retinaface/releases/download/0.01/retinaface_resnet50_2020-07-20-f168fae3c.zip"
)
"""As in `retinaface.pre_trained_models`, which is not imported because it drags in albumentations."""

_INSTALL = "uv pip install --no-deps retinaface-pytorch==0.0.8"


class RetinaFaceResNet50:
    """Find faces with five landmarks, in batches, on a GPU if there is one.

    Args:
        confidence: Faces below it are dropped, in [0, 1].
        nms_iou: Overlap above which the less confident of two faces is dropped.
        max_side: Images are shrunk until their longer side has this many pixels; they are never enlarged.
        device: `auto` takes a GPU if there is one; else a name that torch knows.
        batch_size: Images of one size that go through the network together.
        weights: The zip of the release page or the .pth in it; None takes it from torch's hub
            folder, fetched at first use.
    """

    name = "retinaface"

    def __init__(
        self,
        *,
        confidence: float = 0.7,
        nms_iou: float = 0.4,
        max_side: int = 640,
        device: str = "auto",
        batch_size: int = 8,
        weights: str | None = None,
    ) -> None:
        if find_spec("torch") is None:
            raise DetectorError(
                "detector=retinaface needs PyTorch, which is not installed here. Install torch, or use a model of "
                "crops that detector=retinaface_mobilenet made."
            )
        check_thresholds(confidence=confidence, nms_iou=nms_iou)
        check_max_side(max_side)
        check_whole("batch_size", batch_size, least=1)
        self.confidence = confidence
        self.nms_iou = nms_iou
        self.max_side = max_side
        self.device = device
        self.batch_size = batch_size
        self.weights = weights
        self._network: Any = None

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the .pth, the same whether it lies in its zip or not; fetched if it is not there."""
        return hashlib.sha256(_pth_bytes(self._weights_file())).hexdigest()

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, largest area first."""
        self._load()
        shrunk = [shrink(image, max_side=self.max_side) for image in images]
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, (small, _) in enumerate(shrunk):
            by_size.setdefault((small.shape[0], small.shape[1]), []).append(index)
        faces: list[list[Face]] = [[] for _ in images]
        # Only images of one size share a batch (the frames of a video do): padding to a common size would change what
        # the network sees at the borders, and so an image's faces would depend on the images beside it.
        for (height, width), indices in by_size.items():
            anchors = make_anchors(height=height, width=width)
            for start in range(0, len(indices), self.batch_size):
                batch = indices[start : start + self.batch_size]
                for index, raw in zip(batch, self._run([shrunk[i][0] for i in batch]), strict=True):
                    faces[index] = decode_faces(
                        raw, anchors, confidence=self.confidence, nms_iou=self.nms_iou, scale=shrunk[index][1]
                    )
        return faces

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}

    def _run(self, images: list[Image]) -> list[RawFaces]:
        import torch

        device = next(self._network.parameters()).device
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float().div(255)
            mean, std = (
                torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
            )
            offsets, scores, points = self._network((batch - mean) / std)
            outputs = [output.float().cpu().numpy() for output in (offsets, scores.softmax(dim=-1)[..., 1], points)]
        return [RawFaces(offsets=o, scores=s, points=p) for o, s, p in zip(*outputs, strict=True)]

    def _load(self) -> None:
        if self._network is not None:
            return
        import torch

        cv2.setNumThreads(1)
        network = _build_network()
        path = self._weights_file()
        try:
            network.load_state_dict(_read_state(path))
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise DetectorError(
                f"'{path}' (detector.weights) holds weights of another network: {first} "
                f"Expected the file of {WEIGHTS_URL}"
            ) from error
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._network = network.eval().to(automatic if self.device == "auto" else self.device)
        except (RuntimeError, AssertionError) as error:
            raise DetectorError(
                f"The device '{self.device}' (detector.device) cannot be used: {str(error).splitlines()[0]}. "
                f"Choose auto, cpu or cuda."
            ) from error

    def _weights_file(self) -> Path:
        if self.weights is None:
            return _download()
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise DetectorError(f"No such file '{path}' (detector.weights). It is that of {WEIGHTS_URL}")
        return path


def _build_network() -> Any:
    try:
        from retinaface.network import RetinaFace
    except ModuleNotFoundError as error:
        raise DetectorError(
            f"detector=retinaface needs the package retinaface-pytorch ({error}). Install it with: {_INSTALL}"
        ) from error
    with warnings.catch_warnings():
        # It builds its ResNet with torchvision's old argument pretrained=False.
        warnings.simplefilter("ignore", UserWarning)
        return RetinaFace(
            name="Resnet50",
            pretrained=False,
            return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
            in_channels=256,
            out_channels=256,
        )


def _download() -> Path:
    """Return the file where retinaface-pytorch's own loader keeps it, fetched if it is not there."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_URL.rsplit("/", 1)[1]
    if path.is_file():
        return path
    _log.info("Downloading %s to '%s'.", WEIGHTS_URL, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(WEIGHTS_URL, str(path))
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong size is a RuntimeError
        raise DetectorError(
            f"The weights of detector=retinaface could not be downloaded: {error}. Get {WEIGHTS_URL} and put it at "
            f"'{path}', or name its place with detector.weights=<file>; detector=retinaface_mobilenet does without it."
        ) from error
    return path


def _read_state(path: Path) -> "dict[str, torch.Tensor]":
    """Read a state dict from a .pth or from a zip that holds one, without running code from the file."""
    import pickle

    import torch

    try:
        state = torch.load(io.BytesIO(_pth_bytes(path)), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise DetectorError(
            f"'{path}' (detector.weights) cannot be read: {str(error).splitlines()[0]}. "
            f"Expected the file of {WEIGHTS_URL}"
        ) from error
    if not isinstance(state, dict):
        raise DetectorError(f"'{path}' (detector.weights) holds no state dict but a {type(state).__name__}.")
    return state


def _pth_bytes(path: Path) -> bytes:
    # torch.save writes zips too, but those hold a pickle and tensors, not a .pth.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pth"):
                    return archive.read(name)
    return path.read_bytes()
