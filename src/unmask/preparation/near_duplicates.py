"""Find crops that look alike but lie in different splits: leaks that no name, identity or checksum betrays.

Crops are compared by perceptual hash: the signs of the low frequencies of their discrete cosine transform (Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). The transform is OpenCV's; ImageHash, the
usual package, would add a dependency for these few lines, and cannot search among many hashes.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from unmask.errors import ConfigError, LeakageError, MediaError, list_problems
from unmask.media.image import decode_crop_file
from unmask.paths import write_bytes
from unmask.types import Image, Label

NEAR_CHOICES = ("warn", "refuse", "skip")

NEAR_DUPLICATES_FILE = "near_duplicates.csv"

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

_CROPS_PER_VIDEO = 3
_SIDE = 64
"""Side in pixels to which crops are reduced before the transform."""
_MIN_CONTRAST = 4.0
"""Standard deviation of grey values below which a crop shows nothing to compare, such as a black frame."""
_NUM_CHUNKS = 4
_LARGE = 2048
"""Number of hashes with a common chunk from which on further chunks are compared before whole hashes."""
_MAX_ALIKE = 64
"""Number of crops with the same hash that are compared, so that thousands of them do not give millions of pairs."""

MAX_DISTANCE = _NUM_CHUNKS - 1
"""Number of differing bits, of 64, up to which crops are candidates."""
MAX_FINE_DISTANCE = 26
"""Number of differing bits, of 256, up to which candidates are near-duplicates.

The 64 bits alone would take some faces of different people for duplicates, since all crops show a centred face.
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of crops of different groups and splits that look alike.

    Args:
        pairs: One row per pair of videos: `video_id`, `split`, `label`, `crop` and `distance` (differing bits of 256),
            with `other_` columns for the second video.
        num_crops: Number of crops compared.
        num_skipped: Number of sampled crops that are unreadable or have no contrast.
    """

    pairs: pd.DataFrame
    num_crops: int
    num_skipped: int


def check_choice(choice: str) -> None:
    """Raise a ConfigError unless a value of `near_duplicates` is known."""
    if choice not in NEAR_CHOICES:
        raise ConfigError(f"near_duplicates='{choice}' is unknown. Choose {' or '.join(NEAR_CHOICES)}.")


def report_near_duplicates(videos: pd.DataFrame, faces: pd.DataFrame, *, choice: str, root: Path) -> None:
    """Warn about crops in different splits that look alike, and list them in `near_duplicates.csv`.

    Args:
        videos: Rows of `videos.parquet`.
        faces: Rows of `faces.parquet`.
        choice: `warn`, `refuse` to raise, or `skip` to compare nothing.
        root: Folder of the face dataset.

    Raises:
        LeakageError: There are near-duplicates, and `choice` is `refuse`.
    """
    path = root / NEAR_DUPLICATES_FILE
    path.unlink(missing_ok=True)
    if choice == "skip":
        logger.info("near_duplicates=skip: crops are not compared across splits.")
        return
    found = find_near_duplicates(videos, faces, root=root)
    logger.info("Compared %s crops across splits; %s were unreadable or without contrast.",
                f"{found.num_crops:,}", f"{found.num_skipped:,}")  # fmt: skip
    if found.pairs.empty:
        return
    write_bytes(path, found.pairs.to_csv(index=False).encode())
    examples = list_problems(
        f"'{row.video_id}' ({row.label}, {row.split}) and '{row.other_video_id}' ({row.other_label}, {row.other_split})"
        for row in found.pairs.itertuples()
    )
    told = f"{len(found.pairs):,} pairs of videos in different splits have crops that look alike"
    if choice == "refuse":
        raise LeakageError(
            f"{told} (near_duplicates=refuse):\n{examples}\n'{path}' lists all. Give the videos of a pair a common "
            f"identity or split, remove one of them, or set near_duplicates=warn."
        )
    logger.warning(
        "%s, so metrics on val and test may be too optimistic (near_duplicates=refuse makes this an error):\n%s\n"
        "'%s' lists all.", told, examples, path,
    )  # fmt: skip


def find_near_duplicates(videos: pd.DataFrame, faces: pd.DataFrame, *, root: Path) -> NearDuplicates:
    """Compare a few crops of each video with those of the other splits.

    Args:
        videos: Rows of `videos.parquet`.
        faces: Rows of `faces.parquet`.
        root: Folder of the face dataset.
    """
    sampled = _sample_crops(faces)
    with ThreadPoolExecutor(16) as pool:  # decoding releases the GIL
        hashes = list(pool.map(lambda crop: _hash_file(root / crop), sampled["crop"]))
    usable = [place for place, one in enumerate(hashes) if one is not None]
    groups = sampled["video_id"].map(dict(zip(videos["video_id"], videos["group"], strict=True)))
    table = sampled.assign(group=groups).iloc[usable].reset_index(drop=True)
    stacked = np.array([one for one in hashes if one is not None], np.uint64).reshape(-1, 5)
    first, second = find_pairs(
        stacked[:, 0], stacked[:, 1:], groups=table["group"].to_numpy(np.int64), parts=pd.factorize(table["split"])[0]
    )
    distances = _count_bits(stacked[first, 1:] ^ stacked[second, 1:])
    pairs = pd.DataFrame(
        {
            f"{prefix}{name}": table[name].to_numpy()[rows]
            for prefix, rows in (("", first), ("other_", second))
            for name in ("video_id", "split", "label", "crop")
        }
    ).assign(distance=distances)
    for column in ("label", "other_label"):
        pairs[column] = [Label(int(value)).name.lower() for value in pairs[column]]
    pairs = pairs.sort_values(["distance", "video_id", "other_video_id"], kind="stable")
    pairs = pairs.drop_duplicates(["video_id", "other_video_id"]).reset_index(drop=True)
    return NearDuplicates(pairs, len(table), len(sampled) - len(table))


def _sample_crops(faces: pd.DataFrame) -> pd.DataFrame:
    """Return up to `_CROPS_PER_VIDEO` crops of each video, evenly spaced from the first to the last."""
    faces = faces.sort_values(["video_id", "frame_index"], kind="stable")
    grouped = faces.groupby("video_id", sort=False)
    places, sizes = grouped.cumcount().to_numpy(), grouped["crop"].transform("size").to_numpy()
    last = _CROPS_PER_VIDEO - 1
    steps = np.arange(_CROPS_PER_VIDEO)[:, None] * (sizes - 1) // last
    sampled: pd.DataFrame = faces[(steps == places).any(axis=0)].reset_index(drop=True)
    return sampled


def _hash_file(path: Path) -> npt.NDArray[np.uint64] | None:
    """Return the hash of a crop, or None if it is unreadable, which the audit of crops reports, or has no contrast."""
    try:
        return hash_crop(decode_crop_file(path))
    except (MediaError, OSError):
        return None


def hash_crop(image: Image) -> npt.NDArray[np.uint64] | None:
    """Return a 64-bit hash followed by a 256-bit hash in four words, shape `(5,)`; None without contrast."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    if grey.std() < _MIN_CONTRAST:
        return None
    waves = cv2.dct(grey.astype(np.float32))
    return np.concatenate([_pack(waves[:8, :8]), _pack(waves[:16, :16])])


