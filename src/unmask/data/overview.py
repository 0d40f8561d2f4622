"""Say what was understood of a source before the long work starts, and what will be missing later."""

import logging
from collections import Counter
from collections.abc import Sequence

from unmask.data.tables import SPLITS
from unmask.types import Label, MediaKind, Video

_KINDS = {MediaKind.PICTURE: "images", MediaKind.VIDEO: "videos", MediaKind.FRAMES: "folders of frames"}

logger = logging.getLogger(__name__)


def tell_overview(videos: Sequence[Video], splits: Sequence[str], *, name: str) -> None:
    """Log the number of real and fake media, by method and split, and warn of splits that lack a class.

    Args:
        videos: Of one source, there or not.
        splits: Of each.
        name: Of the source.
    """
    there = [(video, split) for video, split in zip(videos, splits, strict=True) if video.is_there]
    kinds = Counter(video.kind for video, _ in there)
    labels = Counter(video.label for video, _ in there)
    methods = Counter(video.method for video, _ in there if video.label == Label.FAKE)
    by_split = Counter((split, video.label) for video, split in there)
    told = "; ".join(
        f"{split}: {by_split[split, Label.REAL]:,} real, {by_split[split, Label.FAKE]:,} fake" for split in SPLITS
    )
    logger.info(
        "Source '%s' has %s: %s real, %s fake%s. %s.",
        name, " and ".join(f"{count:,} {_KINDS[kind]}" for kind, count in sorted(kinds.items())) or "nothing",
        f"{labels[Label.REAL]:,}", f"{labels[Label.FAKE]:,}",
        f" ({', '.join(f'{method} {count:,}' for method, count in methods.most_common())})" if methods else "", told,
    )  # fmt: skip
    num_missing = len(videos) - len(there)
    if num_missing:
        logger.warning(
            "%s of the %s videos that source '%s' names are not there.", f"{num_missing:,}", f"{len(videos):,}", name
        )
    _warn_of_gaps({split: [label for label in Label if by_split[split, label]] for split in SPLITS})


def _warn_of_gaps(classes: dict[str, list[Label]]) -> None:
    """Warn of what training and evaluation will miss, now that it costs nothing to change it."""
    for split, labels in classes.items():
        if len(labels) == len(Label):
            continue
        lacking = "nothing" if not labels else f"no {Label(1 - labels[0]).name.lower()} ones"
        use = {
            "train": "Training needs both classes here",
            "val": "Training needs both classes here to choose its best checkpoint and the threshold",
            "test": "Evaluation needs both classes here for ROC-AUC and PR-AUC",
        }[split]
        logger.warning("Split '%s' has %s. %s.", split, lacking, use)
