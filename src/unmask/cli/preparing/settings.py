"""Settings of `prepare.yaml`, as the modules that do the work take them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from unmask.config import to_plain
from unmask.errors import ConfigError

if TYPE_CHECKING:
    from unmask.faces.detector import Detector
    from unmask.faces.spec import CropSpec
    from unmask.preparation.prepare import Preparation
    from unmask.sources.folders import Source


def count_workers(cfg: DictConfig) -> int:
    """Return how many processes work; one a core where the configuration does not say."""
    return (os.cpu_count() or 1) if cfg.num_workers is None else int(cfg.num_workers)


def read_split(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings of `unmask.data.splits.SplitOptions`."""
    from unmask.types import SPLITS

    return {
        "fractions": {name: float(cfg.split[name]) for name in SPLITS},
        "seed": cfg.seed,
        "hold_out": list(cfg.split.hold_out),
        "folds": cfg.split.folds,
        "fold": cfg.split.fold,
        "protocol": None if cfg.split.protocol is None else Path(cfg.split.protocol),
    }


def record_settings(cfg: DictConfig, spec: "CropSpec") -> dict[str, Any]:
    """Return the settings that decide crops and splits, as shards record them."""
    crop = spec.to_dict()
    return {
        "source": to_plain(cfg.source),
        **{key: crop.pop(key) for key in ("detector", "detector_sha256", "detector_options")},
        "crop": crop,
        "split": to_plain(cfg.split),
        "seed": cfg.seed,
        "limit": cfg.limit,
        "limits": to_plain(cfg.limits),
        "duplicates": cfg.duplicates,
        "near_duplicates": cfg.near_duplicates,
    }


def read_preparation(settings: Mapping[str, Any], source: "Source") -> "Preparation":
    """Return what `record_settings` describes."""
    from unmask.data.splits import SplitOptions
    from unmask.faces.spec import CropSpec
    from unmask.preparation.prepare import Preparation

    detector = {key: settings[key] for key in ("detector", "detector_sha256", "detector_options")}
    return Preparation(
        source,
        CropSpec(**detector, **settings["crop"]),
        SplitOptions(**read_split(OmegaConf.create({"split": settings["split"], "seed": settings["seed"]}))),
        limit=settings["limit"],
        duplicates=settings["duplicates"],
        near_duplicates=settings["near_duplicates"],
        max_pixels=settings["limits"]["max_pixels"],
    )


def describe_crops(cfg: DictConfig, detector: "Detector | None") -> "CropSpec":
    """Return the preprocessing spec of a configuration.

    Args:
        cfg: Configuration of `prepare.yaml`.
        detector: Built of it.

    Raises:
        ConfigError: A value of `crop` is out of range, or the detector has another one for its crops.
    """
    from unmask.faces.detector import check_detector, describe_detector
    from unmask.faces.spec import CropSpec

    described, crop = describe_detector(detector, to_plain(cfg.detector)), to_plain(cfg.crop)
    if detector is not None:
        check_detector(detector, name=described["detector"])
    usual = CropSpec(described["detector"]).to_dict()
    for key in crop.keys() & described.keys():
        if crop[key] not in (described[key], usual[key]):
            raise ConfigError(
                f"crop.{key}={crop[key]} does not fit detector={described['detector']}, whose crops always have "
                f"crop.{key}={described[key]}. Drop it, or choose another detector."
            )
    try:
        return CropSpec(**{**crop, **to_plain(cfg.faces), **described})
    except ConfigError as error:
        group = "faces" if str(error).partition("=")[0] in cfg.faces else "crop"
        raise ConfigError(f"{group}.{error}") from error
