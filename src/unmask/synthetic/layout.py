"""The layout of FaceForensics++, for sources that we make: where files go, who is paired with whom, in which split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import ConfigError, SourceError
from unmask.paths import remove_parts, write_bytes
from unmask.types import MediaKind

COMPRESSION = "c23"
"""The name FaceForensics++ gives to H.264 at a constant rate factor of 23."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """Where the files of a source go.

    Args:
        root: Folder of the source.
        kind: Whether it holds images or videos.
    """

    root: Path
    kind: MediaKind = MediaKind.VIDEO

    @property
    def _folder(self) -> str:
        return "videos" if self.kind is MediaKind.VIDEO else "images"

    @property
    def _suffix(self) -> str:
        return ".mp4" if self.kind is MediaKind.VIDEO else ".jpg"

    def original(self, name: str) -> Path:
        """Return the path of an original."""
        return self.root / "original_sequences" / "youtube" / COMPRESSION / self._folder / f"{name}{self._suffix}"

    def forgery(self, method: str, target: str, donor: str) -> Path:
        """Return the path of the forgery that puts the donor's face into the target."""
        folder = self.root / "manipulated_sequences" / method / COMPRESSION / self._folder
        return folder / f"{target}_{donor}{self._suffix}"

    def mask(self, method: str, target: str, donor: str) -> Path:
        """Return the path of a forgery's mask."""
        suffix = ".mp4" if self.kind is MediaKind.VIDEO else ".png"
        return self.root / "manipulated_sequences" / method / "masks" / self._folder / f"{target}_{donor}{suffix}"

    @property
    def splits(self) -> Path:
        """The folder of `train.json`, `val.json` and `test.json`."""
        return self.root / "splits"


def pair_up(names: Sequence[str], *, seed: int) -> list[Pair]:
    """Pair names at random; with an odd number the last one drawn stays alone.

    Args:
        names: In an order that does not change.
        seed: Decides.
    """
    order = [names[index] for index in np.random.default_rng([seed, len(names)]).permutation(len(names))]
    return list(zip(order[::2], order[1::2], strict=False))


def split_pairs(pairs: Sequence[Pair], *, val_fraction: float, test_fraction: float) -> dict[str, list[Pair]]:
    """Give whole pairs to train, val and test, so that no identity stands in two of them.

    From three pairs on every split has at least one; of two, the second is for test.

    Args:
        pairs: In random order.
        val_fraction: Share of the pairs for validation.
        test_fraction: Share of the pairs for test.
    """
    spare = max(0, len(pairs) - 1)
    num_test = min(max(1, round(len(pairs) * test_fraction)), spare)
    num_val = min(max(1, round(len(pairs) * val_fraction)), spare - num_test)
    return {
        "train": list(pairs[num_val + num_test :]),
        "val": list(pairs[:num_val]),
        "test": list(pairs[num_val : num_val + num_test]),
    }


def check_fractions(*, val_fraction: float, test_fraction: float) -> None:
    """Raise a ConfigError unless both fractions are positive and leave something to train on."""
    if min(val_fraction, test_fraction) <= 0 or val_fraction + test_fraction >= 1:
        raise ConfigError(
            f"source.val_fraction={val_fraction} and source.test_fraction={test_fraction} must be above 0 and together "
            f"below 1, so that pairs are left to train on."
        )


def write_splits(layout: Layout, splits: Mapping[str, Sequence[Pair]]) -> None:
    """Write the pair lists in the form of the official ones: `[["071", "054"], ...]`."""
    for split, pairs in splits.items():
        write_json(layout.splits / f"{split}.json", [list(pair) for pair in pairs])


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is either whole or absent, whatever interrupts."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def claim_root(root: Path, *, record: str, parameters: Mapping[str, Any], key: str) -> None:
    """Note in a folder what is made there, or check that the same was made before.

    Args:
        root: Folder of the source; created.
        record: Name of the JSON file that holds the parameters.
        parameters: Plain values that decide the pixels.
        key: Configuration key of the folder, for the message.

    Raises:
        SourceError: The folder holds a source made with other parameters, or something else.
    """
    path = root / record
    if path.is_file():
        _check_parameters(path, parameters, key=key)
        remove_parts(root)
        return
    if root.is_dir() and any(root.iterdir()):
        raise SourceError(
            f"'{root}' holds files but no '{record}', so it was not made by this source, and nothing is written there. "
            f"Name another folder with {key}=..."
        )
    write_json(path, parameters)


def _check_parameters(path: Path, parameters: Mapping[str, Any], *, key: str) -> None:
    try:
        before = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise SourceError(
            f"'{path}' is damaged: {error}. Delete the folder '{path.parent}' to make it anew."
        ) from error
    wanted = json.loads(json.dumps(dict(parameters)))
    names = sorted(name for name in {*before, *wanted} if before.get(name) != wanted.get(name))
    if names:
        differences = ", ".join(f"{name} was {before.get(name)!r}, now {wanted.get(name)!r}" for name in names)
        raise SourceError(
            f"'{path.parent}' holds a source made with other parameters: {differences}. "
            f"Name another folder with {key}=..., or delete that one to make it anew."
        )
