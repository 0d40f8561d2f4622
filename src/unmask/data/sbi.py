"""Self-blended images: fakes generated on the fly from real crops.

Based on Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022): a face is blended onto a
slightly altered copy of itself. The only trace of the fake is the blending, which all face swaps have in common.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from unmask.data.augmentation import Augmentation, Landmarks, compose_steps, seed_steps
from unmask.forging.swap import fit_outline
from unmask.parameters import check_number, check_range
from unmask.types import Image

Floats = npt.NDArray[np.float32]

_BLEND, _SOURCE = 1, 2
"""Random streams separate from that of `steps`, so that a real crop and its fake get the same augmentation."""


class SelfBlending(Augmentation):
    """Augment real crops, and blend a fake from each of them.

    Args:
        steps: Albumentations transforms by name, applied identically to the real crop and its fake.
        source_steps: Transforms by name that make source and target differ; applied to one of them, chosen at random.
        forehead_p: Probability that the mask includes the forehead up to the hairline, instead of ending at the brows.
        deformation: Standard deviation of the smooth random outline deformation, as a share of the crop's side.
        shift_x: Maximum horizontal shift of the source, as a share of the crop's side.
        shift_y: Maximum vertical shift of the source, as a share of the crop's side.
        scale: Maximum relative change in size of the source.
        blur_kernel: Minimum and maximum kernel side of the mask's erosion and blur, in pixels at `mask_side`.
        blur_sigma: Minimum and maximum standard deviation of the Gaussian blur.
        mask_side: Minimum and maximum side in pixels at which the mask is blurred. The paper uses 192 to 256 for crops
            twice as wide as the face; these crops are 1.3 times as wide, hence two thirds of that.
        blend_ratios: Maximum opacities of the source; one is drawn per fake.

    Raises:
        ValueError: A value is out of range; names it.
    """

    makes_fakes = True

    def __init__(
        self,
        steps: Mapping[str, Any],
        *,
        source_steps: Mapping[str, Any],
        forehead_p: float = 0.75,
        deformation: float = 0.01,
        shift_x: float = 0.03,
        shift_y: float = 0.015,
        scale: float = 0.05,
        blur_kernel: Sequence[int] = (5, 25),
        blur_sigma: Sequence[float] = (5.0, 45.0),
        mask_side: Sequence[int] = (128, 170),
        blend_ratios: Sequence[float] = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0),
    ) -> None:
        super().__init__(steps)
        for name, share in (("forehead_p", forehead_p), ("deformation", deformation), ("shift_x", shift_x)):
            check_number(name, share, least=0, most=1)
        check_number("shift_y", shift_y, least=0, most=1)
        check_number("scale", scale, least=0, most=0.9)
        check_range("blur_kernel", blur_kernel, least=1, whole=True)
        check_range("blur_sigma", blur_sigma, least=0.1)
        check_range("mask_side", mask_side, least=16, most=4096, whole=True)
        _check_ratios(blend_ratios)
        self._needed_by_steps = self.needs_landmarks
        self.needs_landmarks = True
        self._source_compose = compose_steps(source_steps, name="source_steps")
        self._forehead_p, self._deformation = forehead_p, deformation
        self._shift, self._scale = (shift_x, shift_y), scale
        self._blur_kernel, self._blur_sigma, self._mask_side = tuple(blur_kernel), tuple(blur_sigma), tuple(mask_side)
        self._blend_ratios = tuple(blend_ratios)
        self._rng = np.random.default_rng()

    def __call__(self, crop: Image, landmarks: Landmarks | None = None) -> Image:
        """Return an augmented copy of a real crop."""
        if self._needed_by_steps:
            return super().__call__(crop, landmarks)
        return np.ascontiguousarray(self._compose(image=crop)["image"])

    def forge(self, crop: Image, landmarks: Landmarks | None) -> Image:
        """Return a fake made from a real crop; with the same seed, it is augmented like the real crop.

        Args:
            crop: RGB, uint8.
            landmarks: Landmarks in pixels of the crop.
        """
        assert landmarks is not None  # needs_landmarks
        return self(self.blend(crop, landmarks), landmarks)

    def blend(self, crop: Image, landmarks: Landmarks) -> Image:
        """Blend a crop with an altered copy of itself; `steps` are applied later."""
        changed = np.ascontiguousarray(self._source_compose(image=crop)["image"])
        source, target = (changed, crop) if self._rng.random() < 0.5 else (crop, changed)
        height, width = crop.shape[:2]
        matrix = self._draw_affine(height, width)
        moved = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        mask = self._draw_mask(landmarks, matrix, height, width) * np.float32(self._rng.choice(self._blend_ratios))
        return np.asarray(cv2.blendLinear(moved, target, mask, 1 - mask), np.uint8)

    def set_seed(self, seed: int) -> None:
        """Seed the random draws."""
        super().set_seed(seed)
        seed_steps(self._source_compose, [seed, _SOURCE])
        self._rng = np.random.default_rng([seed, _BLEND])

    def _draw_affine(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """Draw the shift and scaling of the source about the centre, as a `(2, 3)` affine matrix."""
        factor = float(np.exp(self._rng.uniform(-1, 1) * -np.log1p(-self._scale)))
        shift = self._rng.uniform(-1, 1, 2) * self._shift * (width, height)
        middle = np.array([width, height]) / 2
        return np.column_stack([factor * np.eye(2), middle - factor * middle + shift])

    def _draw_mask(self, landmarks: Landmarks, matrix: npt.NDArray[np.float64], height: int, width: int) -> Floats:
        """Fill the deformed outline and blur its edge; returns shape `(height, width)`, values in [0, 1]."""
        polygon = fit_outline(landmarks, with_forehead=bool(self._rng.random() < self._forehead_p))
        polygon = polygon @ matrix[:, :2].T + matrix[:, 2] + self._draw_deformation(len(polygon)) * max(height, width)
        side = int(self._rng.integers(self._mask_side[0], self._mask_side[1] + 1))
        mask = np.zeros((side, side), np.uint8)
        fixed = np.round(polygon * (side / width, side / height) * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_8, 4)
        first, second = (2 * int(half) + 1 for half in self._rng.integers(*self._half_kernels(), size=2))
        # The paper blurs the mask and keeps pixels that are still 1, which is equivalent to an erosion.
        mask = cv2.erode(mask, np.ones((first, first), np.uint8), borderType=cv2.BORDER_REPLICATE)
        soft = cv2.GaussianBlur(
            mask, (second, second), float(self._rng.uniform(self._blur_sigma[0], self._blur_sigma[1]))
        )
        full = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        return np.asarray(full / max(float(full.max()), 1.0), np.float32)

    def _half_kernels(self) -> tuple[int, int]:
        return self._blur_kernel[0] // 2, self._blur_kernel[1] // 2 + 1

    def _draw_deformation(self, num_points: int) -> npt.NDArray[np.float64]:
        """Draw smooth shifts along a closed outline: random sinusoids whose amplitude falls with frequency."""
        waves = np.arange(1, 7)
        angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)[:, None] * waves
        heights = self._rng.standard_normal((2, 2, len(waves))) / np.sqrt((1 / waves).sum() * waves)
        shifts = np.cos(angles) @ heights[0].T + np.sin(angles) @ heights[1].T
        return np.asarray(shifts * self._deformation)


def _check_ratios(ratios: Any) -> None:
    if not isinstance(ratios, Sequence) or isinstance(ratios, str) or not ratios:
        raise ValueError(f"blend_ratios={ratios} must be a list of numbers from 0 to 1, such as [0.5,1].")
    for ratio in ratios:
        check_number("blend_ratios", ratio, least=0, most=1)
