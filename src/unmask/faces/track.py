"""Link the faces of a video into tracks, one per person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.faces.boxes import Floats, box_area, overlaps
from unmask.types import Face


@dataclass
class _Track:
    number: int
    box: Floats
    frame: int


def link_tracks(
    frames: Sequence[Sequence[Face]], *, max_missed: int = 5, max_distance: float = 1.5, max_growth: float = 2.0
) -> list[list[int]]:
    """Number the faces of a video by person.

    Each face joins the track whose last box it overlaps most. Frames may be far apart in time, so a face that overlaps
    none joins the nearest track of a like size, if it is near enough.

    Args:
        frames: The faces of each frame, in order of time.
        max_missed: A track that has no face for more frames than this has ended.
        max_distance: How far a face without overlap may have moved, in mean sides of the two boxes.
        max_growth: How many times larger or smaller, in side, a face without overlap may have become.

    Returns:
        The track of each face, numbered from 0 in order of appearance.
    """
    tracks: list[_Track] = []
    numbers: list[list[int]] = []
    for index, faces in enumerate(frames):
        boxes = np.array([face.box for face in faces], dtype=np.float64).reshape(-1, 4)
        alive = [track for track in tracks if index - track.frame <= max_missed + 1]
        matches = _match(alive, boxes, max_distance=max_distance, max_growth=max_growth)
        row = []
        for position, box in enumerate(boxes):
            track = matches.get(position)
            if track is None:
                track = _Track(number=len(tracks), box=box, frame=index)
                tracks.append(track)
            track.box, track.frame = box, index
            row.append(track.number)
        numbers.append(row)
    return numbers


def _match(tracks: list[_Track], boxes: Floats, *, max_distance: float, max_growth: float) -> dict[int, _Track]:
    """Pair tracks and boxes, the best pair first; greedy is enough for the few faces of a frame."""
    pairs = [
        (-value, track.number, position, track)
        for track in tracks
        for position, value in enumerate(
            _affinity(track.box, boxes, max_distance=max_distance, max_growth=max_growth).tolist()
        )
        if value > 0
    ]
    matches: dict[int, _Track] = {}
    taken: set[int] = set()
    for _, number, position, track in sorted(pairs, key=lambda pair: pair[:3]):
        if number not in taken and position not in matches:
            matches[position] = track
            taken.add(number)
    return matches


def _affinity(box: Floats, others: Floats, *, max_distance: float, max_growth: float) -> Floats:
    """Rate pairs: 1 + overlap where boxes overlap, else below 1 by distance, 0 where they cannot be one person."""
    shared = overlaps(box, others)
    side, sides = _side(box[None])[0], _side(others)
    centres = (others[:, :2] + others[:, 2:]) / 2 - (box[:2] + box[2:]) / 2
    distance = np.hypot(centres[:, 0], centres[:, 1]) / ((side + sides) / 2)
    growth = np.maximum(sides / side, side / sides)
    near = np.where((distance <= max_distance) & (growth <= max_growth), 1 / (1 + distance), 0.0)
    return np.where(shared > 0, 1 + shared, near)


def _side(boxes: Floats) -> Floats:
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 1e-6, None)
    return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]))


def follow_largest(frames: Sequence[Sequence[Face]]) -> list[Face | None]:
    """Return the main person's face in each frame, None where it is lost.

    The main person is the track with the greatest area summed over all frames: large and long in view, so that neither
    a passer-by nor a false alarm of one frame takes over.

    Args:
        frames: The faces of each frame, in order of time.
    """
    tracks = link_tracks(frames)
    totals: dict[int, float] = {}
    for faces, numbers in zip(frames, tracks, strict=True):
        for face, number in zip(faces, numbers, strict=True):
            totals[number] = totals.get(number, 0.0) + box_area(face.box)
    if not totals:
        return [None for _ in frames]
    main = max(totals, key=lambda number: totals[number])
    return [
        next((face for face, number in zip(faces, numbers, strict=True) if number == main), None)
        for faces, numbers in zip(frames, tracks, strict=True)
    ]
