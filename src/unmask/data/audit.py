"""Find missing or damaged crops, and identical source files under different names."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from unmask.data.tables import COPIES_FILE, FaceDataset
from unmask.errors import DatasetError, LeakageError, MediaError, list_problems
from unmask.media.image import decode_crop_file
from unmask.paths import show_command
from unmask.types import Label, Video

logger = logging.getLogger(__name__)

MAX_BAD_SHARE = 0.01


def find_usable_crops(dataset: FaceDataset, *, split: str, max_bad_share: float = MAX_BAD_SHARE) -> pd.DataFrame:
    """Return the rows of a split's intact crops, and log a warning that lists missing and damaged ones.

    Args:
        dataset: Face dataset.
        split: `train`, `val` or `test`.
        max_bad_share: Maximum share of missing or damaged crops.

    Raises:
        DatasetError: The split is empty, or more than `max_bad_share` of its crops are missing or damaged.
    """
    table = dataset.faces_of(split)
    paths = [dataset.root / crop for crop in table["crop"]]
    with ThreadPoolExecutor(16) as pool:  # bound by disk latency, not CPU
        problems = list(pool.map(_check_ends, paths))
    bad = [problem for problem in problems if problem]
    if not bad:
        return table
    summary = f"{len(bad)} of {len(table)} crops of split '{split}' in '{dataset.root}' are missing or damaged"
    advice = f"Recreate them with: {show_command('prepare.py', 'task=repair', f'output={dataset.root}')}"
    if len(bad) > max_bad_share * len(table):
        raise DatasetError(f"{summary}, more than {max_bad_share:.0%}:\n{list_problems(bad)}\n{advice}")
    logger.warning("%s and are skipped:\n%s\n%s", summary, list_problems(bad), advice)
    return table[[not problem for problem in problems]].reset_index(drop=True)


def find_damaged(crops: Iterable[str], *, root: Path, size: int | None) -> dict[str, str]:
    """Map each crop that is missing, cannot be decoded or has the wrong size to its problem.

    Args:
        crops: Crop paths relative to the dataset.
        root: Folder of the face dataset.
        size: Expected side in pixels; None to accept any size.
    """
    crops = list(crops)
    with ThreadPoolExecutor(16) as pool:  # decoding releases the GIL
        found = list(pool.map(lambda crop: _describe_damage(root / crop, size=size), crops))
    return {crop: problem for crop, problem in zip(crops, found, strict=True) if problem}


def _check_ends(path: Path) -> str:
    """Describe the problem of a crop, or return ""; reads only both ends of a JPEG, PNG or WebP."""
    try:
        with path.open("rb") as file:
            start, size = file.read(12), file.seek(0, 2)
            file.seek(max(size - 8, 0))
            if size and _is_whole(start, file.read(8), size):
                return ""
        if not size:
            return f"{path}: 0 bytes"
        decode_crop_file(path)
    except FileNotFoundError:
        return f"{path}: missing"
    except (OSError, MediaError) as error:
        return f"{path}: damaged ({error})"
    return ""


def _is_whole(start: bytes, end: bytes, size: int) -> bool:
    """Return whether a file begins and ends as JPEG, PNG or WebP files do."""
    if start.startswith(b"\xff\xd8"):
        return end.endswith(b"\xff\xd9")
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return end == b"IEND\xaeB`\x82"
    return start[:4] + start[8:] == b"RIFFWEBP" and int.from_bytes(start[4:8], "little") == size - 8


def _describe_damage(path: Path, *, size: int | None) -> str:
    """Decode a crop and describe its problem, or return ""."""
    if not path.is_file():
        return "missing"
    try:
        height, width = decode_crop_file(path).shape[:2]
    except MediaError as error:
        return f"damaged ({error})"
    return f"{width} x {height} pixels" if size is not None and (height, width) != (size, size) else ""


CHOICES = ("warn", "refuse")

_END_BYTES = 4096
"""Bytes compared at either end of files of equal size, before whole files are hashed."""


def find_copies(videos: Sequence[Video]) -> list[list[int]]:
    """Return sets of two or more positions in `videos` whose files are byte-identical.

    Compares files by size, then by their first and last bytes, then by full hash; folders of frames frame by frame.
    """
    files = [_list_files(video) for video in videos]
    candidates = [[index for index, found in enumerate(files) if found]]
    for measure in (_measure_sizes, _hash_ends, _hash_all):
        candidates = [copies for same in candidates for copies in _divide(same, files, measure)]
    return candidates


def report_copies(
    videos: Sequence[Video], splits: Sequence[str], copies: Iterable[Sequence[int]], *, choice: str, root: Path | None
) -> None:
    """Warn about copies in different splits or with different labels, and list all copies in `copies.csv`.

    Args:
        videos: Videos of one source.
        splits: Split of each video.
        copies: Result of `find_copies`.
        choice: `warn`, or `refuse` to raise if copies are in different splits.
        root: Folder of the face dataset; None to write no list.

    Raises:
        LeakageError: Copies are in different splits, and `choice` is `refuse`.
    """
    copies = list(copies)
    if root is not None:
        (root / COPIES_FILE).unlink(missing_ok=True)
    if not copies:
        return
    crossing = [same for same in copies if len({splits[index] for index in same}) > 1]
    contradicting = [same for same in copies if len({videos[index].label for index in same}) > 1]

    def show(same: Sequence[int]) -> str:
        """Name one copy per label and split."""
        different = {(videos[index].label, splits[index]): index for index in reversed(same)}
        names = [f"'{videos[i].path}' ({label.name.lower()}, {split})" for (label, split), i in different.items()]
        return ", ".join(sorted(names)) + (f" and {len(same) - len(names)} more" if len(same) > len(names) else "")

    if crossing and choice == "refuse":
        raise LeakageError(
            f"{len(crossing)} files have copies under other names in another split (duplicates=refuse):\n"
            f"{list_problems(map(show, crossing))}\nRemove the copies, or set duplicates=warn."
        )
    listed = f"{COPIES_FILE} of the merged dataset lists all copies."
    if root is not None:
        _write(root / COPIES_FILE, videos, splits, copies)
        listed = f"'{root / COPIES_FILE}' lists all copies."
    if crossing:
        logger.warning(
            "%d files have copies under other names in another split, so metrics on val and test are too optimistic "
            "(duplicates=refuse makes this an error):\n%s\n%s",
            len(crossing), list_problems(map(show, crossing)), listed,
        )  # fmt: skip
    if contradicting:
        logger.warning(
            "%d files are labelled real under one name and fake under another:\n%s\n%s",
            len(contradicting), list_problems(map(show, contradicting)), listed,
        )  # fmt: skip
    if not crossing and not contradicting:
        logger.info("%d files have copies, all in the same split. %s", len(copies), listed)


def _write(path: Path, videos: Sequence[Video], splits: Sequence[str], copies: Sequence[Sequence[int]]) -> None:
    rows = [
        {"file": number, "video_id": videos[index].video_id, "path": str(videos[index].path),
         "label": Label(videos[index].label).name.lower(), "split": splits[index]}
        for number, same in enumerate(copies) for index in same
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def _list_files(video: Video) -> list[Path]:
    if video.frames:
        return list(video.frames)
    if video.path.is_dir():
        return sorted(path for path in video.path.iterdir() if path.is_file())
    return [video.path] if video.path.is_file() else []


def _divide(
    same: Sequence[int], files: Sequence[Sequence[Path]], measure: Callable[[Sequence[Path]], Hashable]
) -> list[list[int]]:
    """Divide a set into subsets with equal measures; drop subsets of one."""
    if len(same) < 2:
        return []
    members = [files[index] for index in same]
    values: list[Hashable]
    if measure is _measure_sizes:
        values = [measure(paths) for paths in members]
    else:
        with ThreadPoolExecutor(16) as pool:  # bound by disk latency, not CPU
            values = list(pool.map(measure, members))
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, value in zip(same, values, strict=True):
        if value is not None:
            found[value].append(index)
    return [indices for indices in found.values() if len(indices) > 1]


def _measure_sizes(paths: Sequence[Path]) -> tuple[int, ...] | None:
    """Return the file sizes, or None if a file is empty or unreadable (reported when it is prepared)."""
    try:
        sizes = tuple(path.stat().st_size for path in paths)
    except OSError:
        return None
    return sizes if all(sizes) else None


def _hash_ends(paths: Sequence[Path]) -> bytes | None:
    digest = hashlib.sha256()
    try:
        for path in paths:
            with path.open("rb") as file:
                digest.update(file.read(_END_BYTES))
                file.seek(max(0, path.stat().st_size - _END_BYTES))
                digest.update(file.read(_END_BYTES))
    except OSError:
        return None
    return digest.digest()


def _hash_all(paths: Sequence[Path]) -> bytes | None:
    digest = hashlib.sha256()
    try:
        for path in paths:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:
        return None
    return digest.digest()
