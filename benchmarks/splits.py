"""How long it takes to group and split a million videos, and to search 100,000 crops for near-duplicates.

    python benchmarks/splits.py

The first source has the shape of FaceForensics++ (pairs of people, four methods in both directions), the second is a
million images without identities. The hashes are seeded: random ones, and uneven ones as faces have.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.groups import find_groups, split_by_fold
from unmask.data.splits import assign_splits
from unmask.preparation.near_duplicates import find_pairs
from unmask.types import Label, Video

NUM_VIDEOS, NUM_HASHES, BAR_SECONDS = 1_000_000, 100_000, 20
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def main() -> None:
    """Print the seconds of each step."""
    for name, videos in (("pairs of people", list_pairs()), ("single images", list_images())):
        groups, grouping = measure(lambda videos=videos: find_groups(videos))
        _, splitting = measure(
            lambda videos=videos, groups=groups: assign_splits(videos, fractions=FRACTIONS, seed=0, groups=groups)
        )
        strata = [video.method for video in videos]
        _, folding = measure(
            lambda groups=groups, strata=strata: split_by_fold(groups, strata, folds=5, fold=0, seed=0, key="split")
        )
        print(f"{name}: {len(videos):,} videos in {max(groups) + 1:,} groups")
        print(f"  groups {grouping:.1f} s, splits {splitting:.1f} s, folds {folding:.1f} s")
        print(f"  groups and splits {grouping + splitting:.1f} s (bar: {BAR_SECONDS})")
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 2**64, (NUM_HASHES, 4), np.uint64)
    for name, share in (("even", 0.5), ("uneven", 0.2)):
        bits = (rng.random((NUM_HASHES, 64)) < share).astype(np.uint8)
        hashes = np.packbits(bits, axis=1).view(np.uint64).ravel()
        rows = np.arange(NUM_HASHES)
        _, seconds = measure(lambda hashes=hashes, rows=rows: find_pairs(hashes, fine, groups=rows, parts=rows % 3))
        print(f"near-duplicates among {NUM_HASHES:,} {name} hashes: {seconds:.1f} s")


def list_pairs() -> list[Video]:
    """Return real videos of everyone, and fakes of each pair in both directions."""
    videos = []
    for number in range(NUM_VIDEOS // (1 + len(METHODS))):
        own, other = f"{number:06d}", f"{number ^ 1:06d}"
        real = f"ffpp/original/c23/{own}"
        videos.append(Video(real, Path(own), Label.REAL, "original", identities=(own,)))
        videos += [
            Video(f"ffpp/{name}/c23/{own}_{other}", Path(own), Label.FAKE, name, identities=(own, other), original=real)
            for name in METHODS
        ]  # fmt: skip
    return videos


def list_images() -> list[Video]:
    """Return images that share nothing."""
    kinds = ((Label.REAL, "original"), (Label.FAKE, "gan"))
    return [Video(f"images/{number:07d}", Path("x"), *kinds[number % 2]) for number in range(NUM_VIDEOS)]


def measure(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a function, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
