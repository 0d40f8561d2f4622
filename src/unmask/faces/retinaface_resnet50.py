"""RetinaFace with a ResNet-50 backbone from retinaface-pytorch: slower, better on small faces, best on a GPU."""

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
"""Same as in `retinaface.pre_trained_models`, which is not imported because it depends on albumentations."""

_INSTALL = "uv pip install --no-deps retinaface-pytorch==0.0.8"


class RetinaFaceResNet50:
    """Find faces with five landmarks, in batches, on a GPU if available.

    Args:
        confidence: Minimum confidence of a face, in [0, 1].
        nms_iou: Intersection over union above which the less confident of two faces is dropped.
        max_side: Maximum longer side in pixels; larger images are downscaled before detection.
        device: `auto` for a GPU if available, or a torch device.
        batch_size: Number of images of equal size per batch.
        weights: The .zip of the release or the .pth in it; None for the one in torch's hub folder, downloaded on first
            use.
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
                "detector=retinaface needs PyTorch, which is not installed. Install torch, or use a model trained on "
                "crops from detector=retinaface_mobilenet."
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
        """SHA-256 of the .pth, inside its .zip or not; downloaded if missing."""
        return hashlib.sha256(_pth_bytes(self._weights_file())).hexdigest()

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, largest area first."""
        self._load()
        shrunk = [shrink(image, max_side=self.max_side) for image in images]
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, (small, _) in enumerate(shrunk):
            by_size.setdefault((small.shape[0], small.shape[1]), []).append(index)
        faces: list[list[Face]] = [[] for _ in images]
        # Only images of equal size, such as the frames of a video, share a batch. Padding to a common size would change
        # the borders, and the result for an image would depend on the others in its batch.
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
                f"detector.weights='{path}' contains weights of another network: {first} "
                f"Expected the file of {WEIGHTS_URL}"
            ) from error
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._network = network.eval().to(automatic if self.device == "auto" else self.device)
        except (RuntimeError, AssertionError) as error:
            raise DetectorError(
                f"detector.device='{self.device}' is not available: {str(error).splitlines()[0]}. "
                f"Choose auto, cpu or cuda."
            ) from error

    def _weights_file(self) -> Path:
        if self.weights is None:
            return _download()
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise DetectorError(f"No such file: detector.weights='{path}'. Download it from {WEIGHTS_URL}")
        return path


def _build_network() -> Any:
    try:
        from retinaface.network import RetinaFace
    except ModuleNotFoundError as error:
        raise DetectorError(
            f"detector=retinaface needs the package retinaface-pytorch ({error}). Install it with: {_INSTALL}"
        ) from error
    with warnings.catch_warnings():
        # The package uses torchvision's deprecated argument pretrained=False.
        warnings.simplefilter("ignore", UserWarning)
        return RetinaFace(
            name="Resnet50",
            pretrained=False,
            return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
            in_channels=256,
            out_channels=256,
        )


def _download() -> Path:
    """Return the file in the folder that retinaface-pytorch's own loader uses; download it if missing."""
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
            f"The weights of detector=retinaface could not be downloaded: {error}. Save {WEIGHTS_URL} as '{path}', "
            f"set detector.weights=<file>, or use detector=retinaface_mobilenet, which does not need them."
        ) from error
    return path


def _read_state(path: Path) -> "dict[str, torch.Tensor]":
    """Read a state dict from a .pth, or from a .zip that contains one, without running code from the file."""
    import pickle

    import torch

    try:
        state = torch.load(io.BytesIO(_pth_bytes(path)), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise DetectorError(
            f"detector.weights='{path}' cannot be read: {str(error).splitlines()[0]}. "
            f"Expected the file of {WEIGHTS_URL}"
        ) from error
    if not isinstance(state, dict):
        raise DetectorError(f"detector.weights='{path}' contains a {type(state).__name__} instead of a state dict.")
    return state


def _pth_bytes(path: Path) -> bytes:
    # torch.save writes zip files too, but without a .pth inside.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pth"):
                    return archive.read(name)
    return path.read_bytes()
