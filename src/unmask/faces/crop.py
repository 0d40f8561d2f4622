"""Cut a face from a frame, and turn the crop into the network's input.

Prepare, the datamodule and the Predictor all use these functions, so that their scores agree.
"""

import math
from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import DetectorError, MediaError
from unmask.faces.spec import CropSpec, InputSpec
from unmask.media.image import MAX_PIXELS, decode_image, decode_jpeg, encode_jpeg, encode_png, encode_webp
from unmask.types import Face, Image

MAX_SIDE = 2 * math.isqrt(MAX_PIXELS)
"""Maximum side of a square cut: a long, thin image within the pixel limit could become a huge square."""


_SHARP_SIDE = 128
"""Side in pixels that crops are scaled to before their sharpness is measured, so that it does not depend on it."""


def cut_crop(image: Image, face: Face, spec: CropSpec) -> Image:
    """Cut a square around a face, `margin` times the longer side of its box.

    Areas outside the frame are filled by reflection, so the face is never distorted, unless the spec stretches whole
    images.

    Args:
        image: Frame.
        face: Face in the frame.
        spec: Margin, size and alignment of the crop.

    Raises:
        DetectorError: The spec asks for aligned crops, but the face has no landmarks.
    """
    if spec.squashes:
        return _resize(image, spec.crop_size)
    x1, y1, x2, y2 = face.box
    centre = (x1 + x2) / 2, (y1 + y2) / 2
    side = max(round(spec.margin * max(x2 - x1, y2 - y1)), 1)
    if spec.aligned:
        return _resize(_cut_level(image, centre, side, _eye_angle(face, spec)), spec.crop_size)
    return _resize(_cut_square(image, centre, side), spec.crop_size)


def cut_shown(image: Image, face: Face, spec: CropSpec) -> Image:
    """Return the crop of a face for display: the part that the network sees, or the whole image with `detector=none`.

    Args:
        image: Frame.
        face: Face in the frame.
        spec: Spec of the crop.
    """
    if spec.detector == "none":
        return prepare_input(image, InputSpec(size=spec.crop_size))
    return cut_crop(image, face, spec)


def locate_landmarks(face: Face, spec: CropSpec) -> npt.NDArray[np.float32] | None:
    """Return the five landmarks in pixels of the crop from `cut_crop`, or None without landmarks.

    Args:
        face: Face in the frame.
        spec: Spec of the crop.
    """
    if face.landmarks is None:
        return None
    x1, y1, x2, y2 = face.box
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    side = max(round(spec.margin * max(x2 - x1, y2 - y1)), 1)
    points = np.asarray(face.landmarks, np.float64)
    if spec.aligned:
        angle = math.radians(_eye_angle(face, spec))
        turned = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        points = (points - centre) @ turned.T + side / 2
    else:
        points = points - np.round(centre - side / 2)
    return (points * spec.crop_size / side).astype(np.float32)


def _eye_angle(face: Face, spec: CropSpec) -> float:
    if face.landmarks is None:
        raise DetectorError(
            f"Aligned crops need landmarks, but the detector '{spec.detector}' does not return any. "
            f"Set aligned=false, or use detector=retinaface_mobilenet or detector=retinaface."
        )
    (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
    return math.degrees(math.atan2(right_y - left_y, right_x - left_x))


def _cut_square(image: Image, centre: tuple[float, float], side: int) -> Image:
    """Cut a square of whole pixels, reflecting the image at its borders as often as needed."""
    height, width = image.shape[:2]
    if side > MAX_SIDE:
        raise MediaError(
            f"The square crop of an image of {width:,} x {height:,} pixels would have sides of {side:,} pixels, more "
            f"than the maximum of {MAX_SIDE:,}. Crop the image, or scale it down."
        )
    left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side]
    rows, columns = _reflected(top, side, height), _reflected(left, side, width)
    square: Image = image[np.ix_(rows, columns)]
    return square


def _reflected(start: int, count: int, size: int) -> npt.NDArray[np.intp]:
    """Return `count` positions from `start`, mirrored at both ends of `size` without repeating the border pixel."""
    period = max(2 * (size - 1), 1)
    positions = np.arange(start, start + count) % period
    return np.minimum(positions, period - positions) if size > 1 else np.zeros(count, dtype=np.intp)


