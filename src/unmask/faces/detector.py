"""Protocol of face detectors, and functions to build and check the detector of a preprocessing spec."""

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
"""Maximum value of a detector option in a `CropSpec`, checked early to name the option's own key."""

NOT_IN_SPEC = ("_target_", "weights", "device", "batch_size")
"""Arguments of a detector that do not affect its results; weights are identified by their hash."""


class Detector(Protocol):
    """Find faces; any class with this method can be a detector, by its `_target_`.

    A detector with weights also has an attribute `weights_sha256`, which becomes part of the preprocessing spec.
    One whose crops need a margin or alignment of their own states it in an attribute `crop_values`.
    Constructors only check and store arguments, so that a detector can be sent to other processes before it loads.
    """

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Return the faces of each image, largest area first.

        Boxes and landmarks are in pixels of the original image, and boxes are not clipped to it. Results for an image
        do not depend on the other images.
        """
        ...


class WholeImage:
    """Treat every image as one face as large as the image, whatever it shows.

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
    """Return no detector, for images that are already crops (`detector=none`)."""


def name_detector(detector: Detector) -> str:
    """Return the name of a detector for messages: its `name`, or its class name."""
    return str(getattr(detector, "name", type(detector).__qualname__))


def hash_weights(detector: Detector | None) -> str:
    """Return the SHA-256 of a detector's weights, or "" without weights."""
    return str(getattr(detector, "weights_sha256", ""))


def describe_detector(detector: Detector | None, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `CropSpec` that describe a detector.

    Args:
        detector: Detector built from the node; None for `detector=none`.
        node: `_target_` and arguments of the detector, as plain values.
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
        spec: Preprocessing spec of a checkpoint, bundle or dataset.
        file: File that contains the spec, for error messages.
        device: Device, for detectors with this argument.
        weights: File of the detector's weights; None for its default.
        trusted_modules: Packages whose detectors may be built, in addition to those of `unmask.trust`.

    Raises:
        UntrustedError: The detector is from a package that is not trusted.
        SpecMismatchError: The weights differ from those that made the model's crops, or the detector cannot be built.
        DetectorError: The object built is not a detector.
    """
    if "." not in spec.node["_target_"]:
        raise SpecMismatchError(
            f"The crops of '{file}' were made with the detector '{spec.detector}', which this version of unmask does "
            f"not have. Available detectors: {', '.join(DETECTORS)}."
        )
    try:
        detector: Detector = build_from_file(
            spec.node, file=file, trusted_modules=trusted_modules, offered={"device": device, "weights": weights}
        )
    except (TypeError, ValueError) as error:  # an unknown or invalid option
        raise SpecMismatchError(
            f"The detector '{spec.detector}' does not accept the options {dict(spec.detector_options)} that made the "
            f"crops of '{file}': {error}. Use the version of its package that trained the model."
        ) from error
    check_detector(detector, name=spec.detector)
    found = hash_weights(detector)
    if found != spec.detector_sha256:
        raise SpecMismatchError(
            f"The installed weights of the detector '{spec.detector}' have SHA-256 '{found}', but the model's crops "
            f"were made with '{spec.detector_sha256}'. Set detector_weights=<file> to the original weights."
        )
    return detector


def check_detector(detector: Detector, *, name: str) -> None:
    """Check that a custom detector returns lists of faces; our own detectors are not checked.

    Args:
        detector: Detector, called with a blank image.
        name: Name as in a `CropSpec`, for error messages.

    Raises:
        DetectorError: The detector has no method `detect`, or the method returns something else.
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
