"""Preprocessing spec: settings that must be equal in training, evaluation and prediction for scores to agree."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from unmask.errors import ConfigError, SpecMismatchError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
"""File extension of a crop by format; PNG and WebP are lossless."""

CHROMAS = ("4:4:4", "4:2:0")
KEEPS = ("largest", "all")
BOXES = ("own", "from_original")

_LEGACY: dict[str, Any] = {
    "format": "jpeg", "chroma": "4:2:0", "min_face": 0.0, "min_sharpness": 0.0, "min_confidence": 0.0,
    "keep": "largest", "boxes": "own",
}  # fmt: skip
"""Values of specs from before these keys existed. They are neither stored nor hashed, so that old hashes still hold."""


DETECTORS = {
    "retinaface_mobilenet": "unmask.faces.retinaface_mobilenet.RetinaFaceMobileNet",
    "retinaface": "unmask.faces.retinaface_resnet50.RetinaFaceResNet50",
    "haar": "unmask.faces.haar.HaarCascade",
    "none": "unmask.faces.detector.WholeImage",
    "whole": "unmask.faces.detector.WholeImage",  # behind `none`, so that the target has this name
}
"""Short names of our own detectors, stored in specs so that a spec's hash does not depend on module paths."""

FITS = ("letterbox", "squash")
"""How a whole image becomes a square: padded by reflection with its shape kept, or stretched."""


