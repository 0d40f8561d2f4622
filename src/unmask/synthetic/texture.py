"""Paint what stays the same on a head: skin, shading, folds, brows, beard, ears and hair, laid out flat."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from unmask.synthetic.canvas import Canvas, Points
from unmask.synthetic.hair import paint_hair, strew_strands
from unmask.synthetic.identity import Colour, Identity, Pose
from unmask.types import Array

_GRID = 8
"""The way back is worked out for every eighth pixel and interpolated: it is smooth."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """A head in a frame.

    Args:
        identity: Gives the relief.
        pose: Gives the turn and the place.
        size: Side of the frame in pixels.
    """

    identity: Identity
    pose: Pose
    size: int

    @property
    def unit(self) -> float:
        """Pixels of a head unit."""
        return self.identity.scale * self.pose.zoom * self.size

    @property
    def centre(self) -> tuple[float, float]:
        """Pixel of the head's middle."""
        unit = self.identity.scale * self.size
        return self.size * 0.5 + self.pose.shift_x * unit, self.size * 0.5 + self.pose.shift_y * unit

    def project(self, points: Doubles) -> Doubles:
        """Return the pixels of points of the flat face, shape `(N, 2)`."""
        x, y = points.T
        z = depth(self.identity, x, y)
        x = x * np.cos(self.pose.yaw) + z * np.sin(self.pose.yaw)
        y = y * np.cos(self.pose.pitch) + z * np.sin(self.pose.pitch)
        turned = np.stack([x, y], axis=1) @ _turn(-self.pose.roll)
        return np.asarray(turned * self.unit + self.centre)

    def trace_back(self, left: int, top: int, width: int, height: int) -> tuple[Doubles, Doubles]:
        """Return for every pixel of a rectangle the point of the flat face, as x and y of shape `(height, width)`."""
        columns, rows = np.ceil(width / _GRID).astype(int), np.ceil(height / _GRID).astype(int)
        across = left + (np.arange(columns) + 0.5) * (width / columns)
        down = top + (np.arange(rows) + 0.5) * (height / rows)
        pixels = np.stack(np.meshgrid(across, down), axis=-1) - self.centre
        target = pixels @ _turn(self.pose.roll) / self.unit
        x, y = target[..., 0], target[..., 1]
        for _ in range(3):  # converges fast: the relief is flat against the angles
            z = depth(self.identity, x, y)
            x = (target[..., 0] - z * np.sin(self.pose.yaw)) / np.cos(self.pose.yaw)
            y = (target[..., 1] - z * np.sin(self.pose.pitch)) / np.cos(self.pose.pitch)
        return tuple(cv2.resize(axis, (width, height), interpolation=cv2.INTER_LINEAR) for axis in (x, y))


def depth(identity: Identity, x: Doubles, y: Doubles) -> Doubles:
    """Return the relief of the head: a dome with a nose, in head units towards the viewer."""
    dome = 0.75 - 0.55 * x**2 - 0.25 * y**2
    nose = 0.16 * np.exp(-((x / 0.15) ** 2) - ((y - identity.nose_y) / 0.16) ** 2)
    return np.asarray(dome + nose)


def _turn(angle: float) -> Doubles:
    """Return the matrix that turns row vectors counter-clockwise as seen on the screen, where y points down."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


REACH = 1.45
"""The flat face shows head units from -1.45 to 1.45 in x and y: room for hair."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FaceTexture:
    """The flat, lit face without eyes and mouth.

    Args:
        image: uint8 `(side, side, 4)`: RGB and opacity.
        light: Gain of RGB at every pixel, float32 `(side, side, 3)`.
        unit: Pixels of a head unit.
    """

    image: Array
    light: Floats
    unit: float

    @property
    def origin(self) -> tuple[float, float]:
        """Pixel of the head's middle."""
        return REACH * self.unit, REACH * self.unit

    def lit(self, colour: Colour, point: tuple[float, float]) -> Colour:
        """Return a colour as the lamp shows it at a point of the face."""
        column, row = (min(max(int((axis + REACH) * self.unit), 0), len(self.light) - 1) for axis in point)
        red, green, blue = (float(value) for value in np.clip(np.array(colour) * self.light[row, column], 0, 255))
        return red, green, blue


def outline(identity: Identity) -> Points:
    """Return the outline of the head as a polygon."""
    angles = np.linspace(0, np.pi, 41)
    upper = np.stack([identity.width * np.cos(angles), -np.sin(angles)], axis=1)
    y = np.sin(angles)
    x = np.sign(np.cos(angles)) * identity.width * (1 - y**identity.jaw).clip(0) ** 0.5
    return np.concatenate([upper, np.stack([x, y], axis=1)[::-1]])


