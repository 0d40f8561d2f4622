"""From a face in a frame to its crop, and from the crop to the network's input.

Prepare, the datamodule and the Predictor all go through these functions, which is why their scores agree.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from unmask.errors import DetectorError, MediaError
from unmask.faces.spec import CropSpec, InputSpec
from unmask.media.image import MAX_PIXELS, decode_jpeg, encode_jpeg
from unmask.types import Face, Image

MAX_SIDE = 2 * math.isqrt(MAX_PIXELS)
"""Of what is cut out: an image that is long and thin within the limit of pixels is not when it is made square."""


def cut_crop(image: Image, face: Face, spec: CropSpec) -> Image:
    """Cut a square around a face, `margin` times as wide as the longer side of its box.

    What lies beyond the frame is filled by reflection, so the face is never squashed, unless the spec asks for it
    where images are taken whole.

    Args:
        image: The frame.
        face: A detection in it.
        spec: Margin, size, and whether to turn the crop so that the eyes lie level.

    Raises:
        DetectorError: Crops are to be aligned, but the detector gives no landmarks.
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
    """Cut out what the network sees of a face, to be shown: where images were crops already, the whole of them.

    Args:
        image: The frame.
        face: A detection in it.
        spec: How crops are made.
    """
    if spec.detector == "none":
        return prepare_input(image, InputSpec(size=spec.crop_size))
    return cut_crop(image, face, spec)


def locate_landmarks(face: Face, spec: CropSpec) -> npt.NDArray[np.float32] | None:
    """Return where the five landmarks lie in the crop that `cut_crop` cuts, in pixels of it; None where there are none.

    Args:
        face: A detection in the frame.
        spec: How the crop is made.
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
            f"Aligned crops need landmarks, and the detector '{spec.detector}' gives none. "
            f"Set aligned=false, or choose one of the detectors retinaface_mobilenet, retinaface."
        )
    (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
    return math.degrees(math.atan2(right_y - left_y, right_x - left_x))


def _cut_square(image: Image, centre: tuple[float, float], side: int) -> Image:
    """Cut a square of whole pixels, reflecting the image at its borders as often as needed."""
    height, width = image.shape[:2]
    if side > MAX_SIDE:
        raise MediaError(
            f"A square of {side:,} pixels a side would have to be cut out of an image of {width:,} x {height:,}, and "
            f"{MAX_SIDE:,} is the most. Cut the image, or make it smaller."
        )
    left, top = round(centre[0] - side / 2), round(centre[1] - side / 2)
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side]
    rows, columns = _reflected(top, side, height), _reflected(left, side, width)
    square: Image = image[np.ix_(rows, columns)]
    return square


def _reflected(start: int, count: int, size: int) -> npt.NDArray[np.intp]:
    """Return `count` positions from `start` on, mirrored at both ends of `size` without repeating the border pixel."""
    period = max(2 * (size - 1), 1)
    positions = np.arange(start, start + count) % period
    return np.minimum(positions, period - positions) if size > 1 else np.zeros(count, dtype=np.intp)


def _cut_level(image: Image, centre: tuple[float, float], side: int, angle: float) -> Image:
    """Cut a square turned by `angle` degrees about its centre, out of a patch that holds all its corners."""
    outer = math.ceil(side * math.sqrt(2)) + 2
    patch = _cut_square(image, centre, outer)
    left, top = round(centre[0] - outer / 2), round(centre[1] - outer / 2)
    # OpenCV counts from the centre of the first pixel, boxes from its corner: hence the half pixel.
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
    """Encode a crop as the JPEG that is stored."""
    return encode_jpeg(crop, quality=spec.jpeg_quality)


def decode_crop(data: bytes) -> Image:
    """Decode what `encode_crop` made."""
    return decode_jpeg(data, where="crop")


def crop_as_stored(image: Image, face: Face, spec: CropSpec) -> Image:
    """Return the crop as it would come back from a face dataset, losses of JPEG included.

    Args:
        image: The frame.
        face: A detection in it.
        spec: How crops are made.
    """
    return as_stored(cut_crop(image, face, spec), spec)


def as_stored(crop: Image, spec: CropSpec) -> Image:
    """Give a crop the losses of JPEG that it would have in a face dataset.

    Prediction uses it so that it sees the very pixels that training and evaluation saw.
    """
    return decode_crop(encode_crop(crop, spec))


def stack_planes(inputs: Sequence[Image]) -> npt.NDArray[np.uint8]:
    """Return images of one size `(size, size, 3)` as a batch `(N, 3, size, size)`.

    Quicker than to stack and to transpose, by a hundredth of what a small network takes.

    Raises:
        ValueError: They are not of one size, or not uint8 RGB: OpenCV would leave their places in the batch empty.
    """
    for image in inputs:
        if image.dtype != np.uint8 or image.shape != (*inputs[0].shape[:2], 3):
            raise ValueError(
                f"A crop of {image.dtype} and shape {image.shape} cannot go with one of shape {inputs[0].shape}. "
                f"Give uint8 RGB crops of one size, as prepare_input makes them."
            )
    batch = np.empty((len(inputs), 3, *inputs[0].shape[:2]), np.uint8)
    for planes, image in zip(batch, inputs, strict=True):
        cv2.split(image, list(planes))
    return batch


def prepare_input(crop: Image, spec: InputSpec) -> Image:
    """Resize a crop to the network's input, shape `(size, size, 3)`, still uint8.

    An image that is not square (`detector=none`) is padded by reflection, as crops are at the border of a frame.

    Args:
        crop: RGB image of one face.
        spec: Size of the input.
    """
    height, width = crop.shape[:2]
    square = crop if height == width else _cut_square(crop, (width / 2, height / 2), max(height, width))
    return _resize(square, spec.size)
