"""RetinaFace with a MobileNet-0.25 backbone, run by ONNX Runtime: the default detector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.errors import DetectorError
from unmask.faces.anchors import RawFaces, check_thresholds, decode_faces, make_anchors
from unmask.faces.boxes import Floats
from unmask.faces.detector import check_max_side, shrink
from unmask.faces.weights import MOBILENET_SHA256, mobilenet_weights, sha256_of
from unmask.types import Face, Picture

_MEAN_RGB = (127.0, 117.0, 104.0)
"""Subtracted from 0..255 values in training; the network takes them in the order blue, green, red."""


class RetinaFaceMobileNet:
    """Find faces on a CPU, with five landmarks.

    Args:
        confidence: Faces below it are dropped, in [0, 1].
        nms_iou: Overlap above which the less confident of two faces is dropped.
        max_side: Pictures are shrunk until their longer side has this many pixels; they are never enlarged.
        weights: ONNX file; None takes the one in the user's cache, fetched at first use.
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
        """SHA-256 of the ONNX file; known without reading it unless `weights` names another."""
        return MOBILENET_SHA256 if self.weights is None else sha256_of(self._weights_file())

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Return the faces of each picture, largest area first."""
        # One by one: batches are no faster on one thread, and a face must not depend on its neighbours in a batch.
        return [self._detect_one(image) for image in images]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None, "_anchors": None}

    def _detect_one(self, image: Picture) -> list[Face]:
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
        known = self._anchors  # read once: another thread may put those of another size there meanwhile
        if known is None or known[0] != (height, width):
            # The last size only: the frames of a video share one, and a folder of pictures may have thousands.
            known = self._anchors = ((height, width), make_anchors(height=height, width=width))
        return known[1]

    def _weights_file(self) -> Path:
        if self.weights is None:
            return mobilenet_weights()
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise DetectorError(f"No such file '{path}' (detector.weights). Leave it null to fetch the weights.")
        return path

    def _load(self) -> None:
        if self._session is not None:
            return
        import onnxruntime

        # Work is spread over processes, a frame to a core.
        cv2.setNumThreads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = self._weights_file()
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            raise DetectorError(f"'{path}' (detector.weights) is not an ONNX model: {error}") from error
