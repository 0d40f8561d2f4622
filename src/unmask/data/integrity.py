"""Find crops that are missing or damaged."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from unmask.data.tables import FaceDataset
from unmask.errors import DatasetError, MediaError, list_problems
from unmask.media.picture import decode_crop_file
from unmask.paths import show_command

MAX_BAD_SHARE = 0.01

logger = logging.getLogger(__name__)


def find_usable_crops(dataset: FaceDataset, *, split: str, max_bad_share: float = MAX_BAD_SHARE) -> pd.DataFrame:
    """Return the crops of a split that exist and are complete; a warning counts and names the others.

    Args:
        dataset: A face dataset.
        split: `train`, `val` or `test`.
        max_bad_share: Share of bad crops above which the dataset is rejected.

    Raises:
        DatasetError: The split is empty, or more than that share is bad.
    """
    table = dataset.faces_of(split)
    paths = [dataset.root / crop for crop in table["crop"]]
    with ThreadPoolExecutor(16) as pool:  # most of the time is spent waiting for disks
        problems = list(pool.map(_check_ends, paths))
    bad = [problem for problem in problems if problem]
    if not bad:
        return table
    summary = f"{len(bad)} of {len(table)} crops of split '{split}' in '{dataset.root}' are missing or damaged"
    advice = f"Make them again with: {show_command('prepare.py', 'task=repair', f'output={dataset.root}')}"
    if len(bad) > max_bad_share * len(table):
        raise DatasetError(f"{summary}, more than {max_bad_share:.0%}:\n{list_problems(bad)}\n{advice}")
    logger.warning("%s and are left out:\n%s\n%s", summary, list_problems(bad), advice)
    return table[[not problem for problem in problems]].reset_index(drop=True)


def find_damaged(crops: Iterable[str], *, root: Path, size: int | None) -> dict[str, str]:
    """Return the crops that are missing, cannot be decoded or have the wrong size, and the problem of each.

    Args:
        crops: Paths relative to the dataset.
        root: Folder of the dataset.
        size: Expected side in pixels; None to accept any.
    """
    crops = list(crops)
    with ThreadPoolExecutor(16) as pool:  # decoding releases the GIL, and disks take time
        found = list(pool.map(lambda crop: _describe_damage(root / crop, size=size), crops))
    return {crop: problem for crop, problem in zip(crops, found, strict=True) if problem}


def _check_ends(path: Path) -> str:
    """Return what is wrong with a crop, or "". Only both ends of a JPEG are read."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
            if not start:
                return f"{path}: 0 bytes"
            file.seek(-2, 2)
            if start == b"\xff\xd8" and file.read(2) == b"\xff\xd9":
                return ""
        decode_crop_file(path)
    except FileNotFoundError:
        return f"{path}: missing"
    except (OSError, MediaError) as error:
        return f"{path}: damaged ({error})"
    return ""


def _describe_damage(path: Path, *, size: int | None) -> str:
    """Return what is wrong with a crop after decoding it, or ""."""
    if not path.is_file():
        return "missing"
    try:
        height, width = decode_crop_file(path).shape[:2]
    except MediaError as error:
        return f"damaged ({error})"
    return f"{width} x {height} pixels" if size is not None and (height, width) != (size, size) else ""
