"""What is kept of a file to show: small pictures, not the file."""

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
"""Longer side of a kept frame in pixels."""

MAX_FACES = 12
"""Faces of a frame whose crops are kept: the most fake of a picture, the largest of a video's frame."""

MAX_FRAMES = 240
"""Frames of a video that are kept; of more, every second, fourth, ... is, and those that weighed most."""

_THUMBNAIL_SIDE = 200

_LARGE = 0.95
"""Size of letters that can be read on a phone, where a frame is 350 pixels wide."""

_FEW = 4


@dataclass(frozen=True)
class FrameView:
    """A frame made small.

    Args:
        index: Position in the video; 0 for an image.
        jpeg: At most `MAX_SIDE` pixels long.
        scale: Of its pixels to those of the frame.
        crops: JPEG of faces, by their position in the frame's list.
    """

    index: int
    jpeg: bytes
    scale: float
    crops: dict[int, bytes]

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return len(self.jpeg) + sum(map(len, self.crops.values()))

    @property
    def image(self) -> Picture:
        """The pixels, RGB."""
        return decode_jpeg(self.jpeg, where="a kept frame")


@dataclass(frozen=True)
class Looked:
    """A dropped file that was looked at.

    Args:
        key: Of the dropped file.
        sha256: Of the file.
        num_bytes: Of the file.
        prediction: Its path is the name of the dropped file.
        views: The frames that are kept, in order of time; none of a file that could not be read, or whose pictures were
            let go.
    """

    key: str
    sha256: str
    num_bytes: int
    prediction: Prediction
    views: tuple[FrameView, ...] = ()

    @property
    def name(self) -> str:
        """Of the dropped file."""
        return self.prediction.path

    @cached_property
    def frames(self) -> dict[int, FrameResult]:
        """What was found in each frame, by index."""
        return {frame.index: frame for frame in self.prediction.frames}

    @cached_property
    def rows(self) -> dict[int, FaceResult]:
        """The faces or persons, by number."""
        return {face.track: face for face in self.prediction.faces}

    @cached_property
    def thumbnails(self) -> dict[int, str]:
        """Each kept frame with its boxes, by index: the address of a small JPEG that holds its own bytes."""
        return {view.index: _draw_thumbnail(self, view) for view in self.views}

    @property
    def num_picture_bytes(self) -> int:
        """Memory that its pictures take, with the thumbnails once they were drawn."""
        drawn: dict[int, str] = vars(self).get("thumbnails", {})  # asking for them would draw them
        return sum(view.num_bytes for view in self.views) + sum(map(len, drawn.values()))


class ViewKeeper:
    """Keeps frames as they come, evenly thinned where there are many or they are large.

    Args:
        max_bytes: That they may take; the first one is kept in any case.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.views: list[FrameView] = []
        self.max_bytes = max_bytes
        self._step = 1
        self._count = 0

    def offer(self, make: Callable[[], FrameView]) -> None:
        """Keep a frame, unless it is one too many; it is made only if it is kept."""
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
    """Make a frame small and cut its faces out.

    Args:
        image: RGB, as decoded.
        index: Position in the video.
        faces: Those to cut out, each with its position in the frame's list.
        spec: How crops are made.
    """
    scale = min(MAX_SIDE / max(image.shape[:2]), 1.0)
    crops = {place: encode_jpeg(cut_shown(image, face, spec), quality=90) for place, face in faces}
    return FrameView(index, encode_jpeg(resize(image, scale), quality=88), scale, crops)


def resize(image: Picture, scale: float) -> Picture:
    """Make a picture smaller."""
    if scale >= 1:
        return image
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def mark(looked: Looked, view: FrameView) -> Picture:
    """Draw boxes, numbers and scores into a frame, those of this frame; large where few faces leave room for it."""
    num_faces = len(looked.frames[view.index].faces)
    return _mark(looked, view, letters=_LARGE if num_faces <= _FEW else LETTERS)


def mark_small(looked: Looked, view: FrameView, *, side: int) -> Picture:
    """Draw the boxes alone into a frame that is shown too small for letters.

    Args:
        looked: The file.
        view: One of its frames.
        side: Of the result, the longer one, in pixels.
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
    """Return the index of the most suspicious of some frames: that with the highest score of a face that decides.

    Args:
        prediction: Of a video.
        indices: Of the frames that can be chosen.
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