def _cut_level(image: Image, centre: tuple[float, float], side: int, angle: float) -> Image:
    """Cut a square rotated by `angle` degrees about its centre, from a patch that contains all its corners."""
    outer = math.ceil(side * math.sqrt(2)) + 2
    patch = _cut_square(image, centre, outer)
    left, top = round(centre[0] - outer / 2), round(centre[1] - outer / 2)
    # OpenCV's origin is the centre of the first pixel, that of boxes its corner: hence the half pixel.
    x, y = centre[0] - left - 0.5, centre[1] - top - 0.5
    matrix = cv2.getRotationMatrix2D((x, y), angle, 1.0)
    matrix[:, 2] += (side - 1) / 2 - np.array([x, y])
    level: Image = cv2.warpAffine(
        patch, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return level


def _resize(image: Image, size: int) -> Image:
    """Resize an image to a square; one that is not square is stretched."""
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    shrinks = max(image.shape[:2]) > size
    resized: Image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized


def encode_crop(crop: Image, spec: CropSpec) -> bytes:
    """Encode a crop for storage, in the format of the spec."""
    if spec.format == "png":
        return encode_png(crop)
    if spec.format == "webp":
        return encode_webp(crop)
    return encode_jpeg(crop, quality=spec.jpeg_quality, full_chroma=spec.chroma == "4:4:4")


def decode_crop(data: bytes) -> Image:
    """Decode a crop from `encode_crop`."""
    return decode_image(data, where="crop")


def crop_as_stored(image: Image, face: Face, spec: CropSpec) -> Image:
    """Cut a crop and apply the losses that it would have in a face dataset.

    Args:
        image: Frame.
        face: Face in the frame.
        spec: Spec of the crop.
    """
    return as_stored(cut_crop(image, face, spec), spec)


def as_stored(crop: Image, spec: CropSpec) -> Image:
    """Apply the losses that a crop would have in a face dataset; PNG and WebP have none.

    Prediction uses it to see the same pixels as training and evaluation.
    """
    if spec.format != "jpeg":
        return crop
    return decode_jpeg(encode_crop(crop, spec), where="crop")


def stack_planes(inputs: Sequence[Image]) -> npt.NDArray[np.uint8]:
    """Stack images of equal size `(size, size, 3)` into a batch `(N, 3, size, size)`.

    Slightly faster than stacking and transposing.

    Raises:
        ValueError: The images differ in size or are not uint8 RGB; OpenCV would leave their batch entries empty.
    """
    for image in inputs:
        if image.dtype != np.uint8 or image.shape != (*inputs[0].shape[:2], 3):
            raise ValueError(
                f"A crop of type {image.dtype} and shape {image.shape} cannot be stacked with one of shape "
                f"{inputs[0].shape}. Pass uint8 RGB crops of equal size, as returned by prepare_input."
            )
    batch = np.empty((len(inputs), 3, *inputs[0].shape[:2]), np.uint8)
    for planes, image in zip(batch, inputs, strict=True):
        cv2.split(image, list(planes))
    return batch


def prepare_input(crop: Image, spec: InputSpec) -> Image:
    """Resize a crop to the network's input, uint8 of shape `(size, size, 3)`.

    An image that is not square (`detector=none`) is padded by reflection, like crops at the border of a frame.

    Args:
        crop: RGB image of one face.
        spec: Size of the input.
    """
    height, width = crop.shape[:2]
    square = crop if height == width else _cut_square(crop, (width / 2, height / 2), max(height, width))
    return _resize(square, spec.size)


def measure_sharpness(crop: Image) -> float:
    """Return the variance of the Laplacian of a crop's luminance at 128 x 128 pixels; low for a blurred crop.

    The measure of Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    shrinks = grey.shape[0] > _SHARP_SIDE
    scaled = cv2.resize(grey, (_SHARP_SIDE, _SHARP_SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return float(np.var(cv2.Laplacian(scaled, cv2.CV_64F)))


class Sieve:
    """Separate the faces that meet the limits of a spec from the others, and count both.

    Args:
        spec: Crop settings with the limits.
    """

    def __init__(self, spec: CropSpec) -> None:
        self._spec = spec
        self._failed: Counter[str] = Counter()
        self.num_kept = 0

    @property
    def num_failed(self) -> int:
        """Number of faces that failed a limit."""
        return self._failed.total()

    def keep(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """Return the faces of a frame that meet the limits, in the same order."""
        problems = [self._find_problem(image, face) for face in faces]
        self._failed.update(problem for problem in problems if problem)
        kept = [face for face, problem in zip(faces, problems, strict=True) if not problem]
        self.num_kept += len(kept)
        return kept

    def describe_failed(self) -> str:
        """Return how many faces failed which limit, such as `3 of 8 (2 below crop.min_face=40, ...)`."""
        parts = [f"{count:,} below crop.{key}={getattr(self._spec, key):g}" for key, count in self._failed.items()]
        return f"{self.num_failed:,} of {self.num_failed + self.num_kept:,} faces ({', '.join(sorted(parts))})"

    def _find_problem(self, image: Image, face: Face) -> str:
        """Return the first limit that a face fails, cheapest first, or ""."""
        x1, y1, x2, y2 = face.box
        if min(x2 - x1, y2 - y1) < self._spec.min_face:
            return "min_face"
        if face.confidence < self._spec.min_confidence:
            return "min_confidence"
        if self._spec.min_sharpness > 0:
            sharpness = measure_sharpness(cut_crop(image, face, self._spec))
            return "min_sharpness" if sharpness < self._spec.min_sharpness else ""
        return ""
