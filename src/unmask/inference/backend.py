"""What runs the network: the interface that ONNX Runtime, for a bundle, and PyTorch, for a checkpoint, both have."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scored:
    """What a network says of a batch of crops.

    Args:
        scores: P(fake), shape `(N,)`.
        activation_maps: High where the crop looks fake, shape `(N, h, w)`; None from a network without such maps. Those
            of Grad-CAM are scaled from 0 to 1, others not at all: compare places in a map, not maps.
    """

    scores: Floats
    activation_maps: Floats | None


class Backend(Protocol):
    """Scores batches of prepared crops."""

    @property
    def name(self) -> str:
        """`onnx` or `torch`."""
        ...

    @property
    def num_streams(self) -> int:
        """How many calls of `score` should go side by side where there is much to score."""
        ...

    def score(self, images: npt.NDArray[np.uint8], *, in_stream: bool = False) -> Scored:
        """Score a batch.

        Args:
            images: RGB, shape `(N, 3, size, size)`, N at least 1.
            in_stream: Whether up to `num_streams - 1` other calls go on at the same time, in other threads.
        """
        ...


def to_scores(logits: npt.NDArray[np.floating]) -> Floats:
    """Return P(fake) of logits of any shape, as a row of numbers."""
    return np.exp(-np.logaddexp(0.0, -logits.reshape(-1).astype(np.float64))).astype(np.float32)
