"""Score the faces of many frames in full batches, without keeping the pixels."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

from unmask.inference.results import FaceScore, FrameResult
from unmask.types import Array, Face, Frame, Picture

_Scores = list[tuple[float, Array | None]]

_LEAST = 4
"""Inputs of one call: with fewer, what a call costs by itself shows."""


class Score(Protocol):
    """Gives P(fake) and the activation map of each input."""

    def __call__(self, inputs: Sequence[Picture], *, in_stream: bool = False) -> _Scores:
        """Score inputs, in one of several streams or with the whole machine."""
        ...


class Scorer:
    """Gathers the faces of frames, and scores them in threads while the next ones are prepared.

    OpenCV, FFmpeg and the networks let go of Python's lock, so that all go on side by side. Use it in a `with`.

    Args:
        prepare: Turns a face of a frame into the network's input.
        score: Scores inputs.
        batch_size: Inputs that are scored at the same time, in all streams together; about twice as many are held.
        num_streams: Calls of `score` that go side by side.
    """

    def __init__(
        self, prepare: Callable[[Picture, Face], Picture], score: Score, *, batch_size: int, num_streams: int
    ) -> None:
        self._prepare = prepare
        self._score = score
        # Two parts of a batch for each stream: at the end, none waits long for the others.
        share = batch_size // (2 * num_streams) if num_streams > 1 else batch_size
        self._part_size = max(share, min(_LEAST, batch_size))
        self._most_parts = 2 * num_streams
        self._frames: list[tuple[int, float, list[Face]]] = []
        self._inputs: list[Picture] = []
        self._scores: _Scores = []
        self._threads = ThreadPoolExecutor(max_workers=num_streams)
        self._running: deque[Future[_Scores]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def add(self, frame: Frame, faces: Sequence[Face]) -> None:
        """Take a frame and its faces; the frame may be forgotten then."""
        self._frames.append((frame.index, frame.time_seconds, list(faces)))
        for face in faces:
            self._inputs.append(self._prepare(frame.image, face))
            if len(self._inputs) > self._part_size:  # one is kept back: a few faces alone are scored in one call
                self._submit(self._part_size)

    def finish(self) -> list[FrameResult]:
        """Return the frames, the faces of each numbered as they came."""
        if self._running or self._scores:
            self._submit(len(self._inputs))
            while self._running:
                self._collect()
        else:
            self._scores = self._score(self._inputs)
        scores = iter(self._scores)
        return [
            FrameResult(index, seconds, tuple(_join(number, face, *next(scores)) for number, face in enumerate(faces)))
            for index, seconds, faces in self._frames
        ]

    def _submit(self, count: int) -> None:
        while len(self._running) >= self._most_parts:
            self._collect()
        part, self._inputs = self._inputs[:count], self._inputs[count:]
        self._running.append(self._threads.submit(self._score, part, in_stream=True))

    def _collect(self) -> None:
        self._scores += self._running.popleft().result()


def _join(number: int, face: Face, score: float, activation_map: Array | None) -> FaceScore:
    return FaceScore(number, face.box, face.confidence, score, face.landmarks, activation_map)
