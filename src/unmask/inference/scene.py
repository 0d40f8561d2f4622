"""Search a video for faces, and recognize scenes given to a model that takes whole images."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from unmask.errors import DetectorError
from unmask.faces.crop import Sieve
from unmask.faces.detector import Detector
from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet, has_mobilenet_weights
from unmask.faces.search import Batch, count_at_once, search_faces
from unmask.faces.spec import CropSpec
from unmask.faces.track import Look, describe_faces
from unmask.inference.limits import Limits, choose_within
from unmask.inference.results import FrameResult
from unmask.inference.words import note_crowd, note_frames, note_search
from unmask.media.video import VideoIndex, choose_frames, index_video, read_indexed
from unmask.types import Face, Image

_SIDE, _BORDER = 240, 40
"""Images are brought to this longer side, enlarged too, with a border: a face is found even where it fills the crop."""

_MAX_ASPECT = 1.6
"""Longer over shorter side. Crops are square, and portraits of public datasets at most 3:2."""

_LEAST = 100
"""In an image whose longer side has fewer pixels a face may escape the detector, and its shape alone tells."""

_MIN_SHARE = 1 / 3
"""Of the image's longer side that a face takes. In a crop of margin 1.3 it takes 0.77, in FFHQ's portraits 0.5."""

_RIVAL = 0.6
"""A second face of this share of the first one's side is a second subject, a smaller one somebody in the background."""


class SceneCheck:
    """Tells scenes from face crops by their shape, and by the small RetinaFace if its weights are on this machine.

    Nothing is fetched for it: without the weights, or with damaged ones, the shape alone tells.

    Args:
        detector: None for that RetinaFace.
    """

    def __init__(self, detector: Detector | None = None) -> None:
        self._detector = detector
        self._is_open = detector is not None

    def explain(self, image: Image) -> str | None:
        """Return why an image looks like a scene; None if it looks like a face crop.

        Args:
            image: RGB pixels.
        """
        height, width = image.shape[:2]
        if max(height, width) > _MAX_ASPECT * min(height, width):
            return f"it has {width} x {height} pixels, far from square"
        faces = self._find(image) if max(height, width) >= _LEAST else None
        if faces is None:
            return None
        if not faces:
            return "no face is found in it"
        sides = [max(face.box[2] - face.box[0], face.box[3] - face.box[1]) for face in faces]
        rivals = sum(side >= _RIVAL * max(sides) for side in sides)
        if rivals > 1:
            return f"{rivals} faces of similar size are found in it"
        share = max(sides) / _SIDE
        return f"its face takes {share:.0%} of its longer side" if share < _MIN_SHARE else None

    def _find(self, image: Image) -> list[Face] | None:
        if not self._is_open:
            self._is_open = True
            self._detector = RetinaFaceMobileNet() if has_mobilenet_weights() else None
        if self._detector is None:
            return None
        scale = _SIDE / max(image.shape[:2])
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        framed = np.pad(small, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), constant_values=128)
        try:
            return self._detector.detect([framed])[0]
        except DetectorError:
            self._detector = None
            return None


def note_scene(reasons: Sequence[str | None], *, is_video: bool) -> list[str]:
    """Return the note on a scene given to a model that takes images whole.

    Args:
        reasons: Results of `SceneCheck.explain` for the image, or for the checked frames of a video.
        is_video: Whether they are of a video.
    """
    found = [reason for reason in reasons if reason is not None]
    if 2 * len(found) <= len(reasons):
        return []
    where = f"{len(found)} of the {len(reasons)} frames checked look" if is_video else "this one looks"
    return [
        f"The model takes whole images, as trained (detector=none), but {where} like a scene rather than a face "
        f"crop: {found[0]}. If its training images were crops, the score says little: cut the face out first, or use "
        f"a model that was trained with a detector."
    ]


def take_faces(
    image: Image, faces: Sequence[Face], *, spec: CropSpec, max_faces: int, scene_check: SceneCheck | None
) -> tuple[list[Face], list[str]]:
    """Return the faces of an image to score, and notes: faces left out, and a scene for a model that takes crops whole.

    Args:
        image: RGB image.
        faces: All faces found.
        spec: Crop spec, whose limits the faces must meet.
        max_faces: Maximum number of faces to score.
        scene_check: Scene check of a model that takes images whole; None for others.
    """
    sieve, reasons = Sieve(spec), [] if scene_check is None else [scene_check.explain(image)]
    kept = sieve.keep(image, faces[:max_faces])
    crowd = note_crowd(len(faces), max_faces=max_faces, is_video=False)
    return kept, [*crowd, *note_failed(sieve), *note_scene(reasons, is_video=False)]


