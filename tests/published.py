"""Miniature copies of published video datasets in their authors' layouts, for tests that prepare them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

_CELEBRITIES = ("Celeb-real/id0_0000", "Celeb-real/id1_0000", "Celeb-synthesis/id0_id1_0000", "YouTube-real/00000")
_SWAPS = ("FaceSwap/SimSwap", "FaceReenact/LivePortrait")

PUBLISHED = {
    "celebdf": [f"{name}.mp4" for name in _CELEBRITIES],
    "celebdfpp": [
        "Celeb-real/id0_0000.mp4",
        "Celeb-real/id1_0000.mp4",
        *(f"Celeb-synthesis/{place}/id0_id1_0000.mp4" for place in _SWAPS),
    ],
    "dfd": [
        "original_sequences/actors/c23/videos/01__walking.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__ABCDEFGH.mp4",
    ],
    "dfdc": [f"dfdc_train_part_0/{number}.mp4" for number in range(6)],
    "dfdc_preview": ["original_videos/1/1_A_001.mp4", "method_A/1/1_A/2_1_A_001.mp4"],
    "deeperforensics": ["original/000.mp4", "manipulated_videos/end_to_end/000_M101.mp4"],
    "uadfv": ["real/0000.mp4", "fake/0000_fake.mp4"],
    "dfdm": ["Celeb-real/id0_0000.mp4", "DFDM_crf23/DFaker/id0_id1_0000_4dfaker.mp4"],
    "ffiw": ["source/test/0.mp4", "target/test/0.mp4"],
    "fakeavceleb": [
        "RealVideo-RealAudio/African/men/id00076/00109.mp4",
        "FakeVideo-RealAudio/African/men/id00076/00109_id00476_faceswap.mp4",
    ],
}
"""Where clips lie, by source; `celebdfpp` is Celeb-DF++, which `celebdf` reads."""


def lay_out_published(folder: Path, clips: Sequence[Path]) -> dict[str, Path]:
    """Copy clips and write lists, and return the root of each dataset.

    Args:
        folder: Where to put the datasets, one folder each.
        clips: Videos, at least as many as the longest entry of `PUBLISHED`.
    """
    for name, places in PUBLISHED.items():
        for clip, place in zip(clips, places, strict=False):
            (folder / name / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, folder / name / place)
    metadata = {f"{number}.mp4": {"label": "REAL"} for number in range(3)}
    metadata |= {f"{number + 3}.mp4": {"label": "FAKE", "original": f"{number}.mp4"} for number in range(3)}
    (folder / "dfdc/dfdc_train_part_0/metadata.json").write_text(json.dumps(metadata))
    preview = {
        place: {"label": "fake" if "method" in place else "real", "set": "test"} for place in PUBLISHED["dfdc_preview"]
    }
    (folder / "dfdc_preview/dataset.json").write_text(json.dumps(preview))
    for name in ("celebdf", "celebdfpp"):
        (folder / name / "List_of_testing_videos.txt").write_text("1 Celeb-real/id0_0000.mp4\n")
    lists = folder / "deeperforensics/lists/splits"
    lists.mkdir(parents=True)
    for split, text in {"train": "000_M101.mp4\n", "val": "", "test": ""}.items():
        (lists / f"{split}.txt").write_text(text)
    return {name: folder / name for name in PUBLISHED}
