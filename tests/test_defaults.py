import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from omegaconf import OmegaConf

from unmask.config import config_dir
from unmask.evaluation.robustness import RobustnessOptions, evaluate_robustness
from unmask.evaluation.run import Options
from unmask.faces.spec import CropSpec
from unmask.inference.deciding import Deciding
from unmask.inference.limits import Limits
from unmask.inference.predictor import Predictor, PredictorSettings
from unmask.metrics.intervals import BootstrapOptions
from unmask.web.api.settings import ServiceLimits

FOR_STRANGERS = {"max_pixels", "max_seconds", "max_frames"}
"""Limits that a service sets lower than the command line, since its files come from anyone."""


def _read(command: str) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(config_dir() / f"{command}.yaml"))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _defaults_of(owner: Any) -> dict[str, Any]:
    parameters = inspect.signature(owner).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _check_same(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, apart: set[str] = set()) -> None:  # noqa: B006
    shared = (ours.keys() & theirs.keys()) - apart
    assert shared
    for one in shared:
        plain = [list(values[one]) if isinstance(values[one], tuple) else values[one] for values in (ours, theirs)]
        assert plain[0] == plain[1], one


@pytest.mark.parametrize("entry", [Predictor, Predictor.load], ids=["constructor", "load"])
def test_predictor_has_the_defaults_of_its_settings(entry: Any) -> None:
    _check_same(_defaults_of(entry), vars(PredictorSettings()))


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_configs_have_the_defaults_of_python(command: str) -> None:
    content = _read(command)
    _check_same(content, vars(PredictorSettings()), apart={"limits", "deciding"})
    assert content["deciding"] == vars(Deciding())
    assert content["limits"].keys() == vars(Limits()).keys()
    _check_same(content["limits"], vars(Limits()), apart=FOR_STRANGERS if command == "serve" else set())


def test_service_has_the_limits_of_its_config() -> None:
    assert _read("serve")["service"] == dataclasses.asdict(ServiceLimits())


def test_prepare_has_the_defaults_of_the_spec_and_of_the_limits() -> None:
    content = _read("prepare")
    _check_same(content["crop"], _defaults_of(CropSpec))
    _check_same(content["limits"], vars(Limits()))


def test_evaluate_has_the_defaults_of_its_config() -> None:
    content = _read("evaluate")
    _check_same(content, vars(Options()), apart={"bootstrap"})
    assert content["bootstrap"] == vars(BootstrapOptions()) == vars(Options().bootstrap)
    _check_same(content, _defaults_of(evaluate_robustness))
    _check_same(content["robustness"], vars(RobustnessOptions()))
