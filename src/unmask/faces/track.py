"""Link the faces of a video into tracks, one per person."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from unmask.faces.boxes import Floats, box_area, overlaps
from unmask.types import Face, Image

Appearance = npt.NDArray[np.float16]
"""Square roots of the histograms, one after another: texture, colours of the face, colours with the surroundings."""

_SIDE, _CELLS, _CODES = 48, 3, 59
_WIDE, _WIDE_SIDE = 2.0, 112
"""The surroundings reach as far as a square twice as wide as the face, seen in so many pixels."""

_TEXTURE = slice(0, _CELLS * _CELLS * _CODES)
_COLOURS = slice(_TEXTURE.stop, _TEXTURE.stop + 56)
_SURROUNDINGS = slice(_COLOURS.stop, _COLOURS.stop + 56)

_COLOUR_WEIGHT = 0.2
"""Of the colours of a face beside its texture: they tell people apart well, and change with the light."""

_COLOUR_LIMIT = 0.6
"""Light hardly changes colours more than this: what is beyond counts ten times as much."""

_PLACES = np.array([[0.32, 0.36], [0.68, 0.36], [0.36, 0.78], [0.64, 0.78]]) * _SIDE
"""Where eyes and corners of the mouth come to lie."""

_USUAL_PLACES = np.array([[0.271, 0.391], [0.723, 0.385], [0.310, 0.741], [0.695, 0.736]])
"""Where they lie in a box on average, for detectors without landmarks: measured with RetinaFace on 120 photographs."""

_OFFSET = 3
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def describe_faces(image: Image, faces: Sequence[Face], *, is_whole: bool = False) -> list[Appearance | None]:
    """Describe faces while their frame is at hand.

    Args:
        image: The frame.
        faces: Detections in it.
        is_whole: Whether each is a whole image, which its place alone tells from others: cuts do not part them.

    Returns:
        The appearance of each; None where less than two pixels of it lie in the frame, and of whole images.
    """
    return [None if is_whole else _describe(image, face) for face in faces]


def face_distances(some: Sequence[Appearance], others: Sequence[Appearance]) -> npt.NDArray[np.float64]:
    """Return how unlike each of some faces is to each of others, 0 to 2; see `unmask.faces.track` for what is alike.

    Args:
        some: `N` appearances.
        others: `M` appearances.

    Returns:
        Shape `(N, M)`.
    """
    first, second = np.asarray(some, np.float32), np.asarray(others, np.float32)
    colours = _bhattacharyya(first, second, _COLOURS)
    colours += 9 * np.clip(colours - _COLOUR_LIMIT, 0, None)
    return _bhattacharyya(first, second, _TEXTURE) + _COLOUR_WEIGHT * colours


def surroundings_distances(some: Sequence[Appearance], others: Sequence[Appearance]) -> npt.NDArray[np.float64]:
    """Return how unlike faces with their surroundings are in colour, 0 to 1, shape `(N, M)`."""
    return _bhattacharyya(np.asarray(some, np.float32), np.asarray(others, np.float32), _SURROUNDINGS)


def _bhattacharyya(
    some: npt.NDArray[np.float32], others: npt.NDArray[np.float32], part: slice
) -> npt.NDArray[np.float64]:
    alike = some[:, part].astype(np.float64) @ others[:, part].astype(np.float64).T
    return np.asarray(np.sqrt(np.clip(1 - alike, 0, None)))


def _describe(image: Image, face: Face) -> Appearance | None:
    x1, y1, x2, y2 = face.box
    half = max(x2 - x1, y2 - y1) * _WIDE / 2
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(middle - half), 0, None).astype(int)
    right, bottom = np.ceil(np.minimum(middle + half, (width, height))).astype(int)
    if right - left < 2 or bottom - top < 2:
        return None
    step = max(max(right - left, bottom - top) // _WIDE_SIDE, 1)  # averaging all pixels would take four times as long
    wide = image[top:bottom:step, left:right:step]
    shrink = min(_WIDE_SIDE / max(wide.shape[:2]), 1.0)
    size = max(round(wide.shape[1] * shrink), 2), max(round(wide.shape[0] * shrink), 2)
    wide = np.asarray(cv2.resize(wide, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    scale = np.array(size) / (right - left, bottom - top)
    corner = np.array([left, top])
    inner_left, inner_top = np.clip(np.floor((np.array([x1, y1]) - corner) * scale), 0, np.array(size) - 1).astype(int)
    inner_right, inner_bottom = np.ceil((np.array([x2, y2]) - corner) * scale).astype(int)
    inner = wide[inner_top : max(inner_bottom, inner_top + 1), inner_left : max(inner_right, inner_left + 1)]
    texture = _texture(_align(wide, (_points(face) - corner) * scale))
    parts = [texture, _colours(inner), _colours(wide)]
    return np.sqrt(np.concatenate(parts)).astype(np.float16)


def _points(face: Face) -> npt.NDArray[np.float64]:
    if face.landmarks is not None:
        points = np.asarray(face.landmarks, np.float64)[[0, 1, 3, 4]]
        if np.ptp(points, axis=0).min() > 1:
            return points
    x1, y1, x2, y2 = face.box
    return np.array([x1, y1]) + _USUAL_PLACES * (x2 - x1, y2 - y1)


def _align(wide: Image, points: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Bring a face upright to one size, by the similarity that fits its points best (Umeyama, PAMI 1991)."""
    centre, goal = points.mean(axis=0), _PLACES.mean(axis=0)
    start, end = points - centre, _PLACES - goal
    size = max(float((start**2).sum()), 1e-6)
    along = float((start * end).sum()) / size
    across = float((start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]).sum()) / size
    turn = np.array([[along, -across], [across, along]])
    matrix = np.c_[turn, goal - turn @ centre]
    grey = cv2.cvtColor(wide, cv2.COLOR_RGB2GRAY)
    face = cv2.warpAffine(grey, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.GaussianBlur(face, (0, 0), 0.8), np.uint8)


