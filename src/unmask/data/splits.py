"""Group related videos, assign splits that keep groups whole, and audit splits for leakage."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.data.groups import check_folds, check_groups, divide, find_groups, hold_out, split_by_fold
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError, DatasetError, LeakageError, list_problems
from unmask.paths import show_command, write_bytes
from unmask.types import SPLITS, Label, Video

LEFT_OUT_FILE = "left_out.csv"

PROTOCOL_FORMAT = "unmask split protocol"
PROTOCOL_VERSION = 1

logger = logging.getLogger(__name__)


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
        return divide(groups, strata, shares=fractions, seed=seed)
    homes = {group: split for group, split in zip(groups, given, strict=True) if split}
    splits = [split or homes.get(group, "train") for group, split in zip(groups, given, strict=True)]
    without = [video.video_id for video, split in zip(videos, given, strict=True) if not split]
    if without:
        logger.warning(
            "%d of %d videos have no split, such as '%s': they get that of their group, or train.", len(without),
            len(videos), without[0],
        )  # fmt: skip
    if "val" not in splits and "train" in splits and fractions["val"] > 0:
        train = [index for index, split in enumerate(splits) if split == "train"]
        share = fractions["val"] / (fractions["val"] + fractions["train"])
        parts = divide(
            [groups[index] for index in train], [strata[index] for index in train],
            shares={"train": 1 - share, "val": share}, seed=seed,
        )  # fmt: skip
        logger.info(
            "The source has no val split; moved %d of its %d train files to val.", parts.count("val"), len(train)
        )
        for index, part in zip(train, parts, strict=True):
            splits[index] = part
    return splits


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
    table = table.drop_duplicates([column, "split"])
    crossing = table[table.duplicated(column, keep=False)]
    if len(crossing):
        rows = [_describe_crossing(str(value), column, rows) for value, rows in crossing.groupby(column)]
        raise LeakageError(
            f"{len(rows)} values of '{column}' in '{dataset.root}' are in more than one split:\n"
            f"{list_problems(rows)}\nRun prepare.py again, or keep them together if you edited the table by hand."
        )


def _describe_crossing(value: str, column: str, rows: pd.DataFrame) -> str:
    """Return a value with the splits that contain it, each with a video that shows it there."""
    rows = rows.sort_values("split")
    if column == "video_id":
        return f"{value}: {', '.join(rows['split'])}"
    named = zip(rows["video_id"], rows["split"], strict=True)
    return f"{value}: " + ", ".join(f"'{video_id}' in {split}" for video_id, split in named)


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if set(fractions) != set(SPLITS) or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ConfigError(
            f"Invalid split.train, split.val and split.test: {dict(fractions)}. Each must be at least 0 and they must "
            f"add up to 1, such as split.train=0.7 split.val=0.15 split.test=0.15."
        )


@dataclass(frozen=True)
class LeftOut:
    """A video that takes no part in a face dataset.

    Args:
        video_id: ID of the video.
        label: `real` or `fake`.
        method: Forgery method, or "" if unknown.
        reason: Reason why it is left out.
    """

    video_id: str
    label: str
    method: str
    reason: str


@dataclass(frozen=True)
class SplitOptions:
    """How the videos of a source are split.

    Args:
        fractions: Shares of `train`, `val` and `test`, for a source without its own splits.
        seed: Seed of these splits and of the folds.
        hold_out: Forgery methods that only the test split contains.
        folds: Number of folds that replace the splits of the source; None for no folds.
        fold: Fold that becomes test; the next one becomes val.
        protocol: Protocol file that gives every video its split; None for no protocol.
    """

    fractions: Mapping[str, float]
    seed: int
    hold_out: Sequence[str] = ()
    folds: int | None = None
    fold: int = 0
    protocol: Path | None = None

    def __post_init__(self) -> None:
        _check_fractions(self.fractions)
        check_folds(self.folds, self.fold, key="split")
        for key in ("hold_out", "folds"):
            if self.protocol is not None and getattr(self, key):
                raise ConfigError(
                    f"split.protocol='{self.protocol}' gives every video its split, so split.{key}="
                    f"{getattr(self, key)} cannot change it. Drop one of the two."
                )


@dataclass(frozen=True)
class SplitResult:
    """Videos with their groups and splits.

    Args:
        videos: Videos that take part.
        groups: Group of each video.
        splits: Split of each video.
        copies: Sets of positions in `videos` with identical files.
        left_out: Videos that take no part.
    """

    videos: list[Video]
    groups: list[int]
    splits: list[str]
    copies: list[list[int]]
    left_out: list[LeftOut]


def split_videos(videos: Sequence[Video], options: SplitOptions, *, copies: Sequence[Sequence[int]]) -> SplitResult:
    """Split the videos of a source, without those that no split may contain.

    Args:
        videos: Videos of one source; with a protocol, those that `apply_protocol` returned.
        options: How to split them.
        copies: Sets of positions in `videos` with identical files.

    Raises:
        ConfigError: A method to hold out does not exist.
        DatasetError: There are too few groups for the folds, or nothing of a held-out method can be in test.
        LeakageError: A group spans several of the given splits.
    """
    has_own = any(video.split for video in videos)
    keeps_own = has_own and options.folds is None
    # Keep copies together, but never change the splits that a source publishes.
    groups = find_groups(videos, copies=() if keeps_own else copies)
    if options.folds is not None:
        if has_own:
            logger.info("split.folds=%d replaces the splits of the source.", options.folds)
        strata = [video.method for video in videos]
        folds, fold, seed = options.folds, options.fold, options.seed
        splits = split_by_fold(groups, strata, folds=folds, fold=fold, seed=seed, key="split")
    elif options.protocol is not None:
        splits = [str(video.split) for video in videos]
        check_groups([video.video_id for video in videos], groups, splits)
    else:
        splits = assign_splits(videos, fractions=options.fractions, seed=options.seed, groups=groups)
    held = hold_out(videos, groups, splits, methods=options.hold_out) if options.hold_out else splits
    kept = [index for index, split in enumerate(held) if split is not None]
    places = {index: place for place, index in enumerate(kept)}
    reason = "method is held out, and the group is in train or val"
    moved = ([places[index] for index in same if index in places] for same in copies)
    return SplitResult(
        videos=[videos[index] for index in kept],
        groups=[groups[index] for index in kept],
        splits=[split for split in held if split is not None],
        copies=[same for same in moved if len(same) > 1],
        left_out=[
            LeftOut(video.video_id, video.label.name.lower(), video.method, reason)
            for video, split in zip(videos, held, strict=True) if split is None
        ],
    )  # fmt: skip


def write_left_out(root: Path, rows: Sequence[LeftOut]) -> None:
    """List the videos that take no part in `left_out.csv`; remove the file if there are none."""
    if rows:
        content = pd.DataFrame([asdict(row) for row in rows]).to_csv(index=False)
        write_bytes(root / LEFT_OUT_FILE, content.encode())
    else:
        (root / LEFT_OUT_FILE).unlink(missing_ok=True)


@dataclass(frozen=True)
class Protocol:
    """The split and label of every video of a dataset, without its media.

    Args:
        path: Protocol file.
        name: Name of the source.
        videos: Split and label of each video, by `video_id`.
    """

    path: Path
    name: str
    videos: Mapping[str, tuple[str, str]]


def write_protocol(dataset: FaceDataset, path: Path) -> Protocol:
    """Write the split and label of every video of a face dataset to a small JSON file.

    The file holds no media and no paths, and ends with the SHA-256 of its content.

    Raises:
        OutputError: The file cannot be written.
    """
    rows = zip(dataset.videos["video_id"], dataset.videos["split"], dataset.videos["label"], strict=True)
    videos = {
        str(name): {"split": str(split), "label": Label(int(label)).name.lower()} for name, split, label in sorted(rows)
    }
    content = {"format": PROTOCOL_FORMAT, "version": PROTOCOL_VERSION, "name": dataset.name, "videos": videos}
    write_bytes(path, (json.dumps(content | {"sha256": _hash_content(content)}, indent=1) + "\n").encode())
    return Protocol(path, dataset.name, {name: (video["split"], video["label"]) for name, video in videos.items()})


def read_protocol(path: Path) -> Protocol:
    """Read a protocol.

    Raises:
        DatasetError: The file is missing, is not a protocol, has another version, or has changed.
    """
    write = show_command("prepare.py", "task=protocol", "dataset.root=...", f"output={path}")
    if not path.is_file():
        raise DatasetError(f"No such file: split.protocol='{path}'. Write one with: {write}")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, digest = content["version"], content.pop("sha256")
        is_known = content["format"] == PROTOCOL_FORMAT
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"split.protocol='{path}' is not a split protocol ({error!r}). Write one: {write}"
        ) from error
    if not is_known or version != PROTOCOL_VERSION:
        raise DatasetError(
            f"split.protocol='{path}' has the format '{content['format']}', version {version}; this Unmask reads "
            f"'{PROTOCOL_FORMAT}', version {PROTOCOL_VERSION}. Write it again with: {write}"
        )
    if _hash_content(content) != digest:
        raise DatasetError(
            f"split.protocol='{path}' has changed since it was written: its content does not have the SHA-256 "
            f"{digest}. Fetch the file again, or write it again with: {write}"
        )
    videos = {name: (video["split"], video["label"]) for name, video in content["videos"].items()}
    return Protocol(path, str(content["name"]), videos)


def _hash_content(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def apply_protocol(videos: Sequence[Video], protocol: Protocol) -> tuple[list[Video], list[LeftOut]]:
    """Give videos the splits of a protocol; log what only one of them has.

    Args:
        videos: Videos of one source.
        protocol: Protocol of the same source.

    Returns:
        The videos of the protocol, and what is left out: videos that it lacks, and its videos that the source lacks.

    Raises:
        DatasetError: Labels contradict the protocol, or it has none of the videos.
    """
    known, where = protocol.videos, f"split.protocol='{protocol.path}'"
    wrong = [
        f"{video.video_id}: {known[video.video_id][1]} in the protocol, {video.label.name.lower()} in the source"
        for video in videos if video.video_id in known and known[video.video_id][1] != video.label.name.lower()
    ]  # fmt: skip
    if wrong:
        raise DatasetError(
            f"{len(wrong)} labels contradict {where}:\n{list_problems(wrong)}\n"
            f"Check the labels of the source, or use the protocol of this dataset."
        )
    kept = [replace(video, split=known[video.video_id][0]) for video in videos if video.video_id in known]
    if not kept:
        first, theirs = videos[0].video_id if videos else "none", next(iter(known), "none")
        raise DatasetError(
            f"{where} is of the dataset '{protocol.name}' and has none of these {len(videos):,} videos: it names "
            f"'{theirs}', the source '{first}'. Use the protocol of this dataset."
        )
    listed = {video.video_id for video in kept}
    unlisted = [video for video in videos if video.video_id not in known]
    absent = [name for name in known if name not in listed]
    missing = absent + [video.video_id for video in kept if not video.is_there]
    for ids, problem in (
        (missing, "videos of the protocol are missing on this disk"),
        ([video.video_id for video in unlisted], "videos are not in the protocol and take no part"),
    ):
        if ids:
            logger.warning("%s: %s %s:\n%s", where, f"{len(ids):,}", problem, list_problems(ids))
    logger.info("%s: %s of its %s videos are in the source.", where, f"{len(kept):,}", f"{len(known):,}")
    rows = [LeftOut(v.video_id, v.label.name.lower(), v.method, "not in the protocol") for v in unlisted]
    rows += [LeftOut(name, known[name][1], "", "in the protocol, but not in the source") for name in absent]
    return kept, rows
