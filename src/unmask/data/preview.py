"""Contact sheets of training crops, as stored and as augmented."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from unmask.data.datamodule import FaceDataModule
from unmask.data.sampler import Draw
from unmask.faces.crop import prepare_input
from unmask.paths import write_bytes
from unmask.types import Image, Label

_GAP, _CAPTION = 4, 28


def write_previews(data: FaceDataModule, folder: Path, *, rows: int = 6, columns: int = 8) -> dict[str, Path]:
    """Write `preview_real.png` and `preview_fake.png`, with one row per crop: first as stored, then augmented.

    Args:
        data: Data module whose `setup` has run.
        folder: Output folder; created if missing.
        rows: Number of crops.
        columns: Number of images per row, including the stored one.

    Returns:
        Path of each sheet by class name.
    """
    samples = data.build_plan().draw_epoch(data.seed, 0)
    labels = data.table("train")["label"].to_numpy()
    paths = {}
    for label in Label:
        chosen: dict[int, Draw] = {}
        for draw in samples:
            if (Label.FAKE if draw.is_forged else labels[draw.row]) == label and len(chosen) < rows:
                chosen.setdefault(draw.row, draw)
        lines = [np.concatenate(list(_show(data, draw, columns)), axis=1) for draw in chosen.values()]
        name = label.name.lower()
        caption = f"{name}: as stored, then {columns - 1} augmentations"
        sheet = np.concatenate([_write_caption(caption, lines[0].shape[1]), *lines])
        paths[name] = folder / f"preview_{name}.png"
        done, encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        assert done
        write_bytes(paths[name], encoded.tobytes())
    return paths


def _show(data: FaceDataModule, draw: Draw, columns: int) -> Iterator[Image]:
    """Yield a crop as stored, then augmented with different seeds, each with a white border."""
    crops = data.crops("train")
    yield _frame(prepare_input(crops.stored(draw.row), crops.input_spec))
    for column in range(columns - 1):
        image = crops[draw._replace(seed=draw.seed ^ column)]["image"]
        yield _frame(image.permute(1, 2, 0).numpy())


def _frame(image: Image) -> Image:
    return np.pad(image, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255)


def _write_caption(text: str, width: int) -> Image:
    strip = np.full((_CAPTION, width, 3), 255, np.uint8)
    cv2.putText(strip, text, (6, _CAPTION - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
