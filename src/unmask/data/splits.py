"""Assign videos to train, val and test so that no group is cut."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from unmask.data.groups import find_groups
from unmask.data.tables import SPLITS
from unmask.errors import ConfigError, LeakageError, list_problems
from unmask.types import Video

logger = logging.getLogger(__name__)


def assign_splits(
    videos: Sequence[Video], *, fractions: Mapping[str, float], seed: int, groups: Sequence[int] | None = None
) -> list[str]:
    """Return the split of every video: the source's own where it has one, else by group, seeded and stratified.

    A source with train and test but without val gets its val carved out of train.

    Args:
        videos: Of one source.
        fractions: Share of `train`, `val` and `test`, each at least 0, their sum 1.
        seed: Of the shuffle.
        groups: Of `find_groups`, where they are known already.

    Raises:
        ConfigError: Fractions that are not shares of one.
        LeakageError: The source's own splits cut a group.
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
        logger.info("The source has no val split: %d of its %d train files go there.", parts.count("val"), len(train))
        for index, part in zip(train, parts, strict=True):
            splits[index] = part
    return splits


def check_groups(video_ids: Sequence[str], groups: Sequence[int], splits: Sequence[str | None]) -> None:
    """Raise a LeakageError where a group stands in more than one split; videos without a split are passed over."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for video_id, group, split in zip(video_ids, groups, splits, strict=True):
        if split:
            found[group].setdefault(split, video_id)
    cut = {group: members for group, members in found.items() if len(members) > 1}
    if cut:
        rows = (
            ", ".join(f"'{name}' in {split}" for split, name in sorted(members.items())) for members in cut.values()
        )
        raise LeakageError(
            f"{len(cut)} groups of videos that share a person or an origin stand in more than one split:\n"
            f"{list_problems(rows)}\n"
            f"Move each group into one split, or let prepare.py split by identity (source.splits=null)."
        )


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if set(fractions) != set(SPLITS) or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ConfigError(
            f"split.train, split.val and split.test are {dict(fractions)}: they must be shares of at least 0 with a "
            f"sum of 1, such as split.train=0.7 split.val=0.15 split.test=0.15."
        )


def _divide(
    indices: Sequence[int], groups: Sequence[int], strata: Sequence[str], fractions: Mapping[str, float], seed: int
) -> list[str]:
    """Give whole groups, in a seeded order and large ones first, to the split that lacks most of what they hold."""
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
