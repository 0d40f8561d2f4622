"""The preprocessing spec: what must be the same in training, evaluation and service for scores to agree."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from unmask.errors import ConfigError, SpecMismatchError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


DETECTORS = {
    "retinaface_mobilenet": "unmask.faces.retinaface_mobilenet.RetinaFaceMobileNet",
    "retinaface": "unmask.faces.retinaface_resnet50.RetinaFaceResNet50",
    "haar": "unmask.faces.haar.HaarCascade",
    "none": "unmask.faces.detector.WholeImage",
    "whole": "unmask.faces.detector.WholeImage",  # behind `none`, so that the target has this name
}
"""The short names of our own detectors, under which specs hold them, so that the hash of a spec stays what it was."""

FITS = ("letterbox", "squash")
"""How a whole image becomes a square: padded by reflection with its shape kept, or stretched."""


@dataclass(frozen=True)
class CropSpec:
    """How a face becomes a crop.

    Args:
        detector: `_target_` of the detector, or a name of `DETECTORS`; `none` for images that are crops already.
        detector_sha256: SHA-256 of the detector's weights, or "" where it has none.
        detector_options: Its arguments that decide what it finds, such as `confidence`; plain values, and for our own
            detectors numbers, except for `fit`. Others have their defaults.
        margin: Side of the crop over the longer side of the box.
        crop_size: Side of the stored crop in pixels.
        aligned: Whether crops are turned so that the eyes lie level.
        num_frames: Frames taken per video, evenly spaced.
        jpeg_quality: Quality at which crops are stored. Prediction encodes its crops too, so that both
            see the same pixels.

    Raises:
        ConfigError: A value is of another type, or so large or small that no crop comes of it.
    """

    detector: str
    detector_sha256: str = ""
    detector_options: Mapping[str, Any] = field(default_factory=dict)
    margin: float = 1.3
    crop_size: int = 256
    aligned: bool = False
    num_frames: int = 32
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        _check("margin", self.margin, least=0.1, most=10)
        _check("crop_size", self.crop_size, least=8, most=4096)
        _check("num_frames", self.num_frames, least=1, most=1_000_000)
        _check("jpeg_quality", self.jpeg_quality, least=1, most=100)
        if not isinstance(self.detector, str) or not isinstance(self.detector_options, Mapping):
            raise ConfigError(f"detector={self.detector!r} must be a name, and detector_options name its arguments.")
        for key, value in self.detector_options.items():
            if "." in self.detector:  # of somebody else, whose constructor checks its own arguments
                _check_plain(f"detector_options.{key}", value)
            elif key == "fit":
                check_fit(value)
            else:
                _check(f"detector_options.{key}", value, least=0, most=1e6)

    @property
    def takes_whole(self) -> bool:
        """Whether a crop is a whole image, in which no face was looked for."""
        return self.detector in ("none", "whole")

    @property
    def squashes(self) -> bool:
        """Whether a whole image is stretched to a square, instead of padded."""
        return self.takes_whole and self.detector_options.get("fit") == "squash"

    @property
    def node(self) -> dict[str, Any]:
        """`_target_` and arguments of the detector."""
        return {**self.detector_options, "_target_": DETECTORS.get(self.detector, self.detector)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a spec from `to_dict`."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON and for a checkpoint."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the sorted JSON."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class InputSpec:
    """How a crop becomes the network's input.

    Args:
        size: Side in pixels.
        mean: Per RGB channel, of values in [0, 1].
        std: Per RGB channel, of values in [0, 1].

    Raises:
        ConfigError: The size is none that a network takes.
    """

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        _check("input size", self.size, least=8, most=4096)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a spec from `to_dict`."""
        return cls(size=values["size"], mean=_three(values["mean"]), std=_three(values["std"]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON and for a checkpoint."""
        return {"size": self.size, "mean": list(self.mean), "std": list(self.std)}


def check_fit(fit: Any) -> None:
    """Raise a ConfigError unless a value is one of `FITS`."""
    if fit not in FITS:
        raise ConfigError(f"detector.fit='{fit}' is unknown. Choose {' or '.join(FITS)}.")


def _check(key: str, value: Any, *, least: float, most: float) -> None:
    """Raise unless a value, which may come from a file of anyone's, is a number in a range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(f"{key}={value!r} must be a number from {least:g} to {most:g}.")


def _check_plain(key: str, value: Any) -> None:
    """Raise unless a value comes back from JSON as it was."""
    try:
        is_plain = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError, RecursionError):
        is_plain = False
    if not is_plain:
        raise ConfigError(f"{key}={str(value)[:80]} must be a plain value: a text, a number, a list or a mapping.")


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def check_same_crops(model: CropSpec, dataset: CropSpec, *, where: str) -> None:
    """Raise unless a dataset's crops were made as those that the model was trained on.

    Args:
        model: Spec stored in the checkpoint.
        dataset: Spec stored in the face dataset.
        where: The dataset, for the message.

    Raises:
        SpecMismatchError: Names every difference.
    """
    if model.hash == dataset.hash:
        return
    ours, theirs = model.to_dict(), dataset.to_dict()
    differences = ", ".join(
        f"{key}: model {ours[key]!r}, dataset {theirs[key]!r}" for key in ours if ours[key] != theirs[key]
    )
    raise SpecMismatchError(
        f"The crops in '{where}' (preprocessing {dataset.hash}) were made otherwise than those the model was "
        f"trained on (preprocessing {model.hash}): {differences}. Prepare the dataset again with the model's "
        f"values, or pass allow_spec_mismatch=true to score it all the same."
    )
