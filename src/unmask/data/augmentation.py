"""Augmentation of crops in training (Albumentations)."""

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from unmask.errors import ConfigError
from unmask.parameters import check_number
from unmask.types import Image

Landmarks = npt.NDArray[np.float32]
"""The five landmarks in pixels of the crop, shape `(5, 2)`."""

_LANDMARKS = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]], np.float32)
"""Of a face in the middle of a crop, as shares of its side."""


@runtime_checkable
class FakeMaker(Protocol):
    """An augmentation that makes fakes: it gets real crops alone, and each is followed by the fake made from it.

    Attributes:
        makes_fakes: True.
        needs_landmarks: Whether it gets the landmarks of every crop, or None.
    """

    makes_fakes: bool
    needs_landmarks: bool

    def set_seed(self, seed: int) -> None:
        """Start the random draws anew: the real crop and its fake come with seeds of their own."""
        ...

    def __call__(self, crop: Image, landmarks: Landmarks | None = None) -> Image:
        """Return the real crop as it is trained on, RGB, uint8."""
        ...

    def forge(self, crop: Image, landmarks: Landmarks | None) -> Image:
        """Return a fake made from a real crop, RGB, uint8."""
        ...


class Augmentation:
    """Apply named steps in their order to a crop; its size may change, since the input is resized afterwards.

    Albumentations keeps a random state of its own, which `seed_everything` does not reach and which worker processes
    would share. So every crop comes with a seed, drawn by the sampler, and looks alike wherever it is computed.

    Args:
        steps: Albumentations transforms by name; the names make each of them reachable from the command line. A step
            that is null is left out.
    """

    makes_fakes = False

    def __init__(self, steps: Mapping[str, Any]) -> None:
        self._compose = compose_steps(steps)
        self._names = [name for name, step in steps.items() if step is not None]
        self.needs_landmarks = any(_wants_landmarks(step) for step in self._compose.transforms)

    def __call__(self, crop: Image, landmarks: Landmarks | None = None) -> Image:
        """Return an augmented copy.

        Args:
            crop: RGB, uint8.
            landmarks: Move with the steps that move the image; may be None unless `needs_landmarks`.
        """
        if not self.needs_landmarks:
            return np.ascontiguousarray(self._compose(image=crop)["image"])
        assert landmarks is not None
        return np.ascontiguousarray(self._compose(image=crop, keypoints=landmarks)["image"])

    def set_seed(self, seed: int) -> None:
        """Start the random draws anew.

        Args:
            seed: 0 to 2**63 - 1.
        """
        seed_steps(self._compose, seed)

    def rehearse(self, *, crop_size: int) -> None:
        """Apply every step once to a gray crop, however seldom it would be drawn; the draws to come stay the same.

        Args:
            crop_size: Side of the stored crops in pixels.

        Raises:
            ConfigError: A step refuses it, such as one that cuts out more than there is.
        """
        crop, landmarks = np.full((crop_size, crop_size, 3), 128, np.uint8), _LANDMARKS * crop_size
        for name, step in zip(self._names, copy.deepcopy(self._compose.transforms), strict=True):
            for leaf in _walk(step):
                if not hasattr(leaf, "transforms"):
                    leaf.p = 1.0
                    result = _apply(leaf, crop, landmarks, name=f"augmentation.steps.{name}")
            crop = result


def _apply(step: Any, crop: Image, landmarks: Landmarks, *, name: str) -> Image:
    try:
        points = {"keypoints": landmarks} if _wants_landmarks(step) else {}
        result: Image = compose_steps({"step": step})(image=crop, **points)["image"]
    except Exception as error:  # Albumentations and OpenCV raise types of their own
        reason = " ".join((str(error) or type(error).__name__).split())[:300].rstrip(".")
        raise ConfigError(
            f"{name} cannot be applied to crops of {len(crop)} x {crop.shape[1]} pixels: {reason}. "
            f"Lower its sizes, or leave it out: {name}=null"
        ) from error
    return result


def compose_steps(steps: Mapping[str, Any], *, name: str = "steps") -> Any:
    """Chain steps; where one of them asks for landmarks, they travel as key points.

    Args:
        steps: Albumentations transforms by name; null ones are left out.
        name: Of the argument, for the message.

    Raises:
        ValueError: One of them is something else.
    """
    import albumentations as A

    for key, step in steps.items():
        if step is not None and not isinstance(step, A.BasicTransform | A.BaseCompose):
            raise ValueError(f"{name}.{key}={step} is no step. Give it a _target_ and keys, or null to leave it out.")
        if step is not None:
            check_number(f"{name}.{key}.p", step.p, least=0, most=1)
    chosen = [step for step in steps.values() if step is not None]
    points = None
    if any(_wants_landmarks(step) for step in chosen):
        points = A.KeypointParams(format="xy", remove_invisible=False, check_each_transform=False)
    return A.Compose(chosen, keypoint_params=points)


def seed_steps(compose: Any, seed: int | list[int]) -> None:
    """Seed a chain with one stream of draws for all its steps.

    `Compose.set_random_seed` would give each step a generator of its own from the same seed: the first draws of all
    steps would be one number, and two steps with p=0.5 would always come together or not at all.
    """
    generator = np.random.default_rng(seed)
    compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))


def _wants_landmarks(step: Any) -> bool:
    return any(getattr(node, "needs_landmarks", False) for node in _walk(step))


def _walk(step: Any) -> Iterator[Any]:
    yield step
    for inner in getattr(step, "transforms", ()):
        yield from _walk(inner)
