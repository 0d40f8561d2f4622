"""Names in the lists of DeepfakeBench and DF40: label and method of a label, people and original of a video."""

import re
from pathlib import Path

from unmask.types import Label

METHODS = {
    "FF-DF": "Deepfakes", "FF-F2F": "Face2Face", "FF-FS": "FaceSwap", "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter", "FF-SH": "FaceShifter", "DFD_fake": "DeepFakeDetection",
    "CelebDFv1_fake": "Celeb-synthesis", "CelebDFv2_fake": "Celeb-synthesis",
    "DFDCP_FakeA": "method_A", "DFDCP_FakeB": "method_B", "DFDC_Fake": "dfdc", "DF_fake": "DeeperForensics",
    "UADFV_Fake": "FakeApp",
}  # fmt: skip
"""Methods of the names that DeepfakeBench gives to fakes (its `label_dict`); DF40 calls them `<method>_Fake`."""

_LABEL = re.compile(r"(.+)[_-](real|fake)", re.IGNORECASE)
_PEOPLE = (
    (re.compile(r"(\d{3})(?:_(\d{3}))?"), "ffpp {}"),
    (re.compile(r"(\d{3})_[MW]\d+"), "ffpp {}"),  # DeeperForensics: a video of FaceForensics++, with another's face
    (re.compile(r"(\d{2})(?:_(\d{2}))?__.+"), "actor {}"),
    (re.compile(r"id(\d+)(?:_id(\d+))?_\d{4}"), "celebdf id{}"),
)
"""Names of videos in FaceForensics++, DeeperForensics, DeepFakeDetection and Celeb-DF, and the people in them."""


def read_label(name: str) -> Label | None:
    """Return the label that a name of DeepfakeBench or DF40 means, such as `FF-DF` or `simswap_Fake`, or None."""
    match = _LABEL.fullmatch(name)
    if match:
        return Label[match.group(2).upper()]
    return Label.FAKE if name in METHODS else None


def name_method(label: str) -> str:
    """Return the method that the label of a fake names: `Deepfakes` for `FF-DF`, `simswap` for `simswap_Fake`."""
    match = _LABEL.fullmatch(label)
    return METHODS.get(label) or (match.group(1) if match else label)


def name_people(name: str) -> tuple[str, ...]:
    """Return the people in a video whose name states them; none for other names."""
    for pattern, person in _PEOPLE:
        match = pattern.fullmatch(name)
        if match:
            return tuple(person.format(number) for number in match.groups() if number)
    return ()


def name_stranger(frame: Path) -> tuple[str, ...]:
    """Return an identity of its own for a video of Celeb-DF's `YouTube-real`, whose people are in no other video."""
    is_youtube = "youtube-real" in (part.lower() for part in frame.parts)
    return (f"celebdf {frame.parent.name}",) if is_youtube else ()


def name_original(name: str) -> str:
    """Return the name of the video that a fake was made from: that of the first person in its name."""
    if match := re.fullmatch(r"(\d{3})_(?:\d{3}|[MW]\d+)|(\d+)_fake", name):
        return match.group(1) or match.group(2)
    if match := re.fullmatch(r"(id\d+)_id\d+_(\d{4})", name):
        return f"{match.group(1)}_{match.group(2)}"
    match = re.fullmatch(r"(\d{2})_\d{2}__(.+)__[^_]+", name)
    return f"{match.group(1)}__{match.group(2)}" if match else ""
