"""What the app keeps of a file for display: small images, not the file."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from unmask.faces.crop import cut_shown
from unmask.faces.spec import CropSpec
from unmask.inference.drawing import LETTERS, draw_faces
from unmask.inference.results import FaceResult, FrameResult, Prediction
from unmask.media.picture import decode_jpeg, encode_jpeg
from unmask.types import Array, Box, Face, Picture

MAX_SIDE = 1280
"""Longer side of a kept frame, in pixels."""

MAX_FACES = 12
"""Faces per frame whose crops are kept: the most suspicious of an image, the largest of a video frame."""

MAX_FRAMES = 240
"""Frames kept of a video; of more, every second, fourth, ... and those that weighed most."""

_THUMBNAIL_SIDE = 200

_LARGE = 0.95
"""Letter size that is legible on a phone, where a frame is 350 pixels wide."""

_FEW = 4


@dataclass(frozen=True)
class FrameView:
    """A downscaled frame.

    Args:
        index: Position in the video; 0 for an image.
        jpeg: JPEG of at most `MAX_SIDE` pixels per side.
        scale: Scale relative to the original frame.
        crops: JPEGs of faces, by their position in the frame's list.
    """

    index: int
    jpeg: bytes
    scale: float
    crops: dict[int, bytes]

    @property
    def num_bytes(self) -> int:
        """Memory used."""
        return len(self.jpeg) + sum(map(len, self.crops.values()))

    @property
    def image(self) -> Picture:
        """The pixels, RGB."""
        return decode_jpeg(self.jpeg, where="a kept frame")


@dataclass(frozen=True)
class Looked:
    """The result of a dropped file.

    Args:
        key: Key of the dropped file.
        sha256: Hash of the file.
        num_bytes: Size of the file.
        prediction: Prediction, whose path is the name of the dropped file.
        views: Frames kept, in order of time; empty if the file was unreadable or its images were dropped.
    """

    key: str
    sha256: str
    num_bytes: int
    prediction: Prediction
    views: tuple[FrameView, ...] = ()

    @property
    def name(self) -> str:
        """Name of the dropped file."""
        return self.prediction.path

    @cached_property
    def frames(self) -> dict[int, FrameResult]:
        """Results of the frames, by index."""
        return {frame.index: frame for frame in self.prediction.frames}

    @cached_property
    def rows(self) -> dict[int, FaceResult]:
        """Faces or persons, by number."""
        return {face.track: face for face in self.prediction.faces}

    @cached_property
    def thumbnails(self) -> dict[int, str]:
        """Each kept frame with its boxes, by index, as the data URI of a small JPEG."""
        return {view.index: _draw_thumbnail(self, view) for view in self.views}

    @property
    def num_image_bytes(self) -> int:
        """Memory used by its images, and by the thumbnails once they are drawn."""
        drawn: dict[int, str] = vars(self).get("thumbnails", {})  # the property would draw them
        return sum(view.num_bytes for view in self.views) + sum(map(len, drawn.values()))


class ViewKeeper:
    """Keeps frames of a stream, evenly thinned if they are many or large.

    Args:
        max_bytes: Memory limit; the first frame is always kept.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.views: list[FrameView] = []
        self.max_bytes = max_bytes
        self._step = 1
        self._count = 0

    def offer(self, make: Callable[[], FrameView]) -> None:
        """Keep a frame, or skip it without making it."""
        if self._count % self._step == 0:
            self.views.append(make())
            while self._is_too_much():
                self.views = self.views[::2]
                self._step *= 2
        self._count += 1

    def _is_too_much(self) -> bool:
        num_views = len(self.views)
        num_bytes = sum(view.num_bytes for view in self.views)
        return num_views > MAX_FRAMES or (num_views > 1 and num_bytes > self.max_bytes)


def make_view(image: Picture, index: int, faces: Iterable[tuple[int, Face]], *, spec: CropSpec) -> FrameView:
    """Downscale a frame and crop its faces.

    Args:
        image: Decoded RGB image.
        index: Position in the video.
        faces: Faces to crop, each with its position in the frame's list.
        spec: Spec of the crops.
    """
    scale = min(MAX_SIDE / max(image.shape[:2]), 1.0)
    crops = {place: encode_jpeg(cut_shown(image, face, spec), quality=90) for place, face in faces}
    return FrameView(index, encode_jpeg(resize(image, scale), quality=88), scale, crops)


def resize(image: Picture, scale: float) -> Picture:
    """Downscale an image."""
    if scale >= 1:
        return image
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def mark(looked: Looked, view: FrameView) -> Picture:
    """Draw this frame's boxes, numbers and scores; in large letters if there are few faces."""
    num_faces = len(looked.frames[view.index].faces)
    return _mark(looked, view, letters=_LARGE if num_faces <= _FEW else LETTERS)


def mark_small(looked: Looked, view: FrameView, *, side: int) -> Picture:
    """Draw only the boxes, for a frame shown too small for letters.

    Args:
        looked: Result of the file.
        view: One of its frames.
        side: Longer side of the result, in pixels.
    """
    image = _mark(looked, view, letters=0)
    return resize(image, side / max(image.shape[:2]))


def _mark(looked: Looked, view: FrameView, *, letters: float) -> Picture:
    faces = []
    for seen in looked.frames[view.index].faces:
        x1, y1, x2, y2 = (value * view.scale for value in seen.box)
        box: Box = (x1, y1, x2, y2)
        faces.append(replace(seen, box=box))
    return draw_faces(view.image, faces, letters=letters)


def _draw_thumbnail(looked: Looked, view: FrameView) -> str:
    small = mark_small(looked, view, side=_THUMBNAIL_SIDE)
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(small, quality=72)).decode()


def find_suspect(prediction: Prediction, indices: Iterable[int]) -> int | None:
    """Return the index of the most suspicious frame: the one with the highest score of a deciding face.

    Args:
        prediction: Prediction of a video.
        indices: Indices of the candidate frames.
    """
    deciding, wanted = {face.track for face in prediction.faces if face.decides}, set(indices)
    scored = [
        (face.track in deciding, face.score, -frame.index)
        for frame in prediction.frames
        if frame.index in wanted
        for face in frame.faces
    ]
    return -max(scored)[2] if scored else min(wanted, default=None)


def find_map(looked: Looked, view: FrameView, place: int) -> Array | None:
    """Return the activation map of a face, by its position in the frame's list."""
    return looked.frames[view.index].faces[place].activation_map
