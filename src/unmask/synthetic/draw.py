"""Draw talking heads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from unmask.synthetic.canvas import Canvas
from unmask.synthetic.features import draw_features, find_landmarks
from unmask.synthetic.identity import Colour, Identity, Pose
from unmask.synthetic.texture import REACH, FaceTexture, Placement, paint_texture
from unmask.types import Array, Image, Point


def paint_wall(identity: Identity, *, size: int) -> Image:
    """Paint the background: a gradient with things before it, out of focus.

    Args:
        identity: Gives colours and seed.
        size: Side in pixels.
    """
    rng = np.random.default_rng([identity.seed, 1])
    upper, lower = (np.array(colour) for colour in identity.wall)
    share = np.linspace(0, 1, size)[:, None, None]
    wall = np.repeat(upper + (lower - upper) * share, size, axis=1)
    wall += cv2.resize(
        rng.normal(0, 12, (6, 6, 1)) + rng.normal(0, 3, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(rng.integers(0, 9)):
        left, top = rng.uniform(-0.1, 0.95, 2) * size
        width, height = rng.uniform(0.04, 0.4, 2) * size
        box = np.array([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])
        cv2.fillPoly(wall, [box.astype(np.int32)], (rng.uniform(25, 225) + rng.uniform(-40, 40, 3)).tolist())
    wall = cv2.GaussianBlur(wall, (0, 0), rng.uniform(0.003, 0.02) * size)
    return np.asarray(np.clip(wall * identity.tint, 0, 255), np.uint8)


def paint_body(identity: Identity, *, size: int) -> Array:
    """Paint neck, shoulders and the hair that falls behind them, uint8 `(size, size, 4)` with opacity."""
    unit = identity.scale * size
    canvas = Canvas(np.zeros((size, size, 3), np.uint8), unit, (size / 2, size / 2))
    opacity = canvas.mask()
    width, lamp = identity.width, float(np.sign(identity.light[0]))

    def paint(points: list[tuple[float, float]], colour: Colour, gain: float) -> None:
        shown = tuple(float(value) for value in np.clip(np.array(colour) * gain * identity.tint, 0, 255))
        canvas.polygon(np.array(points), shown)
        canvas.line(np.array(points), shown, width=0.02, closed=True)  # or black would shine through the soft edge
        opacity.polygon(np.array(points))

    if identity.hair_style == "long":
        side = width + 0.1
        paint([(-side, -0.4), (side, -0.4), (side, 1.25), (0.3, 1.45), (-0.3, 1.45), (-side, 1.25)], identity.hair, 0.6)
    neck = 0.62 * width
    paint([(-neck, 0.3), (neck, 0.3), (neck * 1.05, 1.3), (0, 1.6), (-neck * 1.05, 1.3)], identity.skin, 0.62)
    paint(
        [(lamp * neck, 0.3), (lamp * neck * 0.35, 0.3), (lamp * neck * 0.4, 1.5), (lamp * neck, 1.3)],
        identity.skin,
        0.75,
    )
    collar = [(-neck * 1.15, 1.22), (-neck * 0.5, 1.42), (0, 1.52), (neck * 0.5, 1.42), (neck * 1.15, 1.22)]
    paint([*collar, (1.5, 1.5), (2.0, 2.2), (-2.0, 2.2), (-1.5, 1.5)], identity.shirt, 0.85)
    paint([(lamp * neck * 1.15, 1.22), (lamp * 1.5, 1.5), (lamp * 2, 2.2), (lamp * 0.5, 2.2)], identity.shirt, 0.95)
    return np.dstack([canvas.image, opacity.image])


_TEXTURE_SIDE = 1.1
"""Side of the flat face over the side of the frame: a little finer than it is shown."""

_BODY_FOLLOWS = 0.6
"""Share of the head's shift that the shoulders make."""


@dataclass(frozen=True)
class DrawnHead:
    """A drawn frame and where the face is in it.

    Args:
        image: RGB image.
        landmarks: Left eye, right eye, nose, left and right corner of the mouth as the viewer sees them, in pixels.
    """

    image: Image
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
    def _wall(self) -> Image:
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

    def _lay_body(self, image: Image, place: Placement) -> None:
        shift = (np.array(place.centre) - self.size / 2) * _BODY_FOLLOWS
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        rows = slice(int(self.size * 0.3), self.size)
        matrix[1, 2] -= rows.start
        side = (self.size, self.size - rows.start)
        body = cv2.warpAffine(self._body, matrix, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        image[rows] = _blend(image[rows], body)

    def _lay_head(self, image: Image, place: Placement) -> None:
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


def _blend(below: Image, above: Array) -> Image:
    """Lay an image with opacity over another of the same size."""
    weight = above[..., 3].astype(np.float32) / 255
    return np.asarray(cv2.blendLinear(np.ascontiguousarray(above[..., :3]), below, weight, 1 - weight), np.uint8)