def paint_texture(identity: Identity, *, side: int) -> FaceTexture:
    """Paint the flat face of a person.

    Args:
        identity: Whose.
        side: Of the texture in pixels.
    """
    rng = np.random.default_rng(identity.seed)
    unit = side / (2 * REACH)
    canvas = Canvas(np.zeros((side, side), np.uint8), unit, (side / 2, side / 2))
    skin = np.full((side, side, 3), identity.skin, np.float32)
    _paint_tones(skin, canvas, identity)
    _paint_folds(skin, canvas, identity)
    _paint_spots(skin, canvas, identity, rng)
    _paint_beard(skin, canvas, identity, rng)
    _paint_brows(skin, canvas, identity, rng)
    _paint_ears(skin, canvas, identity)
    hair = paint_hair(skin, canvas, identity, rng)
    skin += _grain(rng, side)
    light = _light(identity, side)
    opacity = np.maximum(canvas.image, hair)
    image = np.dstack([np.clip(skin * light, 0, 255), opacity]).astype(np.uint8)
    return FaceTexture(image, light, unit)


def _light(identity: Identity, side: int) -> Floats:
    """Shade by the angle between surface and lamp (Lambert), with a share that comes from everywhere."""
    axis = (np.arange(side) + 0.5) / side * 2 * REACH - REACH
    x, y = np.meshgrid(axis, axis)
    slope_y, slope_x = np.gradient(1.5 * depth(identity, x, y), axis, axis)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(x)])
    lamp = np.array(identity.light) / np.linalg.norm(identity.light)
    facing = np.tensordot(lamp, normal / np.linalg.norm(normal, axis=0), 1).clip(0)
    gain = identity.ambient + (1.25 - identity.ambient) * facing
    return np.asarray(gain[..., None] * np.array(identity.tint), np.float32)


