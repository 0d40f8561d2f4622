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
        (("augmentation.steps.flip.p=2",), "augmentation.steps.flip.p=2 is not possible: Input should be less than or"),
        (("augmentation.steps.flip.p=often",), "augmentation.steps.flip.p='often' is not possible: Input should be a"),
        (("augmentation.steps.jpeg.quality_range=[0,300]",), "jpeg.quality_range=[0, 300] is not possible: All values"),
        (("augmentation.steps.jpeg.quality_range=5",), "augmentation.steps.jpeg.quality_range=5 is not possible"),
        (("+augmentation.steps.jpeg.qualty=5",), "augmentation.steps.jpeg cannot be built: Argument(s) 'qualty' are"),
        (("augmentation.steps.flip._target_=albumentations.Flop",), "augmentation.steps.flip._target_ names nothing"),
        (("augmentation.steps.flip=7",), "augmentation.steps.flip=7 is no step. Give it a _target_ and keys, or null"),
        (("augmentation=robust", f"{H264}.crf_range=[80,90]"), f"{H264}.crf_range=[80, 90] must be two whole numbers"),
        (("augmentation=robust", f"{BLOCKS}.num_range=[9,2]"), f"{BLOCKS}.num_range=[9, 2] must be two whole numbers"),
        (("augmentation=robust", "augmentation.steps.perturbation.p=3"), "perturbation.p=3 must be a number from 0 to"),
        (("augmentation=dfdc_winner", "augmentation.steps.cutout.part_p=7"), "steps.cutout.part_p=7 must be a number"),
        (
            ("augmentation=dfdc_winner", f"{HSV}=abc"),
            f"{HSV}='abc' is not possible: Input should be a valid tuple; or:",
        ),
    ],
)
def test_step_that_cannot_be_is_told_with_key_value_and_bounds(overrides: tuple[str, ...], message: str) -> None:
    assert message in _tell(*overrides)


def test_choice_without_any_step_left_is_told() -> None:
    steps = compose_config("train", "augmentation=robust").augmentation.steps.perturbation.steps
    gone = [f"augmentation.steps.perturbation.steps.{name}=null" for name in steps]
    assert "augmentation.steps.perturbation.steps={} leaves nothing to choose from" in _tell(
        "augmentation=robust", *gone
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("forehead_p=2", "forehead_p=2 must be a number from 0 to 1."),
        ("deformation=-1", "deformation=-1 must be a number from 0 to 1."),
        ("shift_x=far", "shift_x=far must be a number from 0 to 1."),
        ("shift_y=3", "shift_y=3 must be a number from 0 to 1."),
        ("scale=1.5", "scale=1.5 must be a number from 0 to 0.9."),
        ("blur_kernel=[9,3]", "blur_kernel=[9, 3] must be two whole numbers from 1 on, the lower one first."),
        ("blur_kernel=[5]", "blur_kernel=[5] must be two whole numbers from 1 on, the lower one first."),
        ("blur_kernel=[5,7.5]", "blur_kernel=[5, 7.5] must be two whole numbers from 1 on, the lower one first."),
        ("blur_sigma=[0,0]", "blur_sigma=[0, 0] must be two numbers from 0.1 on, the lower one first."),
        ("mask_side=[0,5]", "mask_side=[0, 5] must be two whole numbers from 16 to 4096, the lower one first."),
        ("mask_side=big", "mask_side=big must be two whole numbers from 16 to 4096, the lower one first."),
        ("blend_ratios=[]", "blend_ratios=[] must be a list of numbers from 0 to 1, such as [0.5,1]."),
        ("blend_ratios=[0.5,2]", "blend_ratios=2 must be a number from 0 to 1."),
        ("source_steps.brightness=on", "source_steps.brightness=on is no step. Give it a _target_"),
    ],
)
def test_parameter_of_self_blending_that_cannot_be_is_told(override: str, message: str) -> None:
    assert _tell("augmentation=sbi", f"augmentation.{override}").startswith(f"augmentation.{message}")
