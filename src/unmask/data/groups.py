"""Group related videos, and divide whole groups over splits or folds."""

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unmask.errors import ConfigError, DatasetError, LeakageError, list_problems, suggest
from unmask.types import Label, Video

logger = logging.getLogger(__name__)

_MIN_FOLDS = 3


def find_groups(videos: Sequence[Video], *, copies: Sequence[Sequence[int]] = ()) -> list[int]:
    """Assign a group to each video: connected components of the graph of videos, identities and originals.

    A fake `AAA_BBB` connects the videos of AAA and of BBB; in FaceForensics++ this reproduces the official pairs.

    Args:
        videos: Videos of one source.
        copies: Sets of positions in `videos` with identical files, which also belong to one group.

    Returns:
        Group number of each video, counted from 0.
    """
    return connect(len(videos), map(_list_keys, videos), same=copies)


def _list_keys(video: Video) -> list[tuple[str, str]]:
    keys = [("video", video.video_id), *(("identity", identity) for identity in video.identities)]
    return keys if video.original is None else [*keys, ("video", video.original)]


def connect(size: int, links: Iterable[Sequence[Hashable]], *, same: Iterable[Sequence[int]] = ()) -> list[int]:
    """Number the connected components of items that share a key.

    Args:
        size: Number of items.
        links: Keys of each item; items with a common key are connected.
        same: Further sets of positions that are connected.

    Returns:
        Component of each item, counted from 0 in order of appearance.
    """
    nodes: dict[Hashable, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    for index, keys in enumerate(links):
        for key in keys:
            rows.append(index)
            columns.append(size + nodes.setdefault(key, len(nodes)))
    for members in same:
        rows += members
        columns += [members[0]] * len(members)
    total = size + len(nodes)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(total, total))
    labels = connected_components(graph, directed=False)[1][:size]
    numbers: list[int] = np.unique(labels, return_inverse=True)[1].tolist()
    return numbers


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


def divide(groups: Sequence[int], strata: Sequence[str], *, shares: Mapping[str, float], seed: int) -> list[str]:
    """Assign each group, largest first in seeded order, to the part furthest below its share of the group's strata.

    Args:
        groups: Group of each item.
        strata: Stratum of each item, such as the method.
        shares: Share of each part, adding up to 1; parts with a share of 0 get nothing.
        seed: Seed of the order.

    Returns:
        Part of each item.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(strata))}
    members: dict[int, list[int]] = defaultdict(list)
    for group, stratum in zip(groups, strata, strict=True):
        members[group].append(numbers[stratum])
    order = sorted(members)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))
    totals = [0] * len(numbers)
    for content in members.values():
        for number in content:
            totals[number] += 1
    names = [name for name, share in shares.items() if share > 0]
    filled = [[0] * len(numbers) for _ in names]
    lacks = [[shares[name]] * len(numbers) for name in names]
    chosen: dict[int, str] = {}
    for group in order:
        content = members[group]
        if len(content) == 1:
            distinct, scores = content, [lack[content[0]] for lack in lacks]
        else:
            distinct = list(dict.fromkeys(content))
            scores = [sum([lack[number] for number in distinct]) for lack in lacks]
        part = scores.index(max(scores))
        for number in content:
            filled[part][number] += 1
        for number in distinct:
            lacks[part][number] = shares[names[part]] - filled[part][number] / totals[number]
        chosen[group] = names[part]
    return [chosen[group] for group in groups]


def check_folds(folds: int | None, fold: int, *, key: str) -> None:
    """Raise a ConfigError unless `fold` is one of `folds` folds.

    Args:
        folds: Number of folds; None for no folds.
        fold: Number of the fold, counted from 0.
        key: Config group of the two keys, such as `split`.
    """
    if folds is None and fold == 0:
        return
    if folds is None:
        raise ConfigError(f"{key}.fold={fold} has no effect without {key}.folds. Set it too, such as {key}.folds=5.")
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < _MIN_FOLDS:
        raise ConfigError(
            f"{key}.folds={folds} must be a whole number of at least {_MIN_FOLDS}: one fold is test, one is val and "
            f"the rest is train."
        )
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < folds:
        raise ConfigError(f"{key}.fold={fold} must be a whole number from 0 to {folds - 1} with {key}.folds={folds}.")


def split_by_fold(
    groups: Sequence[int], strata: Sequence[str], *, folds: int, fold: int, seed: int, key: str
) -> list[str]:
    """Return the split of each item: fold `fold` is test, the next one val, and the rest train.

    The folds depend on the seed alone, not on `fold`, so over all values of `fold` each item is in test exactly once.

    Args:
        groups: Group of each item; no fold cuts a group.
        strata: Stratum of each item, which every fold gets an equal share of.
        folds: Number of folds, at least 3.
        fold: Number of the test fold, counted from 0.
        seed: Seed of the folds.
        key: Config group of the two keys, for the error.

    Raises:
        ConfigError: `fold` is not one of `folds` folds.
        DatasetError: There are fewer groups than folds.
    """
    check_folds(folds, fold, key=key)
    num_groups = len(set(groups))
    if num_groups < folds:
        raise DatasetError(
            f"{key}.folds={folds} needs at least {folds} groups of videos that share no person or original, and there "
            f"are {num_groups}. Lower {key}.folds."
        )
    parts = divide(groups, strata, shares={str(number): 1 / folds for number in range(folds)}, seed=seed)
    names = {str(fold): "test", str((fold + 1) % folds): "val"}
    return [names.get(part, "train") for part in parts]


def hold_out(
    videos: Sequence[Video], groups: Sequence[int], splits: Sequence[str], *, methods: Sequence[str]
) -> list[str | None]:
    """Return splits in which only test contains some forgery methods; the other videos keep theirs.

    A fake of these methods is None, in no split, if train or val contains another video of its group: in test, the
    network would meet a person or an original that it was trained on, and the result would no longer measure the
    method alone.

    Args:
        videos: Videos of one source.
        groups: Group of each video.
        splits: Split of each video.
        methods: Methods to hold out.

    Raises:
        ConfigError: A method is unknown.
        DatasetError: No video of a method is left.
    """
    known = sorted({video.method for video in videos if video.label == Label.FAKE})
    for method in methods:
        if method not in known:
            raise ConfigError(
                f"split.hold_out names the method '{method}', which the source does not have."
                f"{suggest(method, known)} Choose from: {', '.join(known) or 'none, it has no fakes'}"
            )
    rows = list(zip(videos, groups, splits, strict=True))
    is_held = set(methods)
    trained = {group for video, group, split in rows if video.method not in is_held and split != "test"}
    result = [
        split if video.method not in is_held else None if group in trained else "test" for video, group, split in rows
    ]
    for method in dict.fromkeys(methods):
        found = [split for video, split in zip(videos, result, strict=True) if video.method == method]
        num_left_out = found.count(None)
        if num_left_out == len(found):
            raise DatasetError(
                f"split.hold_out={method} leaves nothing to test: the groups of all its {len(found):,} videos are in "
                f"train or val. Raise split.test, or let prepare.py split by identity (source.splits=null)."
            )
        logger.warning(
            "split.hold_out: test has %s of the %s videos of %s, train and val none; %s are left out, since their "
            "groups are in train or val (left_out.csv lists them).",
            f"{len(found) - num_left_out:,}", f"{len(found):,}", method, f"{num_left_out:,}",
        )  # fmt: skip
    return result