def _texture(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the share of each uniform pattern in each cell, 1 over all cells."""
    least = np.maximum(face[1:-1, 1:-1], _OFFSET) - _OFFSET
    codes = np.zeros(least.shape, np.uint8)
    for bit, (down, right) in enumerate(_NEIGHBOURS):
        neighbour = face[1 + down : _SIDE - 1 + down, 1 + right : _SIDE - 1 + right]
        codes |= (neighbour >= least).astype(np.uint8) << bit
    cells = np.arange(_SIDE - 2) * _CELLS // (_SIDE - 2)
    places = (cells[:, None] * _CELLS + cells[None, :]) * _CODES + _UNIFORM[codes]
    counts = np.bincount(places.ravel(), minlength=_CELLS * _CELLS * _CODES)
    return np.asarray(counts / counts.sum())


def _list_uniform() -> npt.NDArray[np.intp]:
    """Number the patterns with at most two changes between 0 and 1 around the circle; all others share the last."""
    turned = [(code >> 1) | (code & 1) << 7 for code in range(256)]
    uniform = [code for code in range(256) if (code ^ turned[code]).bit_count() <= 2]
    numbers = np.full(256, len(uniform), np.intp)
    numbers[uniform] = np.arange(len(uniform))
    return numbers


_UNIFORM = _list_uniform()


def _colours(part: Image) -> npt.NDArray[np.float64]:
    """Return a histogram of hue and saturation beside one of value, 1 in all."""
    hsv = cv2.cvtColor(part, cv2.COLOR_RGB2HSV)
    hues = cv2.calcHist([hsv], [0, 1], None, [12, 4], [0, 180, 0, 256]).ravel()
    values = cv2.calcHist([hsv], [2], None, [8], [0, 256]).ravel()
    return np.asarray(np.concatenate([0.6 * hues, 0.4 * values]) / (part.shape[0] * part.shape[1]), np.float64)


Look = Appearance | None
"""The appearance of a face, None where it has none; see `describe_faces`."""

# Measured on one person's face through a video, and on 120 photographs, each in other light, size, sharpness and tilt:
# pairs of one person lie below 0.41 in one light and below 0.49 in another, pairs of different people above 0.43 in
# 99 of 100 cases. The limits lie lower still, as a track is compared by the most alike of its views: on made-up videos
# these mixed nobody's faces (0.45 did where one face replaces another on the same body), and split people as rarely.
_SAME_SHOT = 0.5
"""A face may be this unlike a track that was last seen where it is, in a view that has hardly changed: it turned."""

_SAME_PLACE = 0.43
"""And this unlike one that was last seen where it is, in the same surroundings."""

_SAME_SURROUNDINGS = 0.41
"""And this unlike one that was seen in the same surroundings, in another place or some time ago."""

_ANYWHERE = 0.38
"""And this unlike one in other surroundings, as after a cut, where position means nothing."""

_SAME_BACKGROUND = 0.25
"""Surroundings that differ less in colour are the same: those of one shot lie below 0.16."""

_UNCHANGED = 0.07
"""And surroundings that differ less, the face among them, are the next moment of a shot: nobody else can be there."""

_NEW_VIEW = 0.2
"""A face that is less unlike all views of its track adds nothing to them."""

_MAX_VIEWS = 12

_MAX_LOST = 16
"""People who may come back, those seen last: among very many, some stranger would look alike."""


@dataclass
class _Track:
    number: int
    box: Floats
    frame: int
    look: Look = None
    views: list[Appearance] = field(default_factory=list)

    def move(self, box: Floats, frame: int, look: Look) -> None:
        """Take the next face of this person."""
        self.box, self.frame = box, frame
        if look is None:
            return
        self.look = look
        if not self.views or face_distances([look], self.views).min() >= _NEW_VIEW:
            self.views = [*self.views, look][-_MAX_VIEWS:]


def link_tracks(
    frames: Sequence[Sequence[Face]],
    *,
    looks: Sequence[Sequence[Look]] | None = None,
    max_missed: int = 5,
    max_distance: float = 1.5,
    max_growth: float = 2.0,
) -> list[list[int]]:
    """Number the faces of a video by person.

    By position, each face joins the track whose last box it overlaps most. Frames may be far apart in time, so a face
    that overlaps none joins the nearest track of a like size, if it is near enough.

    Where appearances are given, a face joins only a track that it resembles, the less so the weaker the evidence of
    position: position and appearance gate each other and are added up, and a track keeps several views of its person,
    as in DeepSORT (Wojke, Bewley and Paulus, ICIP 2017). So no track runs across a cut to somebody else, and a person
    who comes back takes up the old track.

    Args:
        frames: The faces of each frame, in order of time.
        looks: Of these faces; None for position alone.
        max_missed: By position, a track that has no face for more frames than this has ended.
        max_distance: How far a face without overlap may have moved, in mean sides of the two boxes.
        max_growth: How many times larger or smaller, in side, a face without overlap may have become.

    Returns:
        The track of each face, numbered from 0 in order of appearance.
    """
    tracks: list[_Track] = []
    numbers: list[list[int]] = []
    for index, faces in enumerate(frames):
        boxes = np.array([face.box for face in faces], dtype=np.float64).reshape(-1, 4)
        some: Sequence[Look] = [None] * len(faces) if looks is None else looks[index]
        ratings = []
        for track, is_alive in _candidates(tracks, index, max_missed=max_missed):
            places = np.zeros(len(boxes))
            if is_alive:
                places = _affinity(track.box, boxes, max_distance=max_distance, max_growth=max_growth)
            ratings.append((track, _rate(track, places, some)))
        matches = _match(ratings)
        row = []
        for position, (box, look) in enumerate(zip(boxes, some, strict=True)):
            track = matches.get(position) or _Track(number=len(tracks), box=box, frame=index)
            if track.number == len(tracks):
                tracks.append(track)
            track.move(box, index, look)
            row.append(track.number)
        numbers.append(row)
    return numbers


def _candidates(tracks: list[_Track], index: int, *, max_missed: int) -> list[tuple[_Track, bool]]:
    """List the tracks that a face of this frame may join, and whether the last box of each still counts."""
    alive = [track for track in tracks if index - track.frame <= max_missed + 1]
    lost = [track for track in tracks if index - track.frame > max_missed + 1 and track.look is not None]
    lost = sorted(lost, key=lambda track: -track.frame)[:_MAX_LOST]
    return [(track, True) for track in alive] + [(track, False) for track in lost]


def _rate(track: _Track, places: Floats, looks: Sequence[Look]) -> Floats:
    """Rate how well faces fit a track, 0 where they cannot be its person.

    Args:
        track: That they may join.
        places: Their ratings by position alone.
        looks: Their appearances; those without one are rated by position.
    """
    known = [position for position, look in enumerate(looks) if look is not None]
    if track.look is None or not known:
        return places
    some = [look for look in looks if look is not None]
    views = [*track.views, track.look]
    unlike = face_distances(views, some).min(axis=0)
    around = surroundings_distances(views, some)
    stays = (around[-1] < _SAME_BACKGROUND) & (places[known] > 0)
    limits = np.where(around.min(axis=0) < _SAME_BACKGROUND, _SAME_SURROUNDINGS, _ANYWHERE)
    limits = np.where(stays, np.where(around[-1] < _UNCHANGED, _SAME_SHOT, _SAME_PLACE), limits)
    ratings = places.copy()
    ratings[known] = np.where(unlike < limits, 2 - unlike + np.where(stays, places[known], 0.0), 0.0)
    return ratings


def _match(ratings: Sequence[tuple[_Track, Floats]]) -> dict[int, _Track]:
    """Pair tracks and boxes, the best pair first; greedy is enough for the few faces of a frame."""
    pairs = [
        (-value, track.number, position, track)
        for track, values in ratings
        for position, value in enumerate(values.tolist())
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


def follow_largest(
    frames: Sequence[Sequence[Face]],
    *,
    looks: Sequence[Sequence[Look]] | None = None,
    weights: Sequence[Sequence[float]] | None = None,
) -> list[Face | None]:
    """Return the main person's face in each frame, None where it is lost.

    The main person is the track with the greatest area summed over all frames: large and long in view, so that neither
    a passer-by nor a false alarm of one frame takes over.

    Args:
        frames: The faces of each frame, in order of time.
        looks: Of these faces; None for position alone.
        weights: What is summed of each face instead of its area; a person without any weight is never followed.
    """
    tracks = link_tracks(frames, looks=looks)
    totals = _sum_by_track(tracks, _measure_areas(frames) if weights is None else weights)
    if not any(totals.values()):
        return [None for _ in frames]
    main = max(totals, key=lambda number: totals[number])
    return [
        next((face for face, number in zip(faces, numbers, strict=True) if number == main), None)
        for faces, numbers in zip(frames, tracks, strict=True)
    ]


def rank_people(
    frames: Sequence[Sequence[Face]],
    *,
    looks: Sequence[Sequence[Look]] | None = None,
    weights: Sequence[Sequence[float]] | None = None,
) -> list[list[int]]:
    """Number the faces by person as `link_tracks` does, but the main person, as in `follow_largest`, is 0.

    Args:
        frames: The faces of each frame, in order of time.
        looks: Of these faces; None for position alone.
        weights: What ranks people before their area does, summed over their faces.
    """
    tracks = link_tracks(frames, looks=looks)
    areas = _sum_by_track(tracks, _measure_areas(frames))
    firsts = areas if weights is None else _sum_by_track(tracks, weights)
    order = sorted(areas, key=lambda number: (-firsts[number], -areas[number]))
    ranks = {number: rank for rank, number in enumerate(order)}
    return [[ranks[number] for number in numbers] for numbers in tracks]


def _measure_areas(frames: Sequence[Sequence[Face]]) -> list[list[float]]:
    return [[box_area(face.box) for face in faces] for faces in frames]


def _sum_by_track(tracks: Sequence[Sequence[int]], weights: Sequence[Sequence[float]]) -> dict[int, float]:
    totals: dict[int, float] = {}
    for values, numbers in zip(weights, tracks, strict=True):
        for value, number in zip(values, numbers, strict=True):
            totals[number] = totals.get(number, 0.0) + value
    return totals
