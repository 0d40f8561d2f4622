import json
import re
import shlex
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY, compose_config

from unmask.config import find_targets
from unmask.errors import SourceError
from unmask.sources.celebdf import CelebDF
from unmask.sources.csv_table import CsvTable
from unmask.sources.deeperforensics import DeeperForensics
from unmask.sources.deepfakebench import DeepfakeBench
from unmask.sources.dfd import DeepFakeDetection
from unmask.sources.dfdc import DFDC
from unmask.sources.dfdc_preview import DFDCPreview
from unmask.sources.dfdm import DFDM
from unmask.sources.faces_140k import Faces140k
from unmask.sources.fakeavceleb import FakeAVCeleb
from unmask.sources.ffiw import FFIW
from unmask.sources.ffpp import FaceForensics
from unmask.sources.image_folder import ImageFolder
from unmask.sources.recognition import recognize_folder
from unmask.sources.uadfv import UADFV
from unmask.types import SPLITS

TREES = {
    "ffpp": ("original_sequences/youtube/c23/videos/071.mp4", "manipulated_sequences/Deepfakes/c23/videos/071_054.mp4"),
    "dfd": (
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walk__ABCDEFGH.mp4",
        "original_sequences/actors/c23/videos/01__walk.mp4",
    ),
    "celebdf": ("Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4"),
    "dfdc": ("dfdc_train_part_0/a.mp4", "dfdc_train_part_0/metadata.json"),
    "dfdc_preview": ("original_videos/1/1_A_001.mp4", "method_A/1/1_A/2_1_A_001.mp4", "dataset.json"),
    "deeperforensics": (
        "manipulated_videos/end_to_end/000_M101.mp4",
        *(f"lists/splits/{split}.txt" for split in SPLITS),
    ),
    "uadfv": ("real/0000.mp4", "fake/0000_fake.mp4"),
    "dfdm": ("DFDM_crf23/DFaker/id0_id1_0000_4dfaker.mp4",),
    "ffiw": ("source/train/00000.mp4", "target/train/00000.mp4"),
    "fakeavceleb": (
        "RealVideo-RealAudio/African/men/id00076/00109.mp4",
        "FakeVideo-FakeAudio/African/men/id00076/00109_10_id00476_wavtolip.mp4",
    ),
    "deepfakebench": ("FF-DF.json", "FaceForensics++/original_sequences/youtube/c23/frames/000/000.png"),
    "faces_140k": ("real_vs_fake/real-vs-fake/train/real/31355.jpg", "real_vs_fake/real-vs-fake/train/fake/A1.jpg"),
    "portraits": ("Ann_Lee/Ann_Lee_0001.jpg", "Bob_Ray/Bob_Ray_0001.jpg"),
    "image_folder": ("train/0_real/a.jpg", "train/1_fake/b.jpg"),
    "csv": ("train.csv", "a.jpg"),
}
READ_AS_FOLDERS = ("uadfv", "fakeavceleb", "faces_140k")
"""Layouts of folders named after their label, which `image_folder` reads too, with a hint."""
FF_DF = {"label": "FF-real", "frames": ["FaceForensics++/original_sequences/youtube/c23/frames/000/000.png"]}
TEXTS = {
    "metadata.json": '{"a.mp4": {"label": "REAL"}}',
    "train.csv": "path,label\na.jpg,0\n",
    "dataset.json": '{"method_A/1/1_A/2_1_A_001.mp4": {"label": "fake", "set": "test"}}',
    "FF-DF.json": json.dumps({"FF-DF": {"FF-real": {"train": {"c23": {"000": FF_DF}}}}}),
}
SOURCES = (
    FaceForensics, DeepFakeDetection, CelebDF, DFDC, DFDCPreview, DeeperForensics, UADFV, DFDM, FFIW, FakeAVCeleb,
    DeepfakeBench, Faces140k, ImageFolder,
)  # fmt: skip


def _lay_out(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(TEXTS.get(Path(name).name, ""))
    return root


@pytest.mark.parametrize("source", TREES)
def test_each_layout_is_recognized_by_its_source_alone(tmp_path: Path, source: str) -> None:
    (found,) = recognize_folder(_lay_out(tmp_path, TREES[source]))
    assert found.source == source
    assert found.reason
    assert found.source in find_targets("source")


@pytest.mark.parametrize("source", SOURCES)
def test_a_refusal_names_the_source_that_reads_the_folder(tmp_path: Path, source: type) -> None:
    for name, names in TREES.items():
        is_own = find_targets("source")[name].endswith(f".{source.__name__}")
        if is_own or (source is ImageFolder and name in READ_AS_FOLDERS):
            continue
        root = _lay_out(tmp_path / name, names)
        with pytest.raises(SourceError) as refused:
            source(root).list_videos()
        assert f"use source={name} source.root='{root}'" in str(refused.value)


@pytest.mark.parametrize("name", READ_AS_FOLDERS)
def test_folders_of_labels_hint_at_the_source_that_knows_more(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert len(ImageFolder(_lay_out(tmp_path, TREES[name])).list_videos()) == 2
    assert f"source={name} also recognizes" in caplog.text


def test_celeba_is_recognized_by_its_list_of_people_and_vggface2_by_its_folders(tmp_path: Path) -> None:
    celeba = _lay_out(tmp_path / "celeba", ("Anno/identity_CelebA.txt", "img_align_celeba/000001.jpg"))
    vggface2 = _lay_out(tmp_path / "vggface2", ("n000001/0001_01.jpg", "n000009/0001_01.jpg"))
    assert [one.source for root in (celeba, vggface2) for one in recognize_folder(root)] == ["portraits"] * 2
    assert recognize_folder(_lay_out(tmp_path / "mine", ("real/real_0001.jpg", "other/other_0001.jpg"))) == []


@pytest.mark.parametrize(("low", "high"), [("x/data", "x"), ("x/y/data", "x")])
def test_a_root_that_is_too_high_is_answered_with_the_right_one(tmp_path: Path, low: str, high: str) -> None:
    _lay_out(tmp_path / low, TREES["celebdf"])
    with pytest.raises(SourceError, match=rf"use source=celebdf source\.root='{tmp_path / low}'"):
        CelebDF(tmp_path / high).list_videos()


def test_a_root_that_is_too_low_is_answered_with_the_right_one(tmp_path: Path) -> None:
    root = _lay_out(tmp_path / "Celeb-DF-v2", TREES["celebdf"])
    with pytest.raises(SourceError, match=rf"use source=celebdf source\.root='{root}'"):
        CelebDF(root / "Celeb-real").list_videos()


def test_folders_beside_the_root_are_not_suggested(tmp_path: Path) -> None:
    _lay_out(tmp_path, TREES["celebdf"])
    root = _lay_out(tmp_path / "other", ("cats/a.jpg",))
    with pytest.raises(SourceError) as refused:
        DFDC(root).list_videos()
    assert "celebdf" not in str(refused.value)


def test_every_command_of_the_documented_table_composes() -> None:
    text = (REPOSITORY / "docs" / "datasets.md").read_text()
    commands = re.findall(r"^\| .* \| `python prepare\.py ([^`]+)` \|$", text, flags=re.MULTILINE)
    sources = {compose_config("prepare", *shlex.split(command)).source["_target_"] for command in commands}
    assert sources == set(find_targets("source").values())


def test_a_table_without_media_columns_is_not_recognized(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("date,text\n1,2\n")
    assert CsvTable.recognize(tmp_path) is None
    assert recognize_folder(tmp_path) == []