def _grain(rng: np.random.Generator, side: int) -> Floats:
    """Mottle the skin: broad blotches and fine pores."""
    blotches = rng.normal(0, 4, (side // 20, side // 20, 1)) + rng.normal(0, 1.5, (side // 20, side // 20, 3))
    pores = rng.normal(0, 7, (side * 2 // 3, side * 2 // 3)).astype(np.float32)
    coarse = cv2.resize(blotches.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(pores, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(coarse + fine[..., None], np.float32)


def _glaze(skin: Floats, mask: Canvas, colour: Colour, strength: float, *, blur: float = 0) -> None:
    """Mix a colour into the image under a mask, blurred by a part of a head unit."""
    weight = mask.image.astype(np.float32) * (strength / 255)
    if blur:
        weight = cv2.GaussianBlur(weight, (0, 0), blur * mask.unit)
    skin += (np.array(colour, np.float32) - skin) * weight[..., None]


def _darker(colour: Colour, gain: float) -> Colour:
    red, green, blue = colour
    return red * gain, green * gain * 0.95, blue * gain * 0.95


def _paint_tones(skin: Floats, canvas: Canvas, who: Identity) -> None:
    """Broad light and dark: sockets, cheeks, the sides of the nose, the hollow above the chin."""
    canvas.polygon(outline(who))
    dark, flush = _darker(who.skin, 0.55), (min(255, who.skin[0] * 1.02), who.skin[1] * 0.76, who.skin[2] * 0.76)
    shade_x = -np.sign(who.light[0]) * who.nose_width * 0.75
    strokes: list[tuple[tuple[float, float], tuple[float, float], Colour, float, float]] = [
        ((shade_x, who.nose_y - 0.12), (0.05, 0.2), dark, 0.4, 0.05),
        ((0, who.nose_y + 0.1), (who.nose_width * 0.9, 0.035), dark, 0.6, 0.03),
        ((0, who.nose_y - 0.02), (0.05, 0.05), (255, 244, 236), 0.25, 0.04),
        ((0, who.mouth_y + who.lip_thickness + 0.09), (0.16, 0.03), dark, 0.45, 0.04),
    ]
    for sign in (-1, 1):
        eye = sign * who.eye_distance
        strokes += [
            ((eye, who.eye_y - 0.05), (0.19, 0.09), dark, 0.45, 0.06),
            ((eye, who.eye_y + 0.1), (0.13, 0.02), dark, 0.25 + 0.3 * who.age, 0.03),
            ((sign * 0.4, 0.3), (0.17, 0.14), flush, 0.4, 0.12),
            ((sign * who.nose_width * 0.55, who.nose_y + 0.07), (0.038, 0.024), _darker(who.skin, 0.25), 0.85, 0.01),
        ]
    for centre, radii, colour, strength, blur in strokes:
        mask = canvas.mask()
        mask.ellipse(centre, radii)
        _glaze(skin, mask, colour, strength, blur=blur)


def _paint_folds(skin: Floats, canvas: Canvas, who: Identity) -> None:
    """Wings of the nose, folds beside the mouth, wrinkles on the forehead."""
    dark, t = _darker(who.skin, 0.5), np.linspace(0, 1, 9)
    folds, wrinkles = canvas.mask(), canvas.mask()
    for sign in (-1, 1):
        bow = 0.1 * np.sin(np.pi * t)
        wing = [sign * (who.nose_width * (0.8 + 0.25 * np.sin(np.pi * t))), who.nose_y - 0.06 + 0.15 * t]
        fold = [sign * (who.nose_width + 0.04 + 0.16 * t + bow), who.nose_y + 0.05 + (who.mouth_y - who.nose_y) * t]
        folds.line(np.stack(wing, axis=1), 190, width=0.02)
        folds.line(np.stack(fold, axis=1), 90 + 140 * who.age, width=0.02)
    for row in range(int(who.age * 4)):
        y = who.eye_y - 0.32 - 0.08 * row + 0.02 * np.cos(6 * t + row)
        wrinkles.line(np.stack([0.7 * t - 0.35, y], axis=1), 255, width=0.015)
    _glaze(skin, folds, dark, 0.7, blur=0.012)
    _glaze(skin, wrinkles, dark, 0.5 * who.age, blur=0.012)


def _paint_spots(skin: Floats, canvas: Canvas, who: Identity, rng: np.random.Generator) -> None:
    """Freckles and moles."""
    mask = canvas.mask()
    for _ in range(who.freckles):
        mask.ellipse((rng.normal(0, 0.35), rng.normal(0.2, 0.25)), (rng.uniform(0.007, 0.016),) * 2)
    _glaze(skin, mask, _darker(who.skin, 0.5), 0.7, blur=0.004)


def _paint_beard(skin: Floats, canvas: Canvas, who: Identity, rng: np.random.Generator) -> None:
    mask, low = canvas.mask(), who.mouth_y + who.lip_thickness
    if who.beard in ("full", "stubble"):
        edge = outline(who)
        x = np.linspace(-1, 1, 15) * who.width
        upper = np.stack([x, 0.42 - 0.3 * (np.abs(x) / who.width) ** 3], axis=1)
        mask.polygon(np.concatenate([upper, edge[(edge[:, 1] > 0.15)][:: -1 if edge[-1, 0] > 0 else 1]]))
    if who.beard == "goatee":
        mask.ellipse((0, (low + 1) / 2 + 0.05), (0.2, (1 - low) / 2 + 0.08))
    if who.beard in ("goatee", "moustache", "full"):
        mask.ellipse((0, who.mouth_y - who.lip_thickness - 0.03), (who.mouth_width * 1.1, 0.055))
    if who.beard == "none":
        return
    strength = 0.4 if who.beard == "stubble" else 0.9
    _glaze(skin, mask, who.brow, strength, blur=0.03)
    if who.beard != "stubble":
        strew_strands(skin, mask, who.brow, rng, count=250, length=0.07, direction=(0.1, 1.0))


def _paint_brows(skin: Floats, canvas: Canvas, who: Identity, rng: np.random.Generator) -> None:
    t = np.linspace(0, 1, 9)
    mask = canvas.mask()
    for sign in (-1, 1):
        x = sign * (who.eye_distance - who.eye_width * 1.15 + 2.6 * who.eye_width * t)
        y = who.eye_y - who.brow_height - 0.05 * np.sin(np.pi * t**0.8) - who.brow_slant * (t - 0.3)
        half = who.brow_thickness * (1 - 0.75 * t**2) * 0.6
        mask.polygon(np.concatenate([np.stack([x, y - half], axis=1), np.stack([x, y + half], axis=1)[::-1]]))
    _glaze(skin, mask, who.brow, 0.85, blur=0.008)
    strew_strands(skin, mask, who.brow, rng, count=80, length=0.05, direction=(0.8, -0.5))


def _paint_ears(skin: Floats, canvas: Canvas, who: Identity) -> None:
    for sign in (-1, 1):
        shade = canvas.mask()
        centre = (sign * (who.width + 0.035), who.eye_y + 0.14)
        outside = canvas.mask()
        outside.ellipse(centre, (0.085, 0.17))
        outside.image[canvas.image > 0] = 0
        _glaze(skin, outside, _darker(who.skin, 0.88), 1.0)
        shade.ellipse((centre[0] + sign * 0.01, centre[1]), (0.04, 0.1))
        shade.image[outside.image == 0] = 0
        _glaze(skin, shade, _darker(who.skin, 0.55), 0.6, blur=0.01)
        np.maximum(canvas.image, outside.image, out=canvas.image)
