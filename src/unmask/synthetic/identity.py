"""A drawn person: the shape and colours of the head, and its pose over time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Colour = tuple[float, float, float]
"""Red, green, blue in 0..255."""

_HAIR_COLOURS: tuple[Colour, ...] = (
    (24, 20, 20),
    (46, 32, 24),
    (78, 52, 34),
    (116, 70, 38),
    (150, 76, 44),
    (196, 156, 96),
    (222, 198, 148),
    (150, 148, 146),
    (214, 212, 208),
)
_IRIS_COLOURS: tuple[Colour, ...] = ((62, 40, 26), (92, 60, 34), (74, 96, 62), (70, 108, 140), (110, 122, 126))
_LIGHT_SKIN, _MIDDLE_SKIN, _DARK_SKIN = np.array([[242, 208, 186], [196, 142, 104], [96, 62, 46]], dtype=float)

HAIR_STYLES = ("bald", "short", "side", "fringe", "long", "curly")
BEARDS = ("none", "none", "stubble", "moustache", "goatee", "full")


@dataclass(frozen=True)
class Identity:
    """A face, its surroundings and its camera.

    Lengths are in head units: half the height of the bare head, which reaches from y = -1 (crown) to y = 1 (chin).

    Args:
        seed: Of everything strewn: strands of hair, freckles, the background.
        width: Half the width of the head.
        jaw: Exponent of the lower half of the outline: 1.6 pointed, 3.4 square.
        skin: Colour in neutral light.
        freckles: Number of spots.
        age: Depth of folds and wrinkles, 0 to 1.
        hair_style: One of `HAIR_STYLES`.
        hair: Colour.
        hairline: y of the hairline, negative.
        brow_height: From the eyes up to the brows.
        brow_thickness: Of the brows.
        brow_slant: Rise of the brows towards the temples.
        brow: Colour.
        eye_y: Height of the eyes.
        eye_distance: Half the distance between the pupils.
        eye_width: Half the width of an eye.
        eye_height: Half the height of an open eye.
        eye_slant: Rise of the outer corners.
        iris: Colour.
        nose_y: Height of the tip of the nose.
        nose_width: Half the width of the nose.
        mouth_y: Height of the mouth.
        mouth_width: Half the width of the mouth at rest.
        lip_thickness: Of each lip.
        lips: Colour.
        beard: One of `BEARDS`.
        glasses: 0 for none, else the half width of a lens.
        glasses_round: Whether the lenses are round.
        glasses_colour: Of the frame.
        light: Direction to the lamp as x, y, z.
        ambient: Share of the light that has no direction.
        tint: Gain of red, green and blue: lamp and white balance.
        scale: Head units per frame side.
        noise: Standard deviation of the sensor's noise in grey levels.
        wall: Colours of the background's upper and lower edge.
        shirt: Colour.
    """

    seed: int
    width: float
    jaw: float
    skin: Colour
    freckles: int
    age: float
    hair_style: str
    hair: Colour
    hairline: float
    brow_height: float
    brow_thickness: float
    brow_slant: float
    brow: Colour
    eye_y: float
    eye_distance: float
    eye_width: float
    eye_height: float
    eye_slant: float
    iris: Colour
    nose_y: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    lip_thickness: float
    lips: Colour
    beard: str
    glasses: float
    glasses_round: bool
    glasses_colour: Colour
    light: tuple[float, float, float]
    ambient: float
    tint: Colour
    scale: float
    noise: float
    wall: tuple[Colour, Colour]
    shirt: Colour


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw the traits of a person at random.

    Args:
        rng: Its state decides everything.
    """

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def colour(low: float, high: float) -> Colour:
        return _as_colour(rng.uniform(low, high, 3))

    skin = _draw_skin(rng)
    hair = _HAIR_COLOURS[rng.choice(len(_HAIR_COLOURS), p=[0.2, 0.2, 0.18, 0.12, 0.07, 0.08, 0.05, 0.06, 0.04])]
    brightness = between(0.7, 1.05)
    wall = _jitter((between(45, 215),) * 3, rng, 35)
    return Identity(
        seed=int(rng.integers(2**31)),
        width=between(0.68, 0.84),
        jaw=between(1.7, 3.2),
        skin=skin,
        freckles=int(rng.choice([0, 3, 12, 60], p=[0.35, 0.4, 0.15, 0.1])),
        age=between(0, 1),
        hair_style=str(rng.choice(HAIR_STYLES, p=[0.1, 0.24, 0.2, 0.16, 0.18, 0.12])),
        hair=_jitter(hair, rng, 8),
        hairline=between(-0.62, -0.46),
        brow_height=between(0.15, 0.22),
        brow_thickness=between(0.025, 0.065),
        brow_slant=between(-0.03, 0.06),
        brow=_as_colour(np.array(hair) * between(0.5, 0.9)),
        eye_y=between(-0.12, -0.02),
        eye_distance=between(0.27, 0.345),
        eye_width=between(0.115, 0.155),
        eye_height=between(0.05, 0.085),
        eye_slant=between(-0.02, 0.035),
        iris=_jitter(_IRIS_COLOURS[rng.integers(len(_IRIS_COLOURS))], rng, 10),
        nose_y=between(0.24, 0.34),
        nose_width=between(0.1, 0.165),
        mouth_y=between(0.52, 0.61),
        mouth_width=between(0.21, 0.31),
        lip_thickness=between(0.04, 0.085),
        lips=_as_colour(np.array(skin) * (0.86, 0.6, 0.62) + (14, 4, 8)),
        beard=str(rng.choice(BEARDS)),
        glasses=between(0.19, 0.24) if rng.random() < 0.25 else 0.0,
        glasses_round=bool(rng.random() < 0.5),
        glasses_colour=colour(10, 70),
        light=(between(-0.9, 0.9), between(-0.8, 0.1), between(0.5, 1.0)),
        ambient=between(0.4, 0.7),
        tint=_as_colour(brightness * rng.uniform(0.94, 1.06, 3)),
        scale=between(0.275, 0.31),
        noise=between(1.5, 4.0),
        wall=(wall, _jitter(wall, rng, 35)),
        shirt=colour(20, 215),
    )


