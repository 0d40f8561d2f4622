"""Split lists of FaceForensics++: the pairs of the paper, and the clips cut from the same YouTube video."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from unmask.errors import SourceError, list_problems
from unmask.sources.folders import describe_folder
from unmask.types import SPLITS, Video

OFFICIAL, STRICT = "official", "strict"

Pair = tuple[str, str]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitLists:
    """Splits of the clips and of their pairs.

    Args:
        split_of: Split of every clip `AAA` and of every pair `AAA_BBB`, in both directions.
        dropped: Clips and pairs that `strict` leaves out.
        shared: Groups of clips from one YouTube video in more than one split, such as `605 (train), 606 (val)`.
    """

    split_of: Mapping[str, str]
    dropped: frozenset[str] = frozenset()
    shared: tuple[str, ...] = ()


def read_split_lists(splits: str | Path) -> SplitLists:
    """Read the lists and log what they share.

    Args:
        splits: `official` for the lists of the paper, `strict` for those without the clips of train that are cut from
            a video of val or test, or a folder with `train.json`, `val.json` and `test.json`.

    Raises:
        SourceError: A list is missing, is not a list of pairs, or has a clip of another list.
    """
    is_official = splits in (OFFICIAL, STRICT)
    pairs = {split: _read_pairs(splits, split, is_official=is_official) for split in SPLITS}
    lists = SplitLists(_assign(pairs, splits))
    if not is_official:
        return lists
    groups = read_same_video_groups()
    shared = tuple(_describe_shared(groups, lists.split_of))
    if splits == STRICT:
        return make_strict(pairs, groups)
    logger.warning(
        "In the official FaceForensics++ split, %d groups of clips cut from the same YouTube video are in more than "
        "one split:\n%s\nMove them out of train with source.splits=strict, or split by identity with "
        "source.splits=null.",
        len(shared), list_problems(shared),
    )  # fmt: skip
    return SplitLists(lists.split_of, shared=shared)


def read_same_youtube_video() -> dict[str, str]:
    """Map clips cut from the same YouTube video to a common identity."""
    return {clip: "+".join(group) for group in read_same_video_groups() for clip in group}


def unify_people(videos: Iterable[Video], same_person: Mapping[str, str]) -> list[Video]:
    """Replace identities by those that they share with other clips."""
    return [
        replace(video, identities=tuple(same_person.get(person, person) for person in video.identities))
        for video in videos
    ]


def read_same_video_groups() -> list[list[str]]:
    """Return the groups of clips cut from the same YouTube video."""
    groups: list[list[str]] = json.loads(_open_list("same_youtube_video"))
    return groups


def make_strict(pairs: Mapping[str, Sequence[Pair]], groups: Sequence[Sequence[str]]) -> SplitLists:
    """Separate the splits by YouTube video, and log how many clips that takes.

    A pair of val that shares a video with test moves to test. Then train loses every clip that shares a video with val
    or test, and the fakes that show it; the other clip of its pair stays.

    Args:
        pairs: Pairs of each split.
        groups: Groups of clips cut from the same YouTube video.
    """
    val, test = list(pairs["val"]), list(pairs["test"])
    num_moved = 0
    while moving := [pair for pair in val if _touches(pair, groups, test)]:  # which may touch further pairs of val
        val, test = [pair for pair in val if pair not in moving], [*test, *moving]
        num_moved += len(moving)
    lost = [clip for pair in pairs["train"] for clip in pair if _touches([clip], groups, [*val, *test])]
    split_of = _assign({"train": pairs["train"], "val": val, "test": test}, STRICT)
    dropped = frozenset(name for name in split_of if set(name.split("_")) & set(lost))
    num_fakes = sum("_" in name for name in dropped)
    logger.warning(
        "source.splits=strict: dropped %d clips of train (%s), and the %d fakes of each method that show them, because "
        "val or test has a clip of the same YouTube video; moved %d pairs of val to test.",
        len(lost), ", ".join(sorted(lost)) or "none", num_fakes, num_moved,
    )  # fmt: skip
    return SplitLists({name: split for name, split in split_of.items() if name not in dropped}, dropped)


def _touches(clips: Iterable[str], groups: Sequence[Sequence[str]], pairs: Iterable[Pair]) -> bool:
    """Return whether a clip is cut from the same video as one of the pairs."""
    others = {clip for pair in pairs for clip in pair}
    return any(others & set(group) and set(clips) & set(group) for group in groups)


def _describe_shared(groups: Sequence[Sequence[str]], split_of: Mapping[str, str]) -> list[str]:
    return [
        ", ".join(f"{clip} ({split_of[clip]})" for clip in group if clip in split_of) for group in groups
        if len({split_of[clip] for clip in group if clip in split_of}) > 1
    ]  # fmt: skip


def _assign(pairs: Mapping[str, Sequence[Pair]], splits: str | Path) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for first, second in pairs[split]:
            for name in (first, second, f"{first}_{second}", f"{second}_{first}"):
                if split_of.setdefault(name, split) != split:
                    raise SourceError(
                        f"'{name}' is in the lists of both '{split_of[name]}' and '{split}' (source.splits="
                        f"'{splits}'). Remove it from one list."
                    )
    return split_of


def _read_pairs(splits: str | Path, split: str, *, is_official: bool) -> list[Pair]:
    if is_official:
        text = _open_list(split)
    else:
        path = Path(str(splits)) / f"{split}.json"
        if not path.is_file():
            raise SourceError(
                f"No list '{path}'. source.splits must be 'official', 'strict', null, or a folder with train.json, "
                f"val.json and test.json; found there: {describe_folder(path.parent)}."
            )
        text = path.read_text()
    try:
        return [(str(first), str(second)) for first, second in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise SourceError(
            f"The {split} list in source.splits='{splits}' is not a JSON list of pairs such as "
            f'[["071", "054"], ...]: {error}.'
        ) from error


def _open_list(name: str) -> str:
    return (files("unmask.sources") / "ffpp_splits" / f"{name}.json").read_text()
