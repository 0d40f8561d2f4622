import re

import pytest
from tests.conftest import compose_config

from unmask.errors import ConfigError
from unmask.training.parts import build_node

H264 = "augmentation.steps.perturbation.steps.h264"
BLOCKS = "augmentation.steps.perturbation.steps.blocks"
HSV = "augmentation.steps.colour.steps.hsv.hue_shift_limit"


def _tell(*overrides: str) -> str:
    with pytest.raises(ConfigError) as told:
        build_node(compose_config("train", *overrides).augmentation)
    text = str(told.value)
    assert "pydantic" not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("augmentation.steps.flip.p=2",), r"augmentation\.steps\.flip\.p=2 .*less than or equal to 1"),
        (("augmentation.steps.flip.p=often",), r"augmentation\.steps\.flip\.p='often' .*number"),
        (("augmentation.steps.jpeg.quality_range=[0,300]",), r"jpeg\.quality_range=\[0, 300\] "),
        (("augmentation.steps.jpeg.quality_range=5",), r"augmentation\.steps\.jpeg\.quality_range=5 "),
        (("+augmentation.steps.jpeg.qualty=5",), r"augmentation\.steps\.jpeg .*'qualty'"),
        (("augmentation.steps.flip._target_=albumentations.Flop",), r"augmentation\.steps\.flip\._target_"),
        (("augmentation.steps.flip=7",), r"augmentation\.steps\.flip=7 .*_target_.* null\b"),
        (("augmentation=robust", f"{H264}.crf_range=[80,90]"), rf"{H264}\.crf_range=\[80, 90\] .*\b0\b.*\b51\b"),
        (("augmentation=robust", f"{BLOCKS}.num_range=[9,2]"), rf"{BLOCKS}\.num_range=\[9, 2\] .*whole numbers"),
        (("augmentation=robust", "augmentation.steps.perturbation.p=3"), r"perturbation\.p=3 .*\b0\b.*\b1\b"),
        (("augmentation=dfdc_winner", "augmentation.steps.cutout.part_p=7"), r"cutout\.part_p=7 .*\b0\b.*\b1\b"),
        (("augmentation=dfdc_winner", f"{HSV}=abc"), rf"{HSV}='abc' .*tuple"),
    ],
)
def test_step_that_cannot_be_is_told_with_key_value_and_bounds(overrides: tuple[str, ...], message: str) -> None:
    assert re.search(message, _tell(*overrides))


def test_choice_without_any_step_left_is_told() -> None:
    steps = compose_config("train", "augmentation=robust").augmentation.steps.perturbation.steps
    gone = [f"augmentation.steps.perturbation.steps.{name}=null" for name in steps]
    text = _tell("augmentation=robust", *gone)
    assert re.search(r"augmentation\.steps\.perturbation\.steps=\{\} .*null", text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("forehead_p=2", r"forehead_p=2 .*\b0\b.*\b1\b"),
        ("deformation=-1", r"deformation=-1 .*\b0\b.*\b1\b"),
        ("shift_x=far", r"shift_x=far .*\b0\b.*\b1\b"),
        ("shift_y=3", r"shift_y=3 .*\b0\b.*\b1\b"),
        ("scale=1.5", r"scale=1\.5 .*\b0\b.*\b0\.9\b"),
        ("blur_kernel=[9,3]", r"blur_kernel=\[9, 3\] .*two whole numbers.*\b1\b"),
        ("blur_kernel=[5]", r"blur_kernel=\[5\] .*two whole numbers.*\b1\b"),
        ("blur_kernel=[5,7.5]", r"blur_kernel=\[5, 7\.5\] .*two whole numbers.*\b1\b"),
        ("blur_sigma=[0,0]", r"blur_sigma=\[0, 0\] .*two numbers.*\b0\.1\b"),
        ("mask_side=[0,5]", r"mask_side=\[0, 5\] .*two whole numbers.*\b16\b.*\b4096\b"),
        ("mask_side=big", r"mask_side=big .*two whole numbers.*\b16\b.*\b4096\b"),
        ("blend_ratios=[]", r"blend_ratios=\[\] .*\b0\b.*\b1\b.*\[0\.5,1\]"),
        ("blend_ratios=[0.5,2]", r"blend_ratios=2 .*\b0\b.*\b1\b"),
        ("source_steps.brightness=on", r"source_steps\.brightness=on .*_target_"),
    ],
)
def test_parameter_of_self_blending_that_cannot_be_is_told(override: str, message: str) -> None:
    assert re.match(rf"augmentation\.{message}", _tell("augmentation=sbi", f"augmentation.{override}"))