def _draw_skin(rng: np.random.Generator) -> Colour:
    tone = rng.uniform(0, 2)
    nearer, farther = (_LIGHT_SKIN, _MIDDLE_SKIN) if tone < 1 else (_MIDDLE_SKIN, _DARK_SKIN)
    return _jitter(nearer + (farther - nearer) * (tone % 1) + rng.uniform(-8, 8), rng, 4)


def _jitter(colour: Colour | np.ndarray, rng: np.random.Generator, width: float) -> Colour:
    return _as_colour(np.clip(np.array(colour) + rng.uniform(-width, width, 3), 8, 247))


def _as_colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


_BLINK = (0.35, 0.9, 1.0, 0.7, 0.3)
"""How far the lids close in the frames of a blink."""


@dataclass(frozen=True)
class Pose:
    """Position and expression of a head in one frame; the defaults look straight ahead.

    Args:
        yaw: Turn to the viewer's right, in radians.
        pitch: Nod downwards, in radians.
        roll: Tilt clockwise, in radians.
        shift_x: Of the head, in head units.
        shift_y: Of the head, in head units.
        zoom: Of the head.
        blink: 0 open to 1 closed.
        mouth_open: 0 closed to 1 wide open.
        mouth_wide: -1 pursed to 1 drawn wide.
        smile: -1 corners down to 1 corners up.
        gaze_x: Of the irises, -1 to 1.
        gaze_y: Of the irises, -1 to 1.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    zoom: float = 1.0
    blink: float = 0.0
    mouth_open: float = 0.0
    mouth_wide: float = 0.0
    smile: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


def animate(rng: np.random.Generator, *, num_frames: int, fps: float) -> list[Pose]:
    """Let a head move, look about, blink and speak.

    Args:
        rng: Its state decides everything.
        num_frames: Number of poses.
        fps: Frames a second.
    """
    seconds = np.arange(num_frames) / fps

    def sway(centre: float, width: float, hertz: float) -> npt.NDArray[np.float64]:
        waves = [np.sin(2 * np.pi * (hertz * rng.uniform(0.5, 1.8) * seconds + rng.random())) for _ in range(2)]
        return np.asarray(rng.uniform(-centre, centre) + width * rng.uniform(0.3, 1.0) * np.mean(waves, axis=0))

    speech = np.clip(sway(0.5, 1.2, 0.4) + 0.5, 0, 1)
    columns = {
        "yaw": sway(0.16, 0.2, 0.3),
        "pitch": sway(0.08, 0.1, 0.35),
        "roll": sway(0.06, 0.08, 0.25),
        "shift_x": sway(0.12, 0.1, 0.25),
        "shift_y": sway(0.08, 0.06, 0.3),
        "zoom": 1 + sway(0.03, 0.03, 0.2),
        "blink": _blink(rng, num_frames=num_frames, fps=fps),
        "mouth_open": np.clip(speech * np.abs(sway(0.2, 1.3, 2.2)), 0, 1),
        "mouth_wide": np.clip(sway(0.3, 0.7, 1.4), -1, 1),
        "smile": np.clip(sway(0.6, 0.4, 0.3), -1, 1),
        "gaze_x": sway(0.3, 0.6, 0.5),
        "gaze_y": sway(0.2, 0.3, 0.4),
    }
    return [Pose(**{name: float(column[frame]) for name, column in columns.items()}) for frame in range(num_frames)]


def _blink(rng: np.random.Generator, *, num_frames: int, fps: float) -> npt.NDArray[np.float64]:
    """People blink about every three seconds."""
    closed = np.zeros(num_frames + len(_BLINK))
    start = rng.uniform(0, 2) * fps
    while start < num_frames:
        closed[int(start) : int(start) + len(_BLINK)] = _BLINK
        start += rng.uniform(1.2, 4.0) * fps
    return closed[:num_frames]
