"""Transforms that Albumentations lacks, as Albumentations classes: compression, colour, noise and cutout."""

from collections.abc import Mapping, Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np

from unmask.forging.swap import fit_outline, order_landmarks
from unmask.media.encode import recode_image
from unmask.parameters import check_number, check_range
from unmask.types import Image


def pick_one(steps: Mapping[str, Any], *, p: float) -> Any:
    """Return a step that applies one of several steps, chosen with their `p` as weights.

    Args:
        steps: Albumentations transforms by name; null steps are omitted.
        p: Probability that any of them is applied.

    Raises:
        ValueError: All steps are null, or `p` is not a probability.
    """
    chosen = [step for step in steps.values() if step is not None]
    check_number("p", p, least=0, most=1)
    if not chosen:
        raise ValueError("steps={} must contain at least one step that is not null. To omit it all, set it to null.")
    return A.OneOf(chosen, p=p)


class VideoCompression(A.ImageOnlyTransform):  # type: ignore[misc]
    """Encode the crop as a one-frame H.264 video and decode it.

    Args:
        crf_range: Minimum and maximum constant rate factor; 23 is x264's default, 40 is strong compression.
        p: Probability.
    """

    def __init__(self, *, crf_range: Sequence[int] = (23, 40), p: float = 0.5) -> None:
        check_range("crf_range", crf_range, least=0, most=51, whole=True)
        super().__init__(p=p)
        self.crf_range = tuple(crf_range)

    def get_params(self) -> dict[str, Any]:
        """Draw the constant rate factor."""
        return {"crf": self.py_random.randint(*self.crf_range)}

    def apply(self, img: Image, crf: int, **params: Any) -> Image:
        """Encode and decode the image."""
        return recode_image(img, crf=crf)


class Saturation(A.ImageOnlyTransform):  # type: ignore[misc]
    """Reduce colour saturation, in YCbCr.

    Args:
        scale_range: Minimum and maximum chroma factor; 0 is greyscale.
        p: Probability.
    """

    def __init__(self, *, scale_range: Sequence[float] = (0.0, 0.4), p: float = 0.5) -> None:
        check_range("scale_range", scale_range, least=0, most=1)
        super().__init__(p=p)
        self.scale_range = tuple(scale_range)

    def get_params(self) -> dict[str, Any]:
        """Draw the chroma factor."""
        return {"scale": self.py_random.uniform(*self.scale_range)}

    def apply(self, img: Image, scale: float, **params: Any) -> Image:
        """Scale both chroma channels about their midpoint."""
        ycrcb = cv2.cvtColor(img, cv2.COLOR_RGB2YCrCb)
        values = np.arange(256)
        table = np.stack([values, *[np.round((values - 128) * scale + 128)] * 2], axis=1).astype(np.uint8)
        return np.asarray(cv2.cvtColor(cv2.LUT(ycrcb, table[None]), cv2.COLOR_YCrCb2RGB), np.uint8)


class Darkening(A.ImageOnlyTransform):  # type: ignore[misc]
    """Multiply all pixel values by a factor below 1, which lowers both contrast and brightness.

    Args:
        scale_range: Minimum and maximum factor.
        p: Probability.
    """

    def __init__(self, *, scale_range: Sequence[float] = (0.35, 0.85), p: float = 0.5) -> None:
        check_range("scale_range", scale_range, least=0, most=1)
        super().__init__(p=p)
        self.scale_range = tuple(scale_range)

    def get_params(self) -> dict[str, Any]:
        """Draw the factor."""
        return {"scale": self.py_random.uniform(*self.scale_range)}

    def apply(self, img: Image, scale: float, **params: Any) -> Image:
        """Multiply all pixel values."""
        return np.asarray(cv2.convertScaleAbs(img, alpha=scale), np.uint8)


