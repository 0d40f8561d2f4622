"""How a head is held and what its face does, from frame to frame."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
