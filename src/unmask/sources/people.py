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
    but the first is grown from a person drawn at random by whoever shares most videos with those in it, until it holds
    its share; few fakes are lost in that way. People who are in no fake are shared out as they come.

    Args:
        videos: With identities.
        fractions: Share of each split; the first gets whoever is left.
        seed: Decides with whom a split begins.

    Returns:
        The videos with their splits, and those that were taken out.
    """
    rest, *others = fractions
    forged = {identity for video in videos if video.label == Label.FAKE for identity in video.identities}
    tied = [video for video in videos if not forged.isdisjoint(video.identities)]
    loners = sorted({identity for video in videos for identity in video.identities} - forged)
    drawn = [loners[place] for place in np.random.default_rng(seed).permutation(len(loners))]
    home: dict[str, str] = {}
    for split in others:
        free = [video for video in tied if not any(identity in home for identity in video.identities)]
        home |= dict.fromkeys(_grow(free, wanted=fractions[split] * len(tied), seed=seed), split)
        count = round(fractions[split] * len(loners))
        home |= dict.fromkeys(drawn[:count], split)
        drawn = drawn[count:]
    kept, mixed = [], []
    for video in videos:
        splits = {home.get(identity, rest) for identity in video.identities}
        if len(splits) > 1:
            mixed.append(video)
        else:
            kept.append(replace(video, split=splits.pop() if splits else rest))
    return kept, mixed


def _grow(videos: Sequence[Video], *, wanted: float, seed: int) -> set[str]:
    """Return people who together have about the wanted number of videos, as few as possible with anybody else."""
    if wanted <= 0 or not videos:
        return set()
    people = sorted({identity for video in videos for identity in video.identities})
    order = {person: place for place, person in enumerate(np.random.default_rng(seed).permutation(people))}
    shared, total = Counter[tuple[str, str]](), Counter[str]()
    for video in videos:
        members = sorted(set(video.identities))
        total.update(members)
        shared.update((one, other) for one in members for other in members if one != other)
    chosen: set[str] = set()
    while len(chosen) < len(people) - 1:
        inside = [video for video in videos if chosen.issuperset(video.identities)]
        if len(inside) >= wanted:
            break
        ties = {
            person: sum(shared[person, member] for member in chosen) / total[person]
            for person in people if person not in chosen
        }  # fmt: skip
        chosen.add(min(ties, key=lambda person: (-ties[person], order[person])))
    return chosen
