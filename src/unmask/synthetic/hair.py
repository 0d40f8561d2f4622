"""Paint hair: a cap with an opening for the face, covered with strands."""

import cv2
import numpy as np
import numpy.typing as npt

from unmask.synthetic.canvas import Canvas, Points
from unmask.synthetic.identity import Colour, Identity

Floats = npt.NDArray[np.float32]

_VOLUME = {"short": 0.07, "side": 0.12, "fringe": 0.1, "long": 0.12, "curly": 0.24}
_REACHES_DOWN = {"short": 0.0, "side": 0.08, "fringe": 0.1, "long": 1.3, "curly": 0.25}


def paint_hair(skin: Floats, canvas: Canvas, who: Identity, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Paint the hair of the head into a flat face.

    Args:
        skin: Flat face, changed in place.
        canvas: Its coordinates.
        who: Gives style and colour.
        rng: Strews the strands.

    Returns:
        Where hair is, 0 to 255.
    """
    cap = canvas.mask()
    if who.hair_style == "bald":
        return np.asarray(cap.image, np.uint8)
    opening = canvas.mask()
    cap.polygon(_outer_edge(who, rng))
    opening.polygon(_opening(who))
    cap.image[...] = cv2.subtract(cap.image, opening.image)
    shadow = cv2.GaussianBlur(cap.image, (0, 0), 0.04 * cap.unit).astype(np.float32) / 255
    skin *= 1 - 0.35 * shadow[..., None]
    weight = cap.image.astype(np.float32)[..., None] / 255
    skin += (np.array(who.hair, np.float32) * 0.85 - skin) * weight
    curl = who.hair_style == "curly"
    strew_strands(
        skin,
        cap,
        who.hair,
        rng,
        count=700,
        length=0.12 if curl else 0.45,
        direction=(0.0, 1.0),
        curl=3.0 if curl else 0.4,
    )
    return np.asarray(cap.image, np.uint8)


def strew_strands(
    skin: Floats,
    mask: Canvas,
    colour: Colour,
    rng: np.random.Generator,
    *,
    count: int,
    length: float,
    direction: tuple[float, float],
    curl: float = 0.3,
) -> None:
    """Draw thin strands, lighter and darker, where a mask allows.

    Args:
        skin: Flat face, changed in place.
        mask: Where strands may lie.
        colour: Of the hair.
        rng: Strews them.
        count: How many.
        length: In head units.
        direction: Of growth as x, y; x counts away from the middle.
        curl: How much a strand bends.
    """
    ys, xs = np.nonzero(mask.image)
    if not len(ys):
        return
    picks = rng.integers(len(ys), size=count)
    starts = (np.stack([xs[picks], ys[picks]], axis=1) - mask.origin) / mask.unit
    layer = np.dstack([np.zeros_like(mask.image)] * 3)
    covered = mask.mask()
    pen = Canvas(layer, mask.unit, mask.origin)
    for strands, gain in zip(np.array_split(starts, 6), (0.6, 0.75, 0.9, 1.1, 1.3, 1.5), strict=True):
        lines = [_strand(start, rng, length=length, direction=direction, curl=curl) for start in strands]
        pen.strands(lines, tuple(min(255.0, value * gain + 6 * gain) for value in colour))
        covered.strands(lines, 150)
    weight = cv2.min(covered.image, mask.image).astype(np.float32)[..., None] / 255
    skin += (layer - skin) * weight


def _strand(
    start: npt.NDArray[np.float64],
    rng: np.random.Generator,
    *,
    length: float,
    direction: tuple[float, float],
    curl: float,
) -> Points:
    side = 1.0 if start[0] >= 0 else -1.0
    angle = np.arctan2(direction[1], direction[0] + 0.8 * abs(start[0])) + rng.normal(0, 0.15)
    bend = angle + curl * rng.normal() * np.linspace(0, 1, 5)
    steps = np.stack([side * np.cos(bend), np.sin(bend)], axis=1) * (length * rng.uniform(0.4, 1.0) / 5)
    return np.asarray(start + np.cumsum(steps, axis=0) - steps[0])


def _outer_edge(who: Identity, rng: np.random.Generator) -> Points:
    volume, low = _VOLUME[who.hair_style], _REACHES_DOWN[who.hair_style]
    angles = np.linspace(np.pi, 2 * np.pi, 60)
    ripple = 1 + 0.03 * np.sin(angles * rng.uniform(20, 40)) * (who.hair_style == "curly")
    side = who.width + volume * (0.7 if who.hair_style != "short" else 0.35)
    arc = np.stack([side * ripple * np.cos(angles), -0.15 + (0.9 + volume) * ripple * np.sin(angles)], axis=1)
    return np.concatenate([[[-side * 0.98, low]], arc, [[side * 0.98, low]]])


def _opening(who: Identity) -> Points:
    low, inner = _REACHES_DOWN[who.hair_style], who.width - 0.07
    t = np.linspace(-1, 1, 25)
    top = np.full_like(t, who.hairline) + 0.3 * np.abs(t) ** 4
    if who.hair_style == "side":
        top = top + 0.16 * t
    if who.hair_style == "fringe":
        top = np.full_like(t, who.eye_y - who.brow_height - 0.06) + 0.02 * np.cos(14 * t)
    if who.hair_style == "long":
        top = top + 0.18 * (np.abs(t) - 0.3)
    line = np.stack([inner * t, top], axis=1)
    return np.concatenate([[[-inner - 0.02, low + 0.3]], line, [[inner + 0.02, low + 0.3]]])
