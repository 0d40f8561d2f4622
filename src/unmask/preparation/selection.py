"""Select the videos that become a face dataset, with their splits, and log what there is."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unmask.data.audit import CHOICES, find_copies, report_copies
from unmask.data.splits import (
    LeftOut,
    SplitOptions,
    SplitResult,
    apply_protocol,
    read_protocol,
    split_videos,
    write_left_out,
)
from unmask.errors import ConfigError
from unmask.sources.folders import CreatedSource, Source
from unmask.sources.reading import read_source
from unmask.types import SPLITS, Label, MediaKind, Video

_KIND_NAMES = {MediaKind.IMAGE: "images", MediaKind.VIDEO: "videos", MediaKind.FRAMES: "folders of frames"}

_NEEDS = {
    "train": "Training needs both classes, or real media alone with augmentation=sbi, which makes its own fakes",
    "val": "Training needs both classes to choose the best checkpoint and the threshold, except with augmentation=sbi",
    "test": "Evaluation needs both classes for ROC-AUC and PR-AUC",
}

logger = logging.getLogger(__name__)


def select_videos(
    source: Source, options: SplitOptions, *, root: Path | None, duplicates: str, limit: int | None, num_workers: int
) -> SplitResult:
    """List the videos of a source, split them, and log what there is.

    Writes the videos that are left out, and copies, into the face dataset.

    Args:
        source: Source to read.
        options: How to split it.
        root: Folder of the face dataset; None to write nothing, as for a shard.
        duplicates: `warn` about identical files in different splits, or `refuse` them.
        limit: Maximum number of existing videos per method, for a trial run; None for all.
        num_workers: Number of worker processes of a source that creates its files.

    Raises:
        ConfigError: A method to hold out does not exist.
        DatasetError: The source contradicts the protocol, or has too few groups for the folds.
        LeakageError: A group spans several of the given splits, or so do copies and `duplicates` is `refuse`.
        SourceError: The source cannot be read.
    """
    if duplicates not in CHOICES:
        raise ConfigError(f"duplicates='{duplicates}' is unknown. Choose {' or '.join(CHOICES)}.")
    if isinstance(source, CreatedSource):
        source.create(num_workers=num_workers)
    protocol = None if options.protocol is None else read_protocol(options.protocol)
    videos, left_out = read_source(source), list[LeftOut]()
    if protocol is not None:
        videos, left_out = apply_protocol(videos, protocol)
    videos = _take_first(videos, limit)
    result = split_videos(videos, options, copies=find_copies(videos))
    _log_overview(result.videos, result.splits, name=source.name)
    report_copies(result.videos, result.splits, result.copies, choice=duplicates, root=root)
    result = replace(result, left_out=left_out + result.left_out)
    if root is not None:
        write_left_out(root, result.left_out)
    return result


def _take_first(videos: Sequence[Video], limit: int | None) -> list[Video]:
    """Return the first `limit` videos of each method, alternating between splits; skip missing ones unless all are."""
    if limit is None:
        return list(videos)
    there = [video for video in videos if video.is_there]
    if len(there) < len(videos):
        logger.info("limit=%d: skipped %d missing videos.", limit, len(videos) - len(there))
    turns: Counter[tuple[str, str | None]] = Counter()
    places = []
    for video in there or videos:
        places.append(turns[video.method, video.split])
        turns[video.method, video.split] += 1
    taken, counts = set(), Counter[str]()
    for _, video in sorted(zip(places, there or videos, strict=True), key=lambda pair: pair[0]):
        counts[video.method] += 1
        if counts[video.method] <= limit:
            taken.add(video.video_id)
    return [video for video in videos if video.video_id in taken]


def _log_overview(videos: Sequence[Video], splits: Sequence[str], *, name: str) -> None:
    """Log the number of real and fake media by method and split, and warn about splits that lack a class."""
    there = [(video, split) for video, split in zip(videos, splits, strict=True) if video.is_there]
    kinds = Counter(video.kind for video, _ in there)
    labels = Counter(video.label for video, _ in there)
    methods = Counter(video.method for video, _ in there if video.label == Label.FAKE)
    by_split = Counter((split, video.label) for video, split in there)
    counts = "; ".join(
        f"{split}: {by_split[split, Label.REAL]:,} real, {by_split[split, Label.FAKE]:,} fake" for split in SPLITS
    )
    logger.info(
        "Source '%s' has %s: %s real, %s fake%s. %s.",
        name, " and ".join(f"{count:,} {_KIND_NAMES[kind]}" for kind, count in sorted(kinds.items())) or "nothing",
        f"{labels[Label.REAL]:,}", f"{labels[Label.FAKE]:,}",
        f" ({', '.join(f'{method} {count:,}' for method, count in methods.most_common())})" if methods else "", counts,
    )  # fmt: skip
    num_missing = len(videos) - len(there)
    if num_missing:
        logger.warning(
            "%s of the %s videos listed by source '%s' are missing.", f"{num_missing:,}", f"{len(videos):,}", name
        )
    _warn_of_gaps({split: [label for label in Label if by_split[split, label]] for split in SPLITS})


def _warn_of_gaps(classes: dict[str, list[Label]]) -> None:
    """Warn about splits that training or evaluation cannot use."""
    for split, labels in classes.items():
        if len(labels) == len(Label):
            continue
        lacking = "no media" if not labels else f"no {Label(1 - labels[0]).name.lower()} media"
        logger.warning("Split '%s' has %s. %s.", split, lacking, _NEEDS[split])
