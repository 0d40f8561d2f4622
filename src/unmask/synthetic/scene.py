"""Paint what stands around a head: the wall behind, neck, shoulders and long hair."""

import cv2
import numpy as np

from unmask.synthetic.canvas import Canvas
from unmask.synthetic.identity import Colour, Identity
from unmask.types import Array, Picture


def paint_wall(identity: Identity, *, size: int) -> Picture:
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
