"""Group related videos, assign splits that keep groups whole, and audit splits for leakage."""

import logging
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unmask.data.tables import SPLITS, FaceDataset
from unmask.errors import ConfigError, LeakageError, list_problems
from unmask.types import Video

logger = logging.getLogger(__name__)


def find_groups(videos: Sequence[Video], *, copies: Sequence[Sequence[int]] = ()) -> list[int]:
    """Assign a group to each video: connected components of the graph of videos, identities and originals.

    A fake `AAA_BBB` connects the videos of AAA and of BBB; in FaceForensics++ this reproduces the official pairs.

    Args:
        videos: Videos of one source.
        copies: Sets of positions in `videos` with identical files, which also belong to one group.

    Returns:
        Group number of each video, counted from 0.
    """
    nodes: dict[tuple[str, str], int] = {}
    rows, columns = [], []
    for index, video in enumerate(videos):
        keys = [("video", video.video_id), *(("identity", identity) for identity in video.identities)]
        if video.original is not None:
            keys.append(("video", video.original))
        for key in keys:
            rows.append(index)
            columns.append(len(videos) + nodes.setdefault(key, len(nodes)))
    for same in copies:
        rows += same
        columns += [same[0]] * len(same)
    size = len(videos) + len(nodes)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][: len(videos)]
    _, groups = np.unique(labels, return_inverse=True)
    return [int(group) for group in groups]


def assign_splits(
    videos: Sequence[Video], *, fractions: Mapping[str, float], seed: int, groups: Sequence[int] | None = None
) -> list[str]:
    """Return the split of each video: the source's own, or a seeded split by group, stratified by method.

    If a source has a train split but no val split, val is taken from train.

    Args:
        videos: Videos of one source.
        fractions: Shares of `train`, `val` and `test`, each at least 0, adding up to 1.
        seed: Seed of the shuffle.
        groups: Result of `find_groups`; None to compute it.

    Raises:
        ConfigError: The fractions are invalid.
        LeakageError: A group spans several of the source's own splits.
    """
    _check_fractions(fractions)
    groups = find_groups(videos) if groups is None else groups
    given = [video.split for video in videos]
    check_groups([video.video_id for video in videos], groups, given)
    strata = [video.method for video in videos]
    if not any(given):
        return _divide(range(len(videos)), groups, strata, fractions, seed)
    homes = {group: split for group, split in zip(groups, given, strict=True) if split}
    splits = [split or homes.get(group, "train") for group, split in zip(groups, given, strict=True)]
    if "val" not in splits and "train" in splits and fractions["val"] > 0:
        train = [index for index, split in enumerate(splits) if split == "train"]
        share = fractions["val"] / (fractions["val"] + fractions["train"])
        parts = _divide(train, groups, strata, {"train": 1 - share, "val": share, "test": 0.0}, seed)
        logger.info(
            "The source has no val split; moved %d of its %d train files to val.", parts.count("val"), len(train)
        )
        for index, part in zip(train, parts, strict=True):
            splits[index] = part
    return splits


def check_groups(video_ids: Sequence[str], groups: Sequence[int], splits: Sequence[str | None]) -> None:
    """Raise a LeakageError if a group spans several splits; ignore videos without a split."""
    cut = describe_cut(video_ids, groups, splits)
    if cut:
        raise LeakageError(
            f"{len(cut)} groups of videos that share a person or an original are in more than one split:\n"
            f"{list_problems(cut)}\n"
            f"Move each group into one split, or let prepare.py split by identity (source.splits=null)."
        )


def describe_cut(names: Sequence[str], groups: Sequence[Hashable], splits: Sequence[str | None]) -> list[str]:
    """Name one member in each split of every group that is in several, such as `'a' in test, 'b' in train`."""
    found: dict[Hashable, dict[str, str]] = defaultdict(dict)
    for name, group, split in zip(names, groups, splits, strict=True):
        if split:
            found[group].setdefault(split, name)
    return [
        ", ".join(f"'{name}' in {split}" for split, name in sorted(members.items()))
        for members in found.values() if len(members) > 1
    ]  # fmt: skip


def audit_splits(dataset: FaceDataset) -> None:
    """Check that no group, identity, video or crop of a face dataset is in more than one split.

    Raises:
        LeakageError: One of them is in more than one split; lists them.
    """
    videos = dataset.videos
    check_groups(videos["video_id"].tolist(), videos["group"].tolist(), videos["split"].tolist())
    _check_column(videos.explode("identities").dropna(subset=["identities"]), "identities", dataset)
    columns = ["video_id", "split"]
    _check_column(pd.concat([videos[columns], dataset.faces[columns]]), "video_id", dataset)
    _check_column(dataset.faces, "crop", dataset)


def _check_column(table: pd.DataFrame, column: str, dataset: FaceDataset) -> None:
    splits = table.groupby(column)["split"].unique()
    crossing = splits[splits.map(len) > 1]
    if len(crossing):
        rows = (f"{value}: {', '.join(sorted(names))}" for value, names in crossing.items())
        raise LeakageError(
            f"{len(crossing)} values of '{column}' in '{dataset.root}' are in more than one split:\n"
            f"{list_problems(rows)}\nRun prepare.py again, or keep them together if you edited the table by hand."
        )


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if set(fractions) != set(SPLITS) or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ConfigError(
            f"Invalid split.train, split.val and split.test: {dict(fractions)}. Each must be at least 0 and they must "
            f"add up to 1, such as split.train=0.7 split.val=0.15 split.test=0.15."
        )


def _divide(
    indices: Sequence[int], groups: Sequence[int], strata: Sequence[str], fractions: Mapping[str, float], seed: int
) -> list[str]:
    """Assign each group, largest first in seeded order, to the split furthest below its share of the group's strata."""
    members: dict[int, list[int]] = defaultdict(list)
    for index in indices:
        members[groups[index]].append(index)
    order = sorted(members)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))
    totals = Counter(strata[index] for index in indices)
    filled: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    chosen: dict[int, str] = {}
    for group in order:
        content = Counter(strata[index] for index in members[group])

        def lack(split: str, content: Counter[str] = content) -> float:
            return sum(fractions[split] - filled[split][key] / totals[key] for key in content)

        split = max((name for name in SPLITS if fractions[name] > 0), key=lack)
        filled[split].update(content)
        for index in members[group]:
            chosen[index] = split
    return [chosen[index] for index in indices]