@dataclass(frozen=True)
class CropSpec:
    """Settings that turn a face into a crop.

    Args:
        detector: `_target_` of the detector, or a key of `DETECTORS`; `none` for images that are already crops.
        detector_sha256: SHA-256 of the detector's weights, or "" without weights.
        detector_options: Arguments of the detector that affect its results, such as `confidence`, as plain values;
            numbers for our own detectors, except `fit`. Missing arguments have their defaults.
        margin: Side of the crop divided by the longer side of the box.
        crop_size: Side of the stored crop in pixels.
        aligned: Whether crops are rotated to make the eyes level.
        num_frames: Number of evenly spaced frames per video.
        jpeg_quality: JPEG quality of stored crops. Prediction encodes its crops too, so that it sees the same pixels.
        format: File format of stored crops: `jpeg`, or `png` or `webp` without losses.
        chroma: Chroma subsampling of JPEG crops: `4:4:4` keeps the colour of every pixel, `4:2:0` that of every 2 x 2.
        min_face: Minimum length in pixels of the shorter side of a face's box; 0 for any.
        min_sharpness: Minimum sharpness of a crop, see `unmask.faces.crop.measure_sharpness`; 0 for any.
        min_confidence: Minimum confidence of the detector, above its own threshold; 0 for any.
        keep: Tracks that give crops: `largest` for the main person, or `all`.
        boxes: Boxes of forgeries: `own` detects them, `from_original` reuses those of the original video.

    Values without effect take those of `_LEGACY` or their default, so that they do not change the hash: `chroma` and
    `jpeg_quality` of lossless crops, and `chroma` of images indexed where they lie.

    Raises:
        ConfigError: A value has the wrong type or is out of range.
    """

    detector: str
    detector_sha256: str = ""
    detector_options: Mapping[str, Any] = field(default_factory=dict)
    margin: float = 1.3
    crop_size: int = 256
    aligned: bool = False
    num_frames: int = 32
    jpeg_quality: int = 95
    format: str = "jpeg"
    chroma: str = "4:4:4"
    min_face: float = 0.0
    min_sharpness: float = 0.0
    min_confidence: float = 0.0
    keep: str = "largest"
    boxes: str = "own"

    def __post_init__(self) -> None:
        _check("margin", self.margin, least=0.1, most=10)
        _check("crop_size", self.crop_size, least=8, most=4096)
        _check("num_frames", self.num_frames, least=1, most=1_000_000)
        _check("jpeg_quality", self.jpeg_quality, least=1, most=100)
        if not isinstance(self.detector, str) or not isinstance(self.detector_options, Mapping):
            raise ConfigError(f"detector={self.detector!r} must be a string, and detector_options must be a mapping.")
        for key, value in self.detector_options.items():
            if "." in self.detector:  # custom detectors check their own arguments
                _check_plain(f"detector_options.{key}", value)
            elif key == "fit":
                check_fit(value)
            else:
                _check(f"detector_options.{key}", value, least=0, most=1e6)
        self._check_later_keys()

    def _check_later_keys(self) -> None:
        for key, choices in (("format", (*SUFFIXES,)), ("chroma", CHROMAS), ("keep", KEEPS), ("boxes", BOXES)):
            if (value := getattr(self, key)) not in choices:
                raise ConfigError(f"{key}={value!r} is unknown. Choose {' or '.join(choices)}.")
        for key, most in (("min_face", 1e6), ("min_sharpness", 1e6), ("min_confidence", 1)):
            _check(key, getattr(self, key), least=0, most=most)
            object.__setattr__(self, key, float(getattr(self, key)))  # 40 and 40.0 have the same hash
        if self.format != "jpeg":
            object.__setattr__(self, "jpeg_quality", 95)
        if self.format != "jpeg" or self.detector == "none":
            object.__setattr__(self, "chroma", _LEGACY["chroma"])
        for key, value in _LEGACY.items():
            if self.detector == "none" and getattr(self, key) != value:
                raise ConfigError(
                    f"{key}={getattr(self, key)!r} has no effect with detector=none, which indexes images where they "
                    f"lie. Remove it, or choose a detector, such as detector=retinaface_mobilenet."
                )

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
        return cls(**{**_LEGACY, **values})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON and for a checkpoint, without those of `_LEGACY`."""
        return {key: value for key, value in asdict(self).items() if key not in _LEGACY or value != _LEGACY[key]}

    @property
    def suffix(self) -> str:
        """File extension of stored crops."""
        return SUFFIXES[self.format]

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the sorted JSON."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class InputSpec:
    """Settings that turn a crop into the network's input.

    Args:
        size: Side in pixels.
        mean: Mean of each RGB channel, for values in [0, 1].
        std: Standard deviation of each RGB channel, for values in [0, 1].

    Raises:
        ConfigError: The size is out of range.
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
    """Raise unless a value, possibly from an untrusted file, is a number in a range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(f"{key}={value!r} must be a number from {least:g} to {most:g}.")


def _check_plain(key: str, value: Any) -> None:
    """Raise unless a value survives a round trip through JSON."""
    try:
        is_plain = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError, RecursionError):
        is_plain = False
    if not is_plain:
        raise ConfigError(f"{key}={str(value)[:80]} must be a plain value: a string, number, list or mapping.")


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def list_differences(one: CropSpec, other: CropSpec) -> list[tuple[str, Any, Any]]:
    """Return the keys whose values differ, with both values."""
    first, second = asdict(one), asdict(other)
    return [(key, first[key], second[key]) for key in first if first[key] != second[key]]


def check_same_crops(model: CropSpec, dataset: CropSpec, *, where: str) -> None:
    """Check that a dataset's crops were made with the same settings as the model's training crops.

    Args:
        model: Spec stored in the checkpoint.
        dataset: Spec stored in the face dataset.
        where: Path of the dataset, for the error message.

    Raises:
        SpecMismatchError: The specs differ; lists the differences.
    """
    if model.hash == dataset.hash:
        return
    differences = ", ".join(
        f"{key}: model {ours!r}, dataset {theirs!r}" for key, ours, theirs in list_differences(model, dataset)
    )
    raise SpecMismatchError(
        f"The crops in '{where}' (preprocessing {dataset.hash}) differ from those the model was trained on "
        f"(preprocessing {model.hash}): {differences}. Prepare the dataset again with the model's values, or set "
        f"allow_spec_mismatch=true to score it anyway."
    )
