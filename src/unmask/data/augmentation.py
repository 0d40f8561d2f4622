"""Augment training crops with seeded Albumentations transforms."""

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
"""Five landmarks (x, y) in pixels of the crop, shape `(5, 2)`."""

_LANDMARKS = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]], np.float32)
"""Landmarks of a centred face, in units of the crop's side."""


@runtime_checkable
class FakeMaker(Protocol):
    """An augmentation that creates fakes: it receives only real crops, and a fake made from each follows it.

    Attributes:
        makes_fakes: Always True.
        needs_landmarks: Whether `landmarks` are passed; they are None otherwise.
    """

    makes_fakes: bool
    needs_landmarks: bool

    def set_seed(self, seed: int) -> None:
        """Seed the random draws; called before each real crop and each fake."""
        ...

    def __call__(self, crop: Image, landmarks: Landmarks | None = None) -> Image:
        """Return the augmented real crop, RGB, uint8."""
        ...

    def forge(self, crop: Image, landmarks: Landmarks | None) -> Image:
        """Return a fake made from a real crop, RGB, uint8."""
        ...


class Augmentation:
    """Apply named steps in order to a crop. Steps may change its size, because the input is resized afterwards.

    Albumentations keeps its own random state, which `seed_everything` does not reach and worker processes would share.
    Therefore the sampler draws a seed for each crop, which makes the result independent of the worker.

    Args:
        steps: Albumentations transforms by name, so that each can be set on the command line; null omits a step.
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
            landmarks: Landmarks of the crop, transformed along with it; may be None unless `needs_landmarks`.
        """
        if not self.needs_landmarks:
            return np.ascontiguousarray(self._compose(image=crop)["image"])
        assert landmarks is not None
        return np.ascontiguousarray(self._compose(image=crop, keypoints=landmarks)["image"])

    def set_seed(self, seed: int) -> None:
        """Seed the random draws.

        Args:
            seed: Integer from 0 to 2**63 - 1.
        """
        seed_steps(self._compose, seed)

    def rehearse(self, *, crop_size: int) -> None:
        """Apply every step once to a grey crop, whatever its probability, without changing later random draws.

        Args:
            crop_size: Side of the stored crops in pixels.

        Raises:
            ConfigError: A step fails, for example because it cuts out a region larger than the crop.
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
    except Exception as error:  # Albumentations and OpenCV raise their own types
        reason = " ".join((str(error) or type(error).__name__).split())[:300].rstrip(".")
        raise ConfigError(
            f"{name} cannot be applied to crops of {len(crop)} x {crop.shape[1]} pixels: {reason}. "
            f"Reduce its sizes, or omit it: {name}=null"
        ) from error
    return result


def compose_steps(steps: Mapping[str, Any], *, name: str = "steps") -> Any:
    """Compose steps; if one of them needs landmarks, pass them along as keypoints.

    Args:
        steps: Albumentations transforms by name; null steps are omitted.
        name: Argument name, for error messages.

    Raises:
        ValueError: A step is not an Albumentations transform, or its `p` is invalid.
    """
    import albumentations as A

    for key, step in steps.items():
        if step is not None and not isinstance(step, A.BasicTransform | A.BaseCompose):
            raise ValueError(f"{name}.{key}={step} is not a step. Give it a _target_ and its keys, or null to omit it.")
        if step is not None:
            check_number(f"{name}.{key}.p", step.p, least=0, most=1)
    chosen = [step for step in steps.values() if step is not None]
    points = None
    if any(_wants_landmarks(step) for step in chosen):
        points = A.KeypointParams(format="xy", remove_invisible=False, check_each_transform=False)
    return A.Compose(chosen, keypoint_params=points)


def seed_steps(compose: Any, seed: int | list[int]) -> None:
    """Seed a composed transform so that all its steps share one random generator.

    `Compose.set_random_seed` gives each step its own generator with the same seed. The first draws of all steps would
    then be identical, and two steps with p=0.5 would always be applied together or not at all.
    """
    generator = np.random.default_rng(seed)
    compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))


def _wants_landmarks(step: Any) -> bool:
    return any(getattr(node, "needs_landmarks", False) for node in _walk(step))


def _walk(step: Any) -> Iterator[Any]:
    yield step
    for inner in getattr(step, "transforms", ()):
        yield from _walk(inner)