def _pack(waves: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Set a bit for each frequency above the median; the constant part, brightness, does not take part in it."""
    flat = waves.ravel()
    return np.packbits(flat > np.median(flat[1:])).view(np.uint64)


def find_pairs(
    hashes: Hashes, fine: Hashes, *, groups: Sequence[int] | Rows, parts: Sequence[int] | Rows
) -> tuple[Rows, Rows]:
    """Find pairs of near-duplicates in different groups and different parts.

    Two hashes that differ in at most three bits have one of four chunks in common, so only crops that share a chunk are
    compared: millions of comparisons for 100,000 crops instead of billions.

    Args:
        hashes: 64-bit hashes, shape `(N,)`.
        fine: 256-bit hashes, shape `(N, 4)`.
        groups: Group of each crop.
        parts: Split of each crop, as a number.

    Returns:
        Positions of the first and of the second crop of each pair, each pair once.
    """
    owners, sides = np.asarray(groups), np.asarray(parts)
    distinct, numbers, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    ranks = pd.Series(0, index=range(len(hashes))).groupby([numbers, sides]).cumcount().to_numpy()
    members = np.lexsort((ranks, numbers))  # of one hash after another, taking turns between the parts
    starts, sizes = np.cumsum(counts) - counts, np.minimum(counts, _MAX_ALIKE)
    bits = np.unpackbits(distinct.view(np.uint8).reshape(-1, 8), axis=1)
    order = np.random.default_rng(0).permutation(64)  # neighbouring frequencies are alike, so spread them over chunks
    itself = np.flatnonzero(counts > 1)
    found = [np.empty((0, 2), np.int64)]
    for one, other in itertools.chain([(itself, itself)], _list_candidates(bits, np.arange(len(distinct)), order)):
        keep = _count_bits((distinct[one] ^ distinct[other])[:, None]) <= MAX_DISTANCE
        left, right = one[keep], other[keep]
        totals = sizes[left] * sizes[right]
        steps = np.arange(totals.sum()) - np.repeat(np.cumsum(totals) - totals, totals)
        width = np.repeat(sizes[right], totals)
        first = members[np.repeat(starts[left], totals) + steps // width]
        second = members[np.repeat(starts[right], totals) + steps % width]
        keep = (sides[first] != sides[second]) & (owners[first] != owners[second])
        first, second = first[keep], second[keep]
        keep = _count_bits(fine[first] ^ fine[second]) <= MAX_FINE_DISTANCE
        found.append(np.stack([first[keep], second[keep]], axis=1))
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _list_candidates(bits: npt.NDArray[np.uint8], rows: Rows, order: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield pairs of rows with a common chunk; large sets with one are divided by the chunks of the other bits."""
    for chunk in np.array_split(order, _NUM_CHUNKS):
        others = order[~np.isin(order, chunk)]
        keys = bits[np.ix_(rows, chunk)] @ (1 << np.arange(len(chunk), dtype=np.int64))
        sequence = np.argsort(keys, kind="stable")
        rows_sorted, keys_sorted = rows[sequence], keys[sequence]
        starts = np.flatnonzero(np.r_[True, keys_sorted[1:] != keys_sorted[:-1]])
        sizes = np.diff(np.r_[starts, len(rows)])
        is_large = (sizes > _LARGE) & (len(others) >= 2 * _NUM_CHUNKS)
        for start, size in zip(starts[is_large], sizes[is_large], strict=True):
            yield from _list_candidates(bits, rows_sorted[start : start + size], others)
        ends = np.repeat(np.where(is_large, starts, starts + sizes), sizes)  # end of the set of each row
        alive = np.arange(len(rows))
        for shift in range(1, int(sizes[~is_large].max(initial=0))):
            alive = alive[alive + shift < ends[alive]]
            if not len(alive):
                break
            yield rows_sorted[alive], rows_sorted[alive + shift]


def _count_bits(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return counts
