"""Draw talking heads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from unmask.synthetic.features import draw_features, find_landmarks
from unmask.synthetic.identity import Identity
from unmask.synthetic.pose import Pose
from unmask.synthetic.scene import paint_body, paint_wall
from unmask.synthetic.surface import Placement
from unmask.synthetic.texture import REACH, FaceTexture, paint_texture
from unmask.types import Array, Picture, Point

_TEXTURE_SIDE = 1.1
"""Side of the flat face over the side of the frame: a little finer than it is shown."""

_BODY_FOLLOWS = 0.6
"""Share of the head's shift that the shoulders make."""


@dataclass(frozen=True)
class DrawnHead:
    """A drawn frame and where the face is in it.

    Args:
        image: RGB picture.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth as the viewer sees them, in pixels.
    """

    image: Picture
    landmarks: tuple[Point, ...]


@dataclass(frozen=True)
class Sitter:
    """A person before a camera; what stays the same is painted once.

    Args:
        identity: Who.
        size: Side of the square frames in pixels.
    """

    identity: Identity
    size: int = 256

    @cached_property
    def _texture(self) -> FaceTexture:
        return paint_texture(self.identity, side=round(self.size * _TEXTURE_SIDE))

    @cached_property
    def _wall(self) -> Picture:
        return paint_wall(self.identity, size=self.size)

    @cached_property
    def _body(self) -> Array:
        return paint_body(self.identity, size=self.size)

    def draw(self, pose: Pose) -> DrawnHead:
        """Draw one frame without the sensor's noise."""
        place = Placement(self.identity, pose, self.size)
        image = self._wall.copy()
        self._lay_body(image, place)
        self._lay_head(image, place)
        landmarks = place.project(find_landmarks(self.identity, pose))
        return DrawnHead(image, tuple((float(x), float(y)) for x, y in landmarks))

    def _lay_body(self, image: Picture, place: Placement) -> None:
        shift = (np.array(place.centre) - self.size / 2) * _BODY_FOLLOWS
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        rows = slice(int(self.size * 0.3), self.size)
        matrix[1, 2] -= rows.start
        side = (self.size, self.size - rows.start)
        body = cv2.warpAffine(self._body, matrix, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        image[rows] = _blend(image[rows], body)

    def _lay_head(self, image: Picture, place: Placement) -> None:
        reach = REACH * place.unit
        left, top = (max(0, int(axis - reach)) for axis in place.centre)
        right, bottom = (min(self.size, int(axis + reach) + 1) for axis in place.centre)
        x, y = place.trace_back(left, top, right - left, bottom - top)
        texture = self._texture
        columns = (x * texture.unit + (texture.origin[0] - 0.5)).astype(np.float32)
        rows = (y * texture.unit + (texture.origin[1] - 0.5)).astype(np.float32)
        face = cv2.remap(draw_features(texture, self.identity, place.pose), columns, rows, cv2.INTER_LINEAR)
        image[top:bottom, left:right] = _blend(image[top:bottom, left:right], face)


def draw_head(identity: Identity, pose: Pose, *, size: int = 256) -> DrawnHead:
    """Draw one frame of a person; for many frames of one, keep a `Sitter`.

    Args:
        identity: Who.
        pose: Position and expression.
        size: Side of the frame in pixels.
    """
    return Sitter(identity, size=size).draw(pose)


def film(sitter: Sitter, poses: Sequence[Pose], rng: np.random.Generator) -> Iterator[DrawnHead]:
    """Draw a person pose by pose, with the noise of a sensor.

    Args:
        sitter: Who.
        poses: One per frame.
        rng: Makes the noise.
    """
    side = sitter.size
    noise = rng.normal(0, sitter.identity.noise, (side * 3 // 2, side * 3 // 2, 3)).astype(np.int8)
    for pose in poses:
        head = sitter.draw(pose)
        row, column = rng.integers(0, side // 2, 2)
        grain = noise[row : row + side, column : column + side]
        yield DrawnHead(cv2.add(head.image, grain, dtype=cv2.CV_8U), head.landmarks)


def _blend(below: Picture, above: Array) -> Picture:
    """Lay a picture with opacity over another of the same size."""
    weight = above[..., 3].astype(np.float32) / 255
    return np.asarray(cv2.blendLinear(np.ascontiguousarray(above[..., :3]), below, weight, 1 - weight), np.uint8)
