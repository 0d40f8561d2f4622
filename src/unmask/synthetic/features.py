"""Draw what moves within a face: eyes and mouth, and the glasses before them."""

import numpy as np

from unmask.synthetic.canvas import Canvas, Points
from unmask.synthetic.identity import Colour, Identity, Pose
from unmask.synthetic.texture import FaceTexture
from unmask.types import Array, Point

_WHITE: Colour = (232, 226, 220)
_TEETH: Colour = (232, 226, 212)
_MOUTH_HOLE: Colour = (52, 16, 18)
_PUPIL: Colour = (12, 10, 10)


def find_landmarks(who: Identity, pose: Pose) -> Points:
    """Return the five landmarks on the flat face, as the viewer sees them, shape `(5, 2)`."""
    corner_x, corner_y = _mouth_corner(who, pose)
    return np.array(
        [
            (-who.eye_distance, who.eye_y),
            (who.eye_distance, who.eye_y),
            (0, who.nose_y),
            (-corner_x, corner_y),
            (corner_x, corner_y),
        ]
    )


def draw_features(texture: FaceTexture, who: Identity, pose: Pose) -> Array:
    """Return the flat face with eyes and mouth in it, uint8 `(side, side, 4)`."""
    image = texture.image.copy()
    colours = np.ascontiguousarray(image[..., :3])
    canvas = Canvas(colours, texture.unit, texture.origin)
    for sign in (-1, 1):
        _draw_eye(canvas, texture, who, pose, sign)
    _draw_mouth(canvas, texture, who, pose)
    if who.glasses:
        _draw_glasses(canvas, who)
    image[..., :3] = colours
    return image


def _draw_eye(canvas: Canvas, texture: FaceTexture, who: Identity, pose: Pose, sign: int) -> None:
    centre: Point = (sign * who.eye_distance, who.eye_y)
    part = canvas.cut(centre, (who.eye_width * 1.5, who.eye_height * 2.5))
    t = np.linspace(-1, 1, 13)
    bow = np.sqrt(1 - t**2)
    x = centre[0] + who.eye_width * t
    tilt = centre[1] - who.eye_slant * t * sign
    lower = np.stack([x, tilt + 0.75 * who.eye_height * bow], axis=1)
    upper = np.stack([x, tilt + who.eye_height * bow * (-1 + 1.65 * pose.blink)], axis=1)
    crease = np.stack([x, tilt - who.eye_height * (1.45 * bow - 0.1)], axis=1)
    skin, shade = texture.lit(who.skin, centre), texture.lit(_scaled(who.skin, 0.6), centre)
    lash = texture.lit(_scaled(who.skin, 0.22), centre)
    # The lid covers what the closed part of the eye would show.
    part.polygon(np.concatenate([crease, lower[::-1]]), texture.lit(_scaled(who.skin, 0.86), centre))
    part.line(crease, shade, width=0.02)
    if pose.blink < 0.95:
        opening = part.mask()
        opening.polygon(np.concatenate([upper, lower[::-1]]))
        _show_through(part, _draw_eyeball(part, texture, who, pose, sign), opening)
    part.line(lower, _mix(skin, lash, 0.45), width=0.012)
    part.line(upper, lash, width=0.03)


def _draw_eyeball(part: Canvas, texture: FaceTexture, who: Identity, pose: Pose, sign: int) -> Canvas:
    """Paint the whole ball on a canvas of its own."""
    centre: Point = (sign * who.eye_distance, who.eye_y)
    iris = (
        centre[0] + pose.gaze_x * 0.3 * who.eye_width,
        centre[1] + pose.gaze_y * 0.2 * who.eye_height - 0.1 * who.eye_height,
    )
    radius = 0.45 * who.eye_width + 0.15 * who.eye_height
    ball = Canvas(np.empty_like(part.image), part.unit, part.origin)
    ball.image[...] = np.array(texture.lit(_WHITE, centre), np.uint8)
    ball.ellipse(iris, (radius, radius), texture.lit(_scaled(who.iris, 0.55), centre))
    ball.ellipse(iris, (radius * 0.82, radius * 0.82), texture.lit(who.iris, centre))
    ball.ellipse(iris, (radius * 0.42, radius * 0.42), _PUPIL)
    glint = (iris[0] + 0.35 * radius * float(np.sign(who.light[0])), iris[1] - 0.35 * radius)
    ball.ellipse(glint, (radius * 0.22, radius * 0.22), (250, 250, 250))
    return ball


