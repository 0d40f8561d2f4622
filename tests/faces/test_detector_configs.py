import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from unmask.faces.detector import Detector

NEWER = {"retinaface_mobilenet": {"first_side": 0}}
"""Options that older specs lack: their default is what the detector did then, while the config has a better value."""

CONFIGS = Path(__file__).parents[2] / "configs" / "detector"


@pytest.mark.parametrize("name", ["retinaface_mobilenet", "retinaface", "haar", "whole"])
def test_detector_config_lists_every_option_with_its_default_and_bears_its_name(name: str) -> None:
    config = OmegaConf.load(CONFIGS / f"{name}.yaml")
    options = inspect.signature(get_class(config._target_)).parameters.values()
    newer = NEWER.get(name, {})
    given = {key: value for key, value in config.items() if key != "_target_"}
    assert newer.keys() <= given.keys()
    assert given | newer == {p.name: p.default for p in options}
    detector: Detector = instantiate(config)
    assert detector.name == name


def test_config_none_builds_no_detector() -> None:
    assert instantiate(OmegaConf.load(CONFIGS / "none.yaml")) is None


def test_every_detector_config_is_tested_here() -> None:
    names = {"retinaface_mobilenet", "retinaface", "haar", "whole", "none"}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == names


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("retinaface_mobilenet", "nms_iou", -1), ("retinaface_mobilenet", "first_side", 8),
        ("retinaface", "confidence", 1.5), ("retinaface", "batch_size", 0),
        ("haar", "scale_factor", 1), ("haar", "min_neighbors", -1), ("haar", "min_size", 0.5), ("haar", "max_side", 0),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_told(name: str, key: str, value: float) -> None:
    config = OmegaConf.load(CONFIGS / f"{name}.yaml")
    with pytest.raises(ValueError, match=rf"^{key}={value} must be a "):
        get_class(config._target_)(**{key: value})
