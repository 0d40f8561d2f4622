"""Make crops again that are missing or damaged, and leave those that are whole as they are."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from unmask.data.prepare_video import VideoRecord
from unmask.errors import MediaError
from unmask.media.picture import decode_crop_file
from unmask.writing import writing

_PREFIX = ".remade-"


def describe_damage(path: Path, *, size: int | None) -> str:
    """Return what is wrong with a crop, or "".

    Args:
        path: The file.
        size: Of its sides in pixels; None where any will do.
    """
    if not path.is_file():
        return "missing"
    try:
        height, width = decode_crop_file(path).shape[:2]
    except MediaError as error:
        return f"damaged ({error})"
    return f"{width} x {height} pixels" if size is not None and (height, width) != (size, size) else ""


def find_damaged(crops: Iterable[str], *, root: Path, size: int | None) -> dict[str, str]:
    """Return which crops are missing, cannot be decoded or have another size, and what is wrong with each.

    Args:
        crops: Paths, relative to the dataset.
        root: Of the dataset.
        size: As for `describe_damage`.
    """
    crops = list(crops)
    with ThreadPoolExecutor(16) as pool:  # decoding leaves the interpreter to others, and disks take time
        found = list(pool.map(lambda crop: describe_damage(root / crop, size=size), crops))
    return {crop: problem for crop, problem in zip(crops, found, strict=True) if problem}


def remake_crops(
    record: VideoRecord, damaged: Collection[str], *, root: Path, make: Callable[[Path], VideoRecord]
) -> VideoRecord:
    """Prepare a video beside the dataset, and take over the crops that are missing or damaged.

    Args:
        record: Of the video.
        damaged: Crops of the record.
        root: Of the dataset.
        make: Prepares the video in a folder.

    Returns:
        The record, with new rows for the crops that were made again. Crops that were not, since the file has changed or
        cannot be read any more, are left as they are.
    """
    with writing(root):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    try:
        made = make(folder)
        rows = {row.crop: row for row in made.crops if row.crop in damaged and (folder / row.crop).is_file()}
        for crop in rows:
            with writing(root / crop):
                (root / crop).parent.mkdir(parents=True, exist_ok=True)
                (folder / crop).replace(root / crop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return replace(record, crops=tuple(rows.get(row.crop, row) for row in record.crops))


def remove_remains(root: Path) -> None:
    """Remove what a run that was killed has made beside the dataset."""
    for folder in root.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)