def _show_through(part: Canvas, behind: Canvas, opening: Canvas) -> None:
    """Lay an image into another where the lids leave it open."""
    weight = opening.image.astype(np.float32)[..., None] / 255
    part.image[...] = part.image + (behind.image - part.image.astype(np.float32)) * weight


def _mouth_corner(who: Identity, pose: Pose) -> Point:
    """Return the right corner as the viewer sees it."""
    width = who.mouth_width * (1 + 0.16 * pose.mouth_wide + 0.06 * pose.smile - 0.12 * pose.mouth_open)
    return width, who.mouth_y - 0.035 * pose.smile


def _draw_mouth(canvas: Canvas, texture: FaceTexture, who: Identity, pose: Pose) -> None:
    width, corner_y = _mouth_corner(who, pose)
    centre: Point = (0.0, who.mouth_y)
    part = canvas.cut((0.0, who.mouth_y + 0.05), (width * 1.3, 0.35))
    t = np.linspace(-1, 1, 21)
    bow, x = np.sqrt(1 - t**2), width * t
    rest = corner_y + (who.mouth_y - corner_y) * (1 - t**2)
    gap = 0.15 * pose.mouth_open * bow
    lip = who.lip_thickness
    cupid = 1 - 0.3 * np.exp(-((t / 0.16) ** 2))
    upper_edge = np.stack([x, rest - lip * bow * cupid - 0.2 * gap], axis=1)
    upper_inside = np.stack([x, rest - 0.2 * gap], axis=1)
    lower_inside = np.stack([x, rest + 0.8 * gap], axis=1)
    lower_edge = np.stack([x, rest + 0.8 * gap + 1.15 * lip * bow], axis=1)
    part.polygon(np.concatenate([upper_edge, upper_inside[::-1]]), texture.lit(_scaled(who.lips, 0.85), centre))
    part.polygon(np.concatenate([lower_inside, lower_edge[::-1]]), texture.lit(who.lips, centre))
    gloss = lower_inside[6:15] * (0.8, 1) + (0, 0.5 * lip)
    part.line(gloss, texture.lit(_mix(who.lips, (255, 255, 255), 0.25), centre), width=0.025)
    part.polygon(np.concatenate([upper_inside, lower_inside[::-1]]), texture.lit(_MOUTH_HOLE, centre))
    if pose.mouth_open > 0.15:
        teeth = upper_inside[4:17] + (0, 1) * np.minimum(0.05, 0.5 * gap[4:17])[:, None]
        part.polygon(np.concatenate([upper_inside[4:17], teeth[::-1]]), texture.lit(_TEETH, centre))
    part.line(upper_inside, texture.lit(_scaled(who.lips, 0.4), centre), width=0.015)


def _draw_glasses(canvas: Canvas, who: Identity) -> None:
    angles = np.linspace(0, 2 * np.pi, 33)[:-1]
    power = 1.0 if who.glasses_round else 0.5
    across = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** power
    down = np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power
    bridge, t = who.eye_distance - who.glasses, np.linspace(-1, 1, 7)
    for sign in (-1, 1):
        lens = [sign * who.eye_distance + who.glasses * across, who.eye_y + 0.03 + 0.8 * who.glasses * down]
        canvas.line(np.stack(lens, axis=1), who.glasses_colour, width=0.025, closed=True)
        temple = [(sign * (who.eye_distance + who.glasses), who.eye_y), (sign * who.width, who.eye_y - 0.02)]
        canvas.line(np.array(temple), who.glasses_colour, width=0.025)
    canvas.line(np.stack([bridge * t, who.eye_y - 0.03 * (1 - t**2)], axis=1), who.glasses_colour, width=0.025)


def _scaled(colour: Colour, gain: float) -> Colour:
    red, green, blue = colour
    return red * gain, green * gain, blue * gain


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (one + (two - one) * share for one, two in zip(first, second, strict=True))
    return red, green, blue
