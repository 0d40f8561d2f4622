"""What a face detector offers, how the detector of a preprocessing spec is built, and what detectors share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from unmask.errors import DetectorError, SpecMismatchError
from unmask.faces.spec import DETECTORS, CropSpec, check_fit
from unmask.parameters import check_whole
from unmask.trust import build_from_file
from unmask.types import Face, Image

MOST = 1_000_000
"""The largest value of a detector's option that a `CropSpec` takes; reported here by the option's own key."""

NOT_IN_SPEC = ("_target_", "weights", "device", "batch_size")
"""Arguments of a detector that do not change what it finds; its weights are known by their hash."""


class Detector(Protocol):
    """Finds faces: any class with this method is a detector by its `_target_`.

    A detector that has weights also has `weights_sha256`, their SHA-256, which becomes part of the preprocessing spec.
    One whose crops have a margin or alignment of their own names it in `crop_values`.
    Constructors only check and store, so that a detector can be sent to other processes before it loads.
    """

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, largest area first.

        Boxes and landmarks are in pixels of the image as given, and boxes are not clipped to it. The faces of an image
        do not depend on the other images.
        """
        ...


class WholeImage:
    """Take every image whole: one face as large as the image, whatever it shows.

    `detector=whole` makes crops of whole images and frames, to recognize images that were generated whole. With
    `detector=none`, where images are crops already, only prediction uses it.

    Args:
        fit: How an image that is not square becomes a crop: `letterbox` keeps its shape and fills the square by
            reflection, `squash` stretches it. Stretching changes the traces of a generator with the shape of the image,
            and lets a network learn the shape instead; bars of one colour would show it as plainly.
    """

    name = "whole"
    crop_values: Mapping[str, Any] = {"margin": 1.0, "aligned": False}

    def __init__(self, *, fit: str = "letterbox") -> None:
        check_fit(fit)
        self.fit = fit

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return one face per image, as large as the image."""
        return [[Face((0.0, 0.0, float(image.shape[1]), float(image.shape[0])), None, 1.0)] for image in images]


def no_detector() -> None:
    """Stand in for a detector where images are crops already (`detector=none`)."""


def name_detector(detector: Detector) -> str:
    """Return what messages call a detector: its `name`, or that of its class."""
    return str(getattr(detector, "name", type(detector).__qualname__))


def hash_weights(detector: Detector | None) -> str:
    """Return the SHA-256 of a detector's weights; "" where it has none."""
    return str(getattr(detector, "weights_sha256", ""))


def describe_detector(detector: Detector | None, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `CropSpec` that describe a detector.

    Args:
        detector: Built of the node; None for `detector=none`.
        node: `_target_` and arguments, plain values.
    """
    names = {target: name for name, target in DETECTORS.items()}
    target = str(node["_target_"])
    return {
        "detector": "none" if detector is None else names.get(target, target),
        "detector_sha256": hash_weights(detector),
        "detector_options": {key: value for key, value in node.items() if key not in NOT_IN_SPEC},
        **getattr(detector, "crop_values", {}),
    }


def build_detector(
    spec: CropSpec,
    *,
    file: str | Path,
    device: str = "auto",
    weights: str | None = None,
    trusted_modules: Sequence[str] = (),
) -> Detector:
    """Build the detector of a spec.

    Args:
        spec: Preprocessing spec, of a checkpoint, a bundle or a dataset.
        file: File that holds the spec, for messages.
        device: Device of a detector that has this argument.
        weights: File of the detector's weights; None for those that it finds itself.
        trusted_modules: Packages whose detectors may be built, beside those of `unmask.trust`.

    Raises:
        UntrustedError: The spec names something that is not built from a file.
        SpecMismatchError: Its weights are not those that the model's crops were made with, or it cannot be built.
        DetectorError: What is built is not a detector.
    """
    if "." not in spec.node["_target_"]:
        raise SpecMismatchError(
            f"The crops of '{file}' were made with the detector '{spec.detector}', which this version does not have. "
            f"It has: {', '.join(DETECTORS)}."
        )
    try:
        detector: Detector = build_from_file(
            spec.node, file=file, trusted_modules=trusted_modules, offered={"device": device, "weights": weights}
        )
    except (TypeError, ValueError) as error:  # an option that a constructor does not have, or does not take so
        raise SpecMismatchError(
            f"The detector '{spec.detector}' does not take the options {dict(spec.detector_options)} that the crops "
            f"of '{file}' were made with: {error}. Use the version of its package that trained the model."
        ) from error
    check_detector(detector, name=spec.detector)
    found = hash_weights(detector)
    if found != spec.detector_sha256:
        raise SpecMismatchError(
            f"The weights of the detector '{spec.detector}' here have SHA-256 '{found}', but the model's crops were "
            f"made with '{spec.detector_sha256}'. Name the file that was used with detector_weights=<file>."
        )
    return detector


def check_detector(detector: Detector, *, name: str) -> None:
    """Raise unless a detector of somebody else returns lists of faces; our own do.

    Args:
        detector: Detector to try with an image without content.
        name: As in a `CropSpec`, for messages.

    Raises:
        DetectorError: It has no method `detect`, or that returns something else.
    """
    if name in DETECTORS:
        return
    expected = "It must have a method detect(images) that returns a list of unmask.types.Face for each image"
    if not callable(getattr(detector, "detect", None)):
        raise DetectorError(f"'{name}' (detector._target_) has no method 'detect'. {expected}.")
    found: Any = detector.detect([np.full((64, 64, 3), 128, np.uint8)])
    is_list = isinstance(found, list) and len(found) == 1 and isinstance(found[0], list)
    if not is_list or not all(isinstance(face, Face) for face in found[0]):
        raise DetectorError(f"'{name}' (detector._target_) returns {str(found)[:80]} for one image. {expected}.")


def check_max_side(max_side: int) -> None:
    """Raise unless images of this longer side can hold a face.

    Raises:
        ValueError: They cannot.
    """
    check_whole("max_side", max_side, least=16, most=MOST)


def shrink(image: Image, *, max_side: int) -> tuple[Image, tuple[float, float]]:
    """Shrink an image until its longer side fits; never enlarge it.

    Args:
        image: RGB image.
        max_side: Longest side in pixels.

    Returns:
        The image, and the width and height of the original over its own.
    """
    height, width = image.shape[:2]
    ratio = max_side / max(height, width)
    if ratio >= 1:
        return image, (1.0, 1.0)
    size = max(round(width * ratio), 1), max(round(height * ratio), 1)
    small: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small, (width / size[0], height / size[1])
