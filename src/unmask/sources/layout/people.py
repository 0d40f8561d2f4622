"""Split videos so that nobody is seen in two splits, where nearly everybody is swapped with everybody."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from unmask.types import Label, Video


def split_people(
    videos: Sequence[Video], *, fractions: Mapping[str, float], seed: int
) -> tuple[list[Video], list[Video]]:
    """Give whole people to splits, and take out the fakes that mix people of two splits.

    Swaps tie the people of such datasets into one group, which could only go into one split as a whole. So each split
    but the first is grown from a person drawn at random by whoever shares most videos with those in it, until it has
    its share of them; few fakes are lost in that way. People who are in no fake are shared out as they come.

    Args:
        videos: With identities.
        fractions: Share of the people for each split; the first gets whoever is left.
        seed: Decides with whom a split begins.

    Returns:
        The videos with their splits, and those that were taken out.
    """
    rest, *others = fractions
    everybody = {person for video in videos for person in video.identities}
    tied = {person for video in videos if video.label == Label.FAKE for person in video.identities}
    rng = np.random.default_rng(seed)
    loners = [str(person) for person in rng.permutation(sorted(everybody - tied))]
    order = [str(person) for person in rng.permutation(sorted(tied))]
    home: dict[str, str] = {}
    for split in others:
        count = round(fractions[split] * len(everybody - tied))
        home |= dict.fromkeys(loners[:count], split)
        loners = loners[count:]
        free = [person for person in order if person not in home]
        home |= dict.fromkeys(_grow(videos, free, count=_count(fractions[split], len(tied), len(free))), split)
    kept, mixed = [], []
    for video in videos:
        splits = {home.get(person, rest) for person in video.identities} or {rest}
        if len(splits) == 1:
            kept.append(replace(video, split=splits.pop()))
        else:
            mixed.append(video)
    return kept, mixed


def _count(fraction: float, num_people: int, num_free: int) -> int:
    """Return how many people a split gets: two at least, since a fake needs them, and two must be left."""
    wanted = max(2, round(fraction * num_people)) if fraction else 0
    return wanted if num_free - wanted >= 2 else 0


def _grow(videos: Sequence[Video], free: Sequence[str], *, count: int) -> list[str]:
    """Return so many of the free people, who share as few videos as possible with the others."""
    allowed = set(free)
    shared, total = Counter[tuple[str, str]](), Counter[str]()
    for video in videos:
        members = sorted(allowed.intersection(video.identities))
        total.update(members)
        shared.update((one, other) for one in members for other in members if one != other)
    chosen: list[str] = []
    ties = dict.fromkeys(free, 0.0)
    while len(chosen) < count:
        person = max(ties, key=lambda name: ties[name] / total[name])  # the first of equals, in the order drawn
        chosen.append(person)
        ties.pop(person)
        for name in ties:
            ties[name] += shared[person, name]
    return chosen
