import dataclasses
import json

import pytest

from unmask.errors import ConfigError, SpecMismatchError
from unmask.faces.spec import CropSpec, InputSpec, check_same_crops

SPEC = CropSpec(detector="haar", detector_sha256="ab")


def test_specs_survive_json() -> None:
    assert CropSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC
    spec = InputSpec(size=112, mean=(0.1, 0.2, 0.3))
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CropSpec)])
def test_every_value_changes_the_hash(field: str) -> None:
    value = getattr(SPEC, field)
    other: object
    if isinstance(value, str):
        other = value + "x"
    elif isinstance(value, dict):
        other = {"confidence": 0.5}
    else:
        other = not value if isinstance(value, bool) else value + 1
    assert dataclasses.replace(SPEC, **{field: other}).hash != SPEC.hash


def test_hash_does_not_depend_on_the_order_of_values() -> None:
    assert len(SPEC.hash) == 16
    assert SPEC.hash == CropSpec.from_dict(dict(reversed(SPEC.to_dict().items()))).hash


def test_crops_made_otherwise_are_refused_with_every_difference() -> None:
    check_same_crops(SPEC, dataclasses.replace(SPEC), where="data")
    other = dataclasses.replace(SPEC, margin=2.0, aligned=True)
    with pytest.raises(SpecMismatchError) as caught:
        check_same_crops(SPEC, other, where="data/other")
    message = str(caught.value)
    for part in ("'data/other'", SPEC.hash, other.hash, "margin: model 1.3, dataset 2.0", "aligned: model False"):
        assert part in message
    assert "crop_size" not in message
    assert "allow_spec_mismatch=true" in message


def test_hashes_of_our_own_detectors_are_those_that_datasets_already_have() -> None:
    options = {"confidence": 0.7, "nms_iou": 0.4, "max_side": 640}
    specs = (CropSpec("haar", "ab"), CropSpec("retinaface_mobilenet", "cd", options), CropSpec("none"))
    assert [spec.hash for spec in specs] == ["2282734a83feec7b", "c2f9e286939c24ac", "7d2cf6a3bde4c14e"]


def test_arguments_of_a_detector_of_ones_own_are_plain_values() -> None:
    spec = CropSpec("mylab.faces.Corners", detector_options={"kind": "fast", "sizes": [1, 2], "deep": {"a": None}})
    assert CropSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    for value in (object(), {1: 2}, float("nan")):
        with pytest.raises(ConfigError, match=r"detector_options\.x"):
            CropSpec("mylab.faces.Corners", detector_options={"x": value})
    with pytest.raises(ConfigError, match=r"detector_options\.confidence"):
        CropSpec("haar", detector_options={"confidence": {"_target_": "os.system"}})
