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
    choices = {"format": "png", "chroma": "4:2:0", "keep": "all", "boxes": "from_original", "min_confidence": 0.5}
    other: object
    if field in choices:
        other = choices[field]
    elif isinstance(value, str):
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
    sampled = {"chroma": "4:2:0"}  # of all crops from before the key existed
    specs = (
        CropSpec("haar", "ab", **sampled), CropSpec("retinaface_mobilenet", "cd", options, **sampled), CropSpec("none")
    )  # fmt: skip
    assert [spec.hash for spec in specs] == ["2282734a83feec7b", "c2f9e286939c24ac", "7d2cf6a3bde4c14e"]


def test_dataset_from_before_formats_and_limits_keeps_its_meaning_and_hash() -> None:
    # The `preprocessing` of a dataset.json of commit 76a4f13, and its `preprocessing_hash`.
    stored = {
        "detector": "haar", "detector_sha256": "ab", "detector_options": {}, "margin": 1.3, "crop_size": 256,
        "aligned": False, "num_frames": 32, "jpeg_quality": 95,
    }  # fmt: skip
    spec = CropSpec.from_dict(stored)
    assert (spec.format, spec.chroma, spec.keep, spec.boxes) == ("jpeg", "4:2:0", "largest", "own")
    assert (spec.min_face, spec.min_sharpness, spec.min_confidence) == (0, 0, 0)
    assert spec.to_dict() == stored
    assert spec.hash == "2282734a83feec7b"
    new = CropSpec("haar", "ab")
    assert new.to_dict() == stored | {"chroma": "4:4:4"}
    with pytest.raises(SpecMismatchError, match="chroma: model '4:2:0', dataset '4:4:4'"):
        check_same_crops(spec, new, where="data")


def test_values_without_effect_do_not_change_the_hash() -> None:
    lossless = CropSpec("haar", format="png", jpeg_quality=80, chroma="4:2:0")
    assert lossless.hash == CropSpec("haar", format="png").hash != CropSpec("haar", format="webp").hash
    assert CropSpec("none", chroma="4:2:0").hash == CropSpec("none").hash
    assert CropSpec("haar", min_face=40).hash == CropSpec("haar", min_face=40.0).hash


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": "jpg"}, ("format='jpg'", "jpeg or png or webp")),
        ({"chroma": "4:2:2"}, ("chroma='4:2:2'", "4:4:4")),
        ({"keep": "every"}, ("keep='every'", "largest or all")),
        ({"boxes": ["own"]}, ("boxes=", "from_original")),
        ({"min_face": -1}, ("min_face=-1", "0")),
        ({"min_confidence": 1.5}, ("min_confidence=1.5", "1")),
        ({"min_sharpness": "sharp"}, ("min_sharpness='sharp'", "number")),
        ({"detector": "none", "format": "png"}, ("format='png'", "detector=none")),
        ({"detector": "none", "keep": "all"}, ("keep='all'", "detector=none")),
    ],
)
def test_invalid_values_name_the_key_and_what_it_takes(values: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        CropSpec(**{"detector": "haar", **values})  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)


def test_arguments_of_a_detector_of_ones_own_are_plain_values() -> None:
    spec = CropSpec("mylab.faces.Corners", detector_options={"kind": "fast", "sizes": [1, 2], "deep": {"a": None}})
    assert CropSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    for value in (object(), {1: 2}, float("nan")):
        with pytest.raises(ConfigError, match=r"detector_options\.x"):
            CropSpec("mylab.faces.Corners", detector_options={"x": value})
    with pytest.raises(ConfigError, match=r"detector_options\.confidence"):
        CropSpec("haar", detector_options={"confidence": {"_target_": "os.system"}})
