"""Score the faces of many frames in full batches, without keeping the frames."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

from unmask.inference.results import FaceScore, FrameResult
from unmask.types import Array, Face, Frame, Picture

_Scores = list[tuple[float, Array | None]]


class Score(Protocol):
    """Gives P(fake) and the activation map of each crop."""

    def __call__(self, crops: Sequence[Picture], *, in_stream: bool = False) -> _Scores:
        """Score crops, in one of several streams or with the whole machine."""
        ...


class Scorer:
    """Gathers the faces of frames, and scores them in threads while the next ones are cut out.

    OpenCV, FFmpeg and the networks let go of Python's lock, so that all go on side by side. Use it in a `with`.

    Args:
        cut: Takes a face out of a frame, as quickly as it may: the rest is better done in the streams.
        score: Scores what was cut out.
        batch_size: Crops scored at the same time, in all streams together; about three times as many are held.
        num_streams: Calls of `score` that go side by side.
    """

    def __init__(
        self, cut: Callable[[Picture, Face], Picture], score: Score, *, batch_size: int, num_streams: int
    ) -> None:
        self._cut = cut
        self._score = score
        self._part_size = max(batch_size // num_streams, 1)
        self._most_parts = 2 * num_streams
        self._frames: list[tuple[int, float, list[Face]]] = []
        self._crops: list[Picture] = []
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
            self._crops.append(self._cut(frame.image, face))
            if len(self._crops) > self._part_size:  # one is kept back: a few faces alone are scored in one call
                self._submit(self._part_size)

    def finish(self) -> list[FrameResult]:
        """Return the frames, the faces of each numbered as they came."""
        if self._running or self._scores:
            self._submit(len(self._crops))
            while self._running:
                self._collect()
        else:
            self._scores = self._score(self._crops)
        scores = iter(self._scores)
        return [
            FrameResult(index, seconds, tuple(_join(number, face, *next(scores)) for number, face in enumerate(faces)))
            for index, seconds, faces in self._frames
        ]

    def _submit(self, count: int) -> None:
        while len(self._running) >= self._most_parts:
            self._collect()
        part, self._crops = self._crops[:count], self._crops[count:]
        self._running.append(self._threads.submit(self._score, part, in_stream=True))

    def _collect(self) -> None:
        self._scores += self._running.popleft().result()


def _join(number: int, face: Face, score: float, activation_map: Array | None) -> FaceScore:
    return FaceScore(number, face.box, face.confidence, score, face.landmarks, activation_map)
