"""Score the faces of many frames in full batches, without keeping the pixels."""

from collections.abc import Callable, Sequence

from unmask.inference.results import FaceScore, FrameResult
from unmask.types import Array, Face, Frame, Picture


class Scorer:
    """Gathers the faces of frames, and scores them whenever a batch is full.

    Args:
        prepare: Turns a face of a frame into the network's input.
        score: Gives P(fake) and the activation map of each input.
        batch_size: Inputs held and scored at once.
    """

    def __init__(
        self,
        prepare: Callable[[Picture, Face], Picture],
        score: Callable[[Sequence[Picture]], list[tuple[float, Array | None]]],
        *,
        batch_size: int,
    ) -> None:
        self._prepare = prepare
        self._score = score
        self._batch_size = batch_size
        self._frames: list[tuple[int, float, list[Face]]] = []
        self._inputs: list[Picture] = []
        self._scores: list[tuple[float, Array | None]] = []

    def add(self, frame: Frame, faces: Sequence[Face]) -> None:
        """Take a frame and its faces; the frame may be forgotten then."""
        self._frames.append((frame.index, frame.time_seconds, list(faces)))
        for face in faces:
            self._inputs.append(self._prepare(frame.image, face))
            if len(self._inputs) == self._batch_size:
                self._flush()

    def finish(self) -> list[FrameResult]:
        """Return the frames, the faces of each numbered as they came."""
        self._flush()
        scores = iter(self._scores)
        return [
            FrameResult(index, seconds, tuple(_join(number, face, *next(scores)) for number, face in enumerate(faces)))
            for index, seconds, faces in self._frames
        ]

    def _flush(self) -> None:
        self._scores += self._score(self._inputs)
        self._inputs.clear()


def _join(number: int, face: Face, score: float, activation_map: Array | None) -> FaceScore:
    return FaceScore(number, face.box, face.confidence, score, face.landmarks, activation_map)
