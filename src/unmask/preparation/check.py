"""Check a source without reading any media: what exists, what is missing, what leaks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.data.groups import describe_cut, find_groups
from unmask.data.splits import SplitOptions, SplitResult, apply_protocol, read_protocol, split_videos
from unmask.errors import LeakageError
from unmask.sources.folders import Source, Unexpected, name_part
from unmask.sources.reading import read_source
from unmask.types import ORIGINAL, SPLITS, Label, Video

_SHOWN = 100
"""Maximum number of examples of each leak in a record."""


@dataclass(frozen=True)
class Part:
    """A part of a dataset, such as one method in one compression.

    Args:
        name: Name of the part; "" for what the source skips outside of its parts.
        have: Number of videos that exist.
        missing: Number of videos that the source lists but that do not exist.
        example: Path of a missing video, or "".
        unexpected: Number of entries that the source skips.
        reasons: Reason, number and examples of these, such as `2 not in the split lists ('a', 'b')`.
    """

    name: str
    have: int
    missing: int
    example: str
    unexpected: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SourceCheck:
    """Result of `check_source`.

    Args:
        source: Name of the source.
        parts: Parts of the dataset.
        counts: Number of existing videos by class, method and split, and of identities and groups.
        groups: Groups in more than one split; `prepare` refuses them.
        names: File names that one part has in more than one split.
        known: What the published splits are known to share.
        left_out: Videos that `split.hold_out` or `split.protocol` leaves out, with the reason.
    """

    source: str
    parts: tuple[Part, ...]
    counts: Mapping[str, Any]
    groups: tuple[str, ...]
    names: tuple[str, ...]
    known: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def gaps(self) -> list[str]:
        """Statements about classes and splits that have no videos."""
        classes: Mapping[str, int] = self.counts["classes"]
        if not sum(classes.values()):
            return ["None of the videos exists."]
        gaps = [f"Class '{name}' is empty." for name, count in classes.items() if not count]
        for split, numbers in self.counts["splits"].items():
            if not sum(numbers.values()):
                gaps.append(f"Split '{split}' is empty.")
            else:
                gaps += [
                    f"Split '{split}' has no {name} videos." for name, count in numbers.items()
                    if not count and classes[name]
                ]  # fmt: skip
        return gaps

    @property
    def problems(self) -> list[str]:
        """Reasons why `prepare` would refuse the source."""
        problems = [] if any(part.have for part in self.parts) else ["none of the videos exists"]
        return problems + ([f"{len(self.groups)} groups are in more than one split"] if self.groups else [])

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values, with a limited number of examples."""
        leaks = {"groups": self.groups, "names": self.names, "known": self.known}
        return {
            "source": self.source,
            "usable": not self.problems,
            "parts": [vars(part) | {"reasons": list(part.reasons)} for part in self.parts],
            "counts": dict(self.counts),
            "gaps": self.gaps,
            "leaks": {name: _count_examples(found) for name, found in leaks.items()},
            "left_out": _count_examples(self.left_out),
        }


def _count_examples(found: Sequence[str]) -> dict[str, Any]:
    return {"count": len(found), "examples": list(found[:_SHOWN])}


def check_source(source: Source, options: SplitOptions) -> SourceCheck:
    """Count what a source lists, has and lacks, and find what its splits share; reads names and lists only.

    Args:
        source: Source to check.
        options: How `prepare` would split it.

    Raises:
        ConfigError: A method to hold out does not exist.
        DatasetError: The source contradicts the protocol, or has too few groups for the folds.
        SourceError: The source cannot be read.
    """
    videos = read_source(source)
    left_out: tuple[str, ...] = ()
    if options.protocol is not None:
        videos, without = apply_protocol(videos, read_protocol(options.protocol))
        left_out = tuple(f"'{one.video_id}': {one.reason}" for one in without)
    split = _split(videos, options)
    left_out += tuple(f"'{one.video_id}': {one.reason}" for one in split.left_out)
    videos, groups, splits = split.videos, split.groups, split.splits
    there = [video.is_there for video in videos]
    parts = [name_part(source, video) for video in videos]
    ids = [video.video_id for video in videos]
    names = list(zip(parts, (video.path.name for video in videos), strict=True))
    return SourceCheck(
        source=source.name,
        parts=tuple(_count_parts(videos, there, parts, getattr(source, "unexpected", ()))),
        counts=_count(videos, there, splits, groups),
        groups=tuple(describe_cut(ids, groups, splits)),
        names=tuple(describe_cut([str(video.path) for video in videos], names, splits)),
        known=tuple(getattr(source, "known_leaks", ())),
        left_out=left_out,
    )


def _split(videos: Sequence[Video], options: SplitOptions) -> SplitResult:
    try:
        return split_videos(videos, options, copies=())
    except LeakageError:  # reported with everything else
        splits = [video.split or "train" for video in videos]
        return SplitResult(list(videos), find_groups(videos), splits, [], [])


def _count_parts(
    videos: Sequence[Video], there: Sequence[bool], names: Sequence[str], unexpected: Sequence[Unexpected]
) -> list[Part]:
    """Count the videos of each part, originals first, and what is in none of them last."""
    have, missing, examples = Counter[str](), Counter[str](), dict[str, str]()
    methods: dict[str, str] = {}
    for video, is_there, name in zip(videos, there, names, strict=True):
        methods.setdefault(name, video.method)
        (have if is_there else missing)[name] += 1
        if not is_there:
            examples.setdefault(name, str(video.path))
    ordered = sorted(methods, key=lambda name: methods[name] != ORIGINAL)
    ordered += sorted({one.part for one in unexpected} - set(methods), key=lambda name: not name)
    return [
        Part(
            name, have[name], missing[name], examples.get(name, ""),
            sum(one.count for one in unexpected if one.part == name),
            tuple(_describe(one) for one in unexpected if one.part == name),
        ) for name in ordered
    ]  # fmt: skip


def _describe(one: Unexpected) -> str:
    shown = ", ".join(f"'{name}'" for name in one.examples[:3])
    return f"{one.count:,} {one.reason}" + (f" ({shown}{', ...' if len(one.examples) > 3 else ''})" if shown else "")


def _count(
    videos: Sequence[Video], there: Sequence[bool], splits: Sequence[str], groups: Sequence[int]
) -> dict[str, Any]:
    """Count what exists."""
    kept = [
        (video, split, group) for video, is_there, split, group in zip(videos, there, splits, groups, strict=True)
        if is_there
    ]  # fmt: skip
    labels = Counter(video.label for video, _, _ in kept)
    by_split = Counter((split, video.label) for video, split, _ in kept)
    return {
        "videos": len(kept),
        "missing": len(videos) - len(kept),
        "classes": {label.name.lower(): labels[label] for label in Label},
        "methods": dict(Counter(video.method for video, _, _ in kept).most_common()),
        "identities": len({person for video, _, _ in kept for person in video.identities}),
        "groups": len({group for _, _, group in kept}),
        "splits": {
            split: {label.name.lower(): by_split[split, label] for label in Label} for split in SPLITS
        },
        "splits_of": "source" if any(video.split for video in videos) else "prepare",
    }  # fmt: skip
