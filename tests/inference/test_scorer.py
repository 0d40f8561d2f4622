import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.networks import make_network

from unmask.errors import CheckpointError
from unmask.inference.backend import OnnxBackend, Scorer
from unmask.models.bundle import export_onnx
from unmask.types import Array, Face, Frame, Image

FACE = Face((0.0, 0.0, 4.0, 4.0), None, 1.0)


def cut(image: Image, face: Face) -> Image:
    return image


class Recorder:
    """Scores a crop with its own value, after a while, and notes how it was asked."""

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.calls: list[tuple[int, bool]] = []
        self.most_at_once, self._at_once = 0, 0
        self._fail_at, self._lock = fail_at, threading.Lock()

    def __call__(self, crops: Sequence[Image], *, in_stream: bool = False) -> list[tuple[float, Array | None]]:
        values = [int(crop[0, 0, 0]) for crop in crops]
        with self._lock:
            self.calls.append((len(crops), in_stream))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(random.Random(values[0] if values else 0).uniform(0.001, 0.02))
        with self._lock:
            self._at_once -= 1
        if self._fail_at in values:
            raise CheckpointError("damaged")
        return [(value / 255, None) for value in values]


def run(score: Recorder, counts: Sequence[int], *, batch_size: int, num_streams: int) -> list[list[float]]:
    """Score frames with so many faces each; the n-th face of all has the value n."""
    value = 0
    with Scorer(cut, score, batch_size=batch_size, num_streams=num_streams) as scorer:
        for index, count in enumerate(counts):
            for _ in range(count):
                scorer.add(Frame(np.full((4, 4, 3), value, np.uint8), index, 0.0), [FACE])
                value += 1
            if not count:
                scorer.add(Frame(np.zeros((4, 4, 3), np.uint8), index, 0.0), [])
        return [[face.score for face in frame.faces] for frame in scorer.finish()]


@pytest.mark.parametrize("num_streams", [1, 2, 5])
@pytest.mark.parametrize("total", [0, 1, 8, 9, 16, 17, 100])
def test_scores_stay_with_their_faces_however_streams_overtake_each_other(num_streams: int, total: int) -> None:
    score = Recorder()
    found = run(score, [1] * total, batch_size=8, num_streams=num_streams)
    assert found == [[value / 255] for value in range(total)]
    assert sum(count for count, _ in score.calls) == total
    assert max((count for count, _ in score.calls), default=0) <= 8
    assert score.most_at_once <= num_streams


def test_frames_without_faces_keep_their_place() -> None:
    found = run(Recorder(), [0, 1, 0, 0, 1], batch_size=2, num_streams=2)
    assert [len(frame) for frame in found] == [0, 1, 0, 0, 1]


def test_few_faces_are_scored_in_one_call_and_many_in_streams() -> None:
    few, many = Recorder(), Recorder()
    run(few, [1] * 4, batch_size=8, num_streams=2)
    run(many, [1] * 40, batch_size=8, num_streams=2)
    assert few.calls == [(4, False)]
    assert sorted(many.calls) == [(4, True)] * 10
    assert many.most_at_once == 2


@pytest.mark.parametrize("fail_at", [0, 20, 39])
def test_an_error_in_a_stream_is_raised(fail_at: int) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        run(Recorder(fail_at=fail_at), [1] * 40, batch_size=8, num_streams=2)


def test_streams_give_the_same_scores_as_one_call(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_onnx(make_network(name="tiny", input_size=32).eval(), tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    backend = OnnxBackend(tmp_path / "model.onnx", device="cpu")
    backend.num_streams = 2  # whatever this machine has
    whole, stream = backend.score(images), backend.score(images, in_stream=True)
    assert stream.scores == pytest.approx(whole.scores, abs=1e-6)
    assert OnnxBackend(tmp_path / "model.onnx", device="cpu", num_threads=1).num_streams == 1


def test_a_bundle_replaced_meanwhile_is_not_mixed_in(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    torch.manual_seed(0)
    export_onnx(make_network(name="tiny", input_size=32).eval(), tmp_path / "model.onnx")
    backend = OnnxBackend(tmp_path / "model.onnx", device="cpu")
    backend.num_streams = 2
    expected = backend.score(images).scores
    torch.manual_seed(1)
    export_onnx(make_network(name="tiny", input_size=32).eval(), tmp_path / "other.onnx")
    assert OnnxBackend(tmp_path / "other.onnx", device="cpu").score(images).scores != pytest.approx(expected, abs=1e-6)
    (tmp_path / "other.onnx").replace(tmp_path / "model.onnx")
    assert backend.score(images, in_stream=True).scores == pytest.approx(expected, abs=1e-6)
