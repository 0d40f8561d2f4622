"""Find crops that are missing or cut off before any work starts."""

import logging
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
    """Return the crops of a split that are there and whole; the others are named and counted in a warning.

    Args:
        dataset: A face dataset.
        split: `train`, `val` or `test`.
        max_bad_share: Share of bad crops from which on the data are not to be trusted.

    Raises:
        DatasetError: The split is empty, or more than that share is bad.
    """
    table = dataset.faces_of(split)
    paths = [dataset.root / crop for crop in table["crop"]]
    with ThreadPoolExecutor(16) as pool:  # the time goes into waiting for disks
        problems = list(pool.map(_check_crop, paths))
    bad = [problem for problem in problems if problem]
    if not bad:
        return table
    told = f"{len(bad)} of {len(table)} crops of split '{split}' in '{dataset.root}' are missing or damaged"
    advice = f"Make them again with: {show_command('prepare.py', 'task=repair', f'output={dataset.root}')}"
    if len(bad) > max_bad_share * len(table):
        raise DatasetError(f"{told}, more than {max_bad_share:.0%}:\n{list_problems(bad)}\n{advice}")
    logger.warning("%s and are left out:\n%s\n%s", told, list_problems(bad), advice)
    return table[[not problem for problem in problems]].reset_index(drop=True)


def _check_crop(path: Path) -> str:
    """Return what is wrong with a crop, or "". Of a JPEG only both ends are read."""
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
