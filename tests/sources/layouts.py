"""Every published layout in miniature, as empty files with the lists and tables that its source needs."""

import json
from pathlib import Path

from unmask.sources.celebdf import CelebDF
from unmask.sources.csv_table import CsvTable
from unmask.sources.deeperforensics import DeeperForensics
from unmask.sources.dfd import DeepFakeDetection
from unmask.sources.dfdc import DFDC
from unmask.sources.dfdc_preview import DFDCPreview
from unmask.sources.dfdm import DFDM
from unmask.sources.fakeavceleb import FakeAVCeleb
from unmask.sources.ffiw import FFIW
from unmask.sources.ffpp import FaceForensics
from unmask.sources.image_folder import ImageFolder
from unmask.sources.uadfv import UADFV

YOUTUBE, DEEPFAKES = "original_sequences/youtube/c23/videos", "manipulated_sequences/Deepfakes/c23/videos"
ACTORS, DFD_FAKES = "original_sequences/actors/c23/videos", "manipulated_sequences/DeepFakeDetection/c23/videos"

# The layouts stand in the publications and repositories that the sources name; the file that comes first is a video.
LAYOUTS = {
    "ffpp": (f"{YOUTUBE}/071.mp4", f"{YOUTUBE}/054.mp4", f"{DEEPFAKES}/071_054.mp4"),
    "ffpp_flat": ("original/071.mp4", "original/054.mp4", "Deepfakes/071_054.mp4"),  # Kaggle's xdxd003/ff-c23
    "dfd": (f"{ACTORS}/01__walk.mp4", f"{DFD_FAKES}/01_02__walk__ABCDEFGH.mp4"),
    "celebdf": ("Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4", "List_of_testing_videos.txt"),
    "dfdc": ("dfdc_train_part_0/a.mp4", "dfdc_train_part_0/b.mp4", "dfdc_train_part_0/metadata.json"),
    "dfdc_preview": ("original_videos/1/1_A_001.mp4", "method_A/1/1_A/2_1_A_001.mp4", "dataset.json"),
    "deeperforensics": (
        "manipulated_videos/end_to_end/000_M101.mp4", "original/000.mp4", "lists/splits/train.txt",
        "lists/splits/val.txt", "lists/splits/test.txt",
    ),
    "uadfv": ("real/0000.mp4", "fake/0000_fake.mp4"),
    "dfdm": ("DFDM_crf23/DFaker/id0_id1_0000_4dfaker.mp4", "Celeb-real/id0_0000.mp4"),
    "ffiw": ("source/train/00000.mp4", "source/test/00000.mp4", "target/train/00000.mp4", "target/test/00000.mp4"),
    "fakeavceleb": (
        "RealVideo-RealAudio/African/men/id00076/00109.mp4",
        "FakeVideo-FakeAudio/African/men/id00076/00109_10_id00476_wavtolip.mp4",
    ),
    "image_folder": ("train/0_real/a.jpg", "train/1_fake/b.jpg"),
    "csv": ("clips/a.mp4", "clips/b.mp4", "train.csv"),
}  # fmt: skip
TEXTS = {
    "List_of_testing_videos.txt": "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n",
    "metadata.json": json.dumps({"a.mp4": {"label": "REAL"}, "b.mp4": {"label": "FAKE", "original": "a.mp4"}}),
    "dataset.json": json.dumps(
        {
            "original_videos/1/1_A_001.mp4": {"label": "real", "set": "test"},
            "method_A/1/1_A/2_1_A_001.mp4": {"label": "fake", "set": "test"},
        }
    ),
    "train.txt": "000_M101.mp4\n",
    "train.csv": "path,label\nclips/a.mp4,0\nclips/b.mp4,1\n",
}
CLASSES = {
    "ffpp": FaceForensics, "ffpp_flat": FaceForensics, "dfd": DeepFakeDetection, "celebdf": CelebDF, "dfdc": DFDC,
    "dfdc_preview": DFDCPreview, "deeperforensics": DeeperForensics, "uadfv": UADFV, "dfdm": DFDM, "ffiw": FFIW,
    "fakeavceleb": FakeAVCeleb, "image_folder": ImageFolder, "csv": CsvTable,
}  # fmt: skip


def lay_out(root: Path, name: str) -> Path:
    """Write a layout, and return the first of its media."""
    for file in LAYOUTS[name]:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(TEXTS.get(Path(file).name, ""))
    return root / LAYOUTS[name][0]


def touch(root: Path, *names: str) -> Path:
    """Write empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root
