"""Miniatures of datasets that come as crops or photographs, for the commands of the documents."""

import json
from pathlib import Path

from unmask.media.image import write_jpeg
from unmask.types import Image


def lay_out_prepared(folder: Path, images: list[Image]) -> dict[str, Path]:
    """Write crops with a list of DeepfakeBench, 140k Real and Fake Faces, and portraits; return the folders.

    Args:
        folder: Empty folder.
        images: Photographs of different people.
    """
    content: dict[str, dict[str, dict[str, object]]] = {"roop_Real": {}, "roop_Fake": {}}
    for number, image in enumerate(images):
        split = ("train", "val", "test")[number % 3]
        for word in ("real", "fake"):
            kaggle = "valid" if split == "val" else split
            write_jpeg(folder / "140k/real_vs_fake/real-vs-fake" / kaggle / word / f"{number}.jpg", image, quality=95)
            frame, label = f"roop/{word}/frames/v{number}/000.jpg", f"roop_{word.capitalize()}"
            write_jpeg(folder / "rgb" / frame, image, quality=95)
            video = {"label": label, "frames": [f"/author/datasets/rgb/{frame}"]}
            content[label].setdefault(split, {})[f"v{number}"] = video  # type: ignore[index]
        write_jpeg(folder / "lfw" / f"Person_{number}" / f"Person_{number}_0001.jpg", image, quality=95)
    (folder / "dataset_json").mkdir()
    (folder / "dataset_json" / "roop.json").write_text(json.dumps({"roop": content}))
    return {name: folder / name for name in ("rgb", "dataset_json", "140k", "lfw")}