def note_failed(sieve: Sieve) -> list[str]:
    """Return the note on faces not scored because they fail the limits of the model's training crops."""
    if not sieve.num_failed:
        return []
    return [f"{sieve.describe_failed()} failed a limit that the model was trained with, and were not scored."]


_FRAMES_CHECKED = 3
"""Frames that are checked for scenes where the model takes images whole: each costs a detection."""


class Examination:
    """Search a video for faces, and keep what later steps need of frames already released.

    Args:
        index: Video index.
        asked: Positions of the frames asked for, ascending.
        spec: Crop spec.
        limits: Limits on frames examined and on faces kept per frame.
        scene_check: Scene check of a model that takes images whole; None for others.

    Raises:
        MediaError: The video is longer than the limit.
    """

    def __init__(
        self,
        index: VideoIndex,
        asked: Sequence[int],
        *,
        spec: CropSpec,
        limits: Limits,
        scene_check: SceneCheck | None,
    ) -> None:
        self._index, self._num_asked = index, len(asked)
        self._wanted = choose_within(index, asked, limits=limits)
        self.num_done = 0
        self.num_planned = len(self._wanted)
        self._takes_whole = spec.takes_whole
        self._limits, self._sieve = limits, Sieve(spec)
        self._scene_check = scene_check
        self._checked = {self._wanted[place] for place in choose_frames(len(self._wanted), num_frames=_FRAMES_CHECKED)}
        self._reasons: list[str | None] = []
        self._looks: dict[int, Sequence[Look]] = {}
        self._most_faces = 0

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        name: str | None,
        num_frames: int,
        every_n: int | None,
        spec: CropSpec,
        limits: Limits,
        scene_check: SceneCheck | None,
    ) -> Self:
        """Index a video and choose the frames to examine.

        Args:
            path: Video file.
            name: Name in results and messages; None for the path.
            num_frames: Number of frames, evenly spaced.
            every_n: Stride in frames; replaces `num_frames`.
            spec: Crop spec.
            limits: Limits of one file.
            scene_check: Scene check of a model that takes images whole; None for others.

        Raises:
            MediaError: The video cannot be read, or is over a limit.
        """
        index = index_video(path, name=name, max_pixels=limits.max_pixels)
        asked = choose_frames(index.info.num_frames, num_frames=num_frames, every_n=every_n)
        return cls(index, asked, spec=spec, limits=limits, scene_check=scene_check)

    @property
    def name(self) -> str:
        """Name of the video in results and messages."""
        return self._index.name

    @property
    def num_frames(self) -> int:
        """Number of frames in the file."""
        return self._index.info.num_frames

    def search(self, detector: Detector) -> Iterator[Batch]:
        """Search the frames asked for, and more where they show too few faces, within the limits."""
        limits, info = self._limits, self._index.info
        most = min(limits.max_search, limits.max_frames - len(self._wanted))
        read, at_once = partial(read_indexed, self._index), count_at_once(info.width, info.height)
        return search_faces(
            read, self._wanted, num_frames=info.num_frames, detector=detector, at_once=at_once, max_more=most
        )

    def take(self, batch: Batch) -> list[list[Face]]:
        """Return the faces to score of each frame of a batch: those within the limits, and those of the spec."""
        self._most_faces = max(self._most_faces, *map(len, batch.faces))
        found = [
            self._sieve.keep(frame.image, faces[: self._limits.max_faces])
            for frame, faces in zip(batch.frames, batch.faces, strict=True)
        ]
        for frame, faces in zip(batch.frames, found, strict=True):
            self._looks[frame.index] = describe_faces(frame.image, faces, is_whole=self._takes_whole)
            if self._scene_check is not None and frame.index in self._checked:
                self._reasons.append(self._scene_check.explain(frame.image))
        self.num_done += len(found)
        self.num_planned = batch.num_planned
        return found

    def list_looks(self, frames: Sequence[FrameResult]) -> list[Sequence[Look]]:
        """Return the appearance of each face of frames."""
        return [self._looks[frame.index] for frame in frames]

    def list_notes(self, frames: Sequence[FrameResult]) -> list[str]:
        """Return the notes on what was examined and what was left out.

        Args:
            frames: All that were examined.
        """
        done, planned, wanted, total = self.num_done, self.num_planned, len(self._wanted), self._index.info.num_frames
        notes = [*self._index.notes]
        notes += note_frames(asked=self._num_asked, looked_at=wanted, planned=planned, decoded=done)
        if self._sieve.num_kept or not self._sieve.num_failed:
            notes += note_search(frames, num_asked=wanted, num_planned=planned, num_frames=total)
        notes += note_failed(self._sieve)
        notes += note_crowd(self._most_faces, max_faces=self._limits.max_faces, is_video=True)
        return notes + note_scene(self._reasons, is_video=True)