class GreyBlocks(A.ImageOnlyTransform):  # type: ignore[misc]
    """Draw grey 8 x 8 pixel squares on the crop, like blocks lost in transmission.

    Args:
        num_range: Minimum and maximum number of squares.
        p: Probability.
    """

    def __init__(self, *, num_range: Sequence[int] = (16, 80), p: float = 0.5) -> None:
        check_range("num_range", num_range, least=0, whole=True)
        super().__init__(p=p)
        self.num_range = tuple(num_range)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the positions of the squares."""
        height, width = params["shape"][:2]
        count = self.py_random.randint(*self.num_range)
        shares = self.random_generator.random((count, 2))
        return {"corners": (shares * (max(height - 8, 1), max(width - 8, 1))).astype(int)}

    def apply(self, img: Image, corners: Any, **params: Any) -> Image:
        """Fill the squares with grey."""
        image = img.copy()
        for top, left in corners:
            image[top : top + 8, left : left + 8] = 128
        return image


class ColourNoise(A.ImageOnlyTransform):  # type: ignore[misc]
    """Add Gaussian noise in YCbCr; Albumentations' `GaussNoise` works in RGB.

    Args:
        variance_range: Minimum and maximum variance of the noise, for pixel values in [0, 1].
        p: Probability.
    """

    def __init__(self, *, variance_range: Sequence[float] = (0.001, 0.05), p: float = 0.5) -> None:
        check_range("variance_range", variance_range, least=0, most=1)
        super().__init__(p=p)
        self.variance_range = tuple(variance_range)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the noise."""
        deviation = 255 * self.py_random.uniform(*self.variance_range) ** 0.5
        noise = self.random_generator.standard_normal(params["shape"], dtype=np.float32)
        return {"noise": noise * np.float32(deviation)}

    def apply(self, img: Image, noise: Any, **params: Any) -> Image:
        """Add the noise."""
        ycrcb = cv2.cvtColor(img, cv2.COLOR_RGB2YCrCb)
        noisy = cv2.add(ycrcb, noise, dtype=cv2.CV_8U)
        return np.asarray(cv2.cvtColor(noisy, cv2.COLOR_YCrCb2RGB), np.uint8)


class LandmarkCutout(A.ImageOnlyTransform):  # type: ignore[misc]
    """Black out the eyes, nose or mouth; otherwise half of the face; otherwise half of the image.

    Uses the landmarks as transformed by the preceding steps.

    Args:
        part_p: Probability of blacking out the eyes, nose or mouth.
        half_face_p: Probability of blacking out half of the face, if no part was drawn.
        half_image_p: Probability of blacking out half of the image, if neither was drawn.
        p: Probability of the whole step.
    """

    needs_landmarks = True

    def __init__(
        self, *, part_p: float = 0.7, half_face_p: float = 0.2, half_image_p: float = 0.1, p: float = 1.0
    ) -> None:
        for name, value in (("part_p", part_p), ("half_face_p", half_face_p), ("half_image_p", half_image_p)):
            check_number(name, value, least=0, most=1)
        super().__init__(p=p)
        self.part_p, self.half_face_p, self.half_image_p = part_p, half_face_p, half_image_p

    @property
    def targets_as_params(self) -> list[str]:
        """Targets passed to `get_params_dependent_on_data` besides the image."""
        return ["keypoints"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the mask to black out, or None."""
        points = order_landmarks(np.asarray(data["keypoints"], np.float64)[:, :2])
        shape, draw = params["shape"][:2], self.py_random
        if draw.random() < self.part_p:
            return {"blackout": _draw_part(shape, points, part=draw.choice(("eyes", "nose", "mouth")))}
        mask = None
        if draw.random() < self.half_face_p:
            mask = np.zeros(shape, np.uint8)
            cv2.fillPoly(mask, [np.round(fit_outline(points)).astype(np.int32)], 1)
            mask &= _draw_half(shape, centre=points[2], side=draw.randrange(4))
        elif draw.random() < self.half_image_p:
            mask = _draw_half(shape, centre=np.array(shape[::-1]) / 2, side=draw.randrange(4))
        return {"blackout": mask}

    def apply(self, img: Image, blackout: Any, **params: Any) -> Image:
        """Black out the mask."""
        return img if blackout is None else np.where(blackout[..., None] > 0, np.uint8(0), img)


def _draw_part(shape: tuple[int, int], points: Any, *, part: str) -> Any:
    """Return a mask with a thick line from eye to eye, down the nose, or along the mouth."""
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    distance = float(np.linalg.norm(right_eye - left_eye))
    start, end = {
        "eyes": (left_eye, right_eye),
        "nose": ((left_eye + right_eye) / 2, nose),
        "mouth": (left_mouth, right_mouth),
    }[part]
    mask = np.zeros(shape, np.uint8)
    first, last = (tuple(int(value) for value in np.round(point)) for point in (start, end))
    cv2.line(mask, first, last, 1, max(1, round(distance * 0.35)))
    return mask


def _draw_half(shape: tuple[int, int], *, centre: Any, side: int) -> Any:
    """Return a mask of everything left of, right of, above or below a point."""
    column, row = (round(float(value)) for value in np.clip(centre, 0, shape[::-1]))
    mask = np.zeros(shape, np.uint8)
    mask[[np.s_[:, :column], np.s_[:, column:], np.s_[:row, :], np.s_[row:, :]][side]] = 1
    return mask
