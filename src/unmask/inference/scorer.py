"""Score the faces of many frames in full batches, without keeping the pixels."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from unmask.inference.results import FaceScore, FrameResult
from unmask.types import Array, Face, Frame, Picture

_Scores = list[tuple[float, Array | None]]


class Scorer:
    """Gathers the faces of frames, and scores a full batch in a thread while the next one is prepared.

    OpenCV, FFmpeg and the networks let go of Python's lock, so that the two run side by side. Use it in a `with`.

    Args:
        prepare: Turns a face of a frame into the network's input.
        score: Gives P(fake) and the activation map of each input.
        batch_size: Inputs scored at once; twice as many are held.
    """

    def __init__(
        self,
        prepare: Callable[[Picture, Face], Picture],
        score: Callable[[Sequence[Picture]], _Scores],
        *,
        batch_size: int,
    ) -> None:
        self._prepare = prepare
        self._score = score
        self._batch_size = batch_size
        self._frames: list[tuple[int, float, list[Face]]] = []
        self._inputs: list[Picture] = []
        self._scores: _Scores = []
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._running: Future[_Scores] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()

    def add(self, frame: Frame, faces: Sequence[Face]) -> None:
        """Take a frame and its faces; the frame may be forgotten then."""
        self._frames.append((frame.index, frame.time_seconds, list(faces)))
        for face in faces:
            self._inputs.append(self._prepare(frame.image, face))
            if len(self._inputs) == self._batch_size:
                self._collect()
                self._running, self._inputs = self._thread.submit(self._score, self._inputs), []

    def finish(self) -> list[FrameResult]:
        """Return the frames, the faces of each numbered as they came."""
        self._collect()
        self._scores += self._score(self._inputs)
        self._inputs = []
        scores = iter(self._scores)
        return [
            FrameResult(index, seconds, tuple(_join(number, face, *next(scores)) for number, face in enumerate(faces)))
            for index, seconds, faces in self._frames
        ]

    def _collect(self) -> None:
        if self._running is not None:
            self._scores += self._running.result()
            self._running = None


def _join(number: int, face: Face, score: float, activation_map: Array | None) -> FaceScore:
    return FaceScore(number, face.box, face.confidence, score, face.landmarks, activation_map)
