"""The detector that a checkpoint's crops were made with."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from unmask.errors import DetectorError, SpecMismatchError
from unmask.faces.detector import Detector
from unmask.faces.spec import CropSpec
from unmask.types import Face, Picture


class WholePicture:
    """Take every picture for a crop, as `detector=none` did when the dataset was prepared."""

    name = "none"
    weights_sha256 = ""

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Return one face per picture, as large as the picture."""
        return [[Face((0.0, 0.0, float(image.shape[1]), float(image.shape[0])), None, 1.0)] for image in images]


def build_detector(spec: CropSpec, *, device: str = "auto", weights: str | None = None) -> Detector:
    """Build the detector that a spec names.

    Args:
        spec: Stored in the checkpoint.
        device: Where a detector that uses torch runs.
        weights: File of the detector's weights; None for those it fetches itself.

    Raises:
        SpecMismatchError: Its weights are not those that the model's crops were made with, or nobody knows its name.
    """
    try:
        detector = _construct(spec, device=device, weights=weights)
    except (TypeError, ValueError) as error:  # an option that a constructor does not have, or does not take so
        raise SpecMismatchError(
            f"The detector '{spec.detector}' of this version does not take the options {dict(spec.detector_options)} "
            f"that the model's crops were made with: {error}. Use the version of unmask that trained the model."
        ) from error
    if detector.weights_sha256 != spec.detector_sha256:
        raise SpecMismatchError(
            f"The weights of the detector '{spec.detector}' here have SHA-256 '{detector.weights_sha256}', but the "
            f"model's crops were made with '{spec.detector_sha256}'. "
            f"Name the file that was used with detector_weights=<file>."
        )
    return detector


def _construct(spec: CropSpec, *, device: str, weights: str | None) -> Detector:
    options: dict[str, Any] = dict(spec.detector_options)
    if spec.detector == "retinaface_mobilenet":
        from unmask.faces.retinaface_mobilenet import RetinaFaceMobileNet

        return RetinaFaceMobileNet(weights=weights, **options)
    if spec.detector == "retinaface":
        if find_spec("torch") is None:
            raise DetectorError(
                "The model's crops were made with the detector 'retinaface', which needs PyTorch, and that is not "
                "installed here. Install torch, or train on crops of detector=retinaface_mobilenet."
            )
        from unmask.faces.retinaface_resnet50 import RetinaFaceResNet50

        return RetinaFaceResNet50(device=device, weights=weights, **options)
    if spec.detector == "haar":
        from unmask.faces.haar import HaarCascade

        return HaarCascade(**options)
    if spec.detector == "none":
        return WholePicture()
    raise SpecMismatchError(
        f"The model's crops were made with the detector '{spec.detector}', which this version does not have. "
        f"It has: retinaface_mobilenet, retinaface, haar, none."
    )
