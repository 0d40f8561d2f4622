"""Search the frames of a video for faces: what is kept of them meanwhile, and what is said of them in the end."""

from collections.abc import Iterator, Sequence
from functools import partial

from unmask.faces.appearance import describe_faces
from unmask.faces.detector import Detector
from unmask.faces.search import Batch, count_at_once, search_faces
from unmask.faces.spec import CropSpec
from unmask.faces.track import Look
from unmask.inference.limits import Limits, choose_within
from unmask.inference.notes import note_crowd, note_frames, note_search
from unmask.inference.results import FrameResult
from unmask.inference.scene import SceneCheck, note_scene
from unmask.media.video import VideoIndex, choose_frames, read_indexed
from unmask.types import Face

_FRAMES_CHECKED = 3
"""Frames that are checked for scenes where the model takes images whole: each costs a detection."""


class Examination:
    """Searches a video, and keeps what is needed of frames that are let go.

    Args:
        index: Of the video.
        asked: Positions of the frames asked for, rising.
        spec: How crops are made.
        limits: How many frames are examined, and how many faces of each are kept.
        scene_check: For a model that takes images whole; None for others.

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
        self._takes_whole = spec.detector == "none"
        self._limits = limits
        self._scene_check = scene_check
        self._checked = {self._wanted[place] for place in choose_frames(len(self._wanted), num_frames=_FRAMES_CHECKED)}
        self._reasons: list[str | None] = []
        self._looks: dict[int, Sequence[Look]] = {}
        self._most_faces = 0

    def search(self, detector: Detector) -> Iterator[Batch]:
        """Search the frames asked for, and more where they show too few faces, within the limits."""
        limits, info = self._limits, self._index.info
        most = min(limits.max_search, limits.max_frames - len(self._wanted))
        read, at_once = partial(read_indexed, self._index), count_at_once(info.width, info.height)
        return search_faces(
            read, self._wanted, num_frames=info.num_frames, detector=detector, at_once=at_once, max_more=most
        )

    def take(self, batch: Batch) -> list[list[Face]]:
        """Return the faces to score of each frame of a batch."""
        self._most_faces = max(self._most_faces, *map(len, batch.faces))
        found = [faces[: self._limits.max_faces] for faces in batch.faces]
        for frame, faces in zip(batch.frames, found, strict=True):
            # An image that is taken whole is told from others by its place alone.
            looks = [None] * len(faces) if self._takes_whole else describe_faces(frame.image, faces)
            self._looks[frame.index] = looks
            if self._scene_check is not None and frame.index in self._checked:
                self._reasons.append(self._scene_check.explain(frame.image))
        self.num_done += len(found)
        self.num_planned = batch.num_planned
        return found

    def list_looks(self, frames: Sequence[FrameResult]) -> list[Sequence[Look]]:
        """Return the appearance of each face of frames."""
        return [self._looks[frame.index] for frame in frames]

    def list_notes(self, frames: Sequence[FrameResult]) -> list[str]:
        """Say what was examined and what was left out.

        Args:
            frames: All that were examined.
        """
        done, planned, wanted, total = self.num_done, self.num_planned, len(self._wanted), self._index.info.num_frames
        notes = [*self._index.notes]
        notes += note_frames(asked=self._num_asked, looked_at=wanted, planned=planned, decoded=done)
        notes += note_search(frames, num_asked=wanted, num_planned=planned, num_frames=total)
        notes += note_crowd(self._most_faces, max_faces=self._limits.max_faces, is_video=True)
        return notes + note_scene(self._reasons, is_video=True)
