"""Augmentation of crops in training (Albumentations)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unmask.types import Picture


class Augmentation:
    """Apply named steps in their order to a crop; its size may change, since the input is resized afterwards.

    Albumentations keeps a random state of its own, which `seed_everything` does not reach and which worker processes
    would share; so whoever starts a worker calls `set_seed`.

    Args:
        steps: Albumentations transforms by name; the names make each of them reachable from the command line. A step
            that is null is left out.
    """

    def __init__(self, steps: Mapping[str, Any]) -> None:
        import albumentations as A

        self._compose = A.Compose([step for step in steps.values() if step is not None])

    def __call__(self, crop: Picture) -> Picture:
        """Return an augmented copy.

        Args:
            crop: RGB, uint8.
        """
        return np.ascontiguousarray(self._compose(image=crop)["image"])

    def set_seed(self, seed: int) -> None:
        """Start the random draws anew.

        Args:
            seed: 0 to 2**32 - 1.
        """
        self._compose.set_random_seed(seed)
