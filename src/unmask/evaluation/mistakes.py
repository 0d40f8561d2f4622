"""The calls that were most wrong, with a small image of each."""

import base64
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from unmask.decision import Decision
from unmask.errors import MediaError
from unmask.media.picture import decode_crop_file, encode_jpeg
from unmask.types import Label

NUM_LISTED = 20
"""Of each truth."""

NUM_SHOWN = 8
"""Of each truth, with an image."""

SIDE = 112
"""Of an image in pixels."""

MAX_BYTES = 160_000
"""That all images together may take in the report."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mistake:
    """A video, or an image, on the wrong side of the threshold.

    Args:
        video_id: Of it.
        method: By which it was forged; that of reals is `original` or the like.
        truth: What it is.
        score: Of it.
        crop: Its most misleading crop, below the root of the dataset; "" where none is known.
        thumbnail: Of this crop, as an address that holds its own bytes; "" where it is not shown.
    """

    video_id: str
    method: str
    truth: Label
    score: float
    crop: str = ""
    thumbnail: str = ""


def find_mistakes(frames: pd.DataFrame, videos: pd.DataFrame, *, decision: Decision) -> list[Mistake]:
    """List what was called wrongly, the farthest from the threshold first: up to `NUM_LISTED` reals, then fakes.

    Args:
        frames: Score table of the crops.
        videos: Score table of the videos; those without a score are left out.
        decision: Gives the threshold.
    """
    scored = videos[videos["score"].notna()]
    called = (scored["score"] >= decision.threshold).astype(int)
    wrong = scored[called != scored["label"]]
    farthest = (wrong["score"] - decision.threshold).abs().sort_values(ascending=False, kind="stable").index
    wrong = wrong.loc[farthest].groupby("label", sort=True).head(NUM_LISTED)
    wrong = wrong.sort_values("label", kind="stable")
    misled = _find_misleading(frames[frames["video_id"].isin(wrong["video_id"])])
    columns = (wrong[name] for name in ("video_id", "method", "label", "score"))
    return [
        Mistake(video_id, str(method), Label(label), float(score), misled.get(video_id, ""))
        for video_id, method, label, score in zip(*columns, strict=True)
    ]


def _find_misleading(frames: pd.DataFrame) -> dict[str, str]:
    """Return the crop of each video whose score is the farthest from its truth."""
    wrongness = (frames["score"] - frames["label"]).abs()
    worst = frames.loc[wrongness.groupby(frames["video_id"]).idxmax()]
    return dict(zip(worst["video_id"], worst["crop"], strict=True))


def embed_thumbnails(mistakes: list[Mistake], *, root: Path) -> list[Mistake]:
    """Give the first `NUM_SHOWN` of each truth an image, as far as `MAX_BYTES` go.

    The images are in the report itself and nowhere else: faces of people leave the machine only with this file.

    Args:
        mistakes: Of `find_mistakes`.
        root: Of the face dataset.
    """
    return list(_embed(mistakes, root=root))


def _embed(mistakes: list[Mistake], *, root: Path) -> Iterator[Mistake]:
    left, shown = MAX_BYTES, dict.fromkeys(Label, 0)
    for mistake in mistakes:
        image = _draw(root / mistake.crop) if shown[mistake.truth] < NUM_SHOWN else b""
        if not image or len(image) > left:
            yield mistake
            continue
        left -= len(image)
        shown[mistake.truth] += 1
        yield replace(mistake, thumbnail="data:image/jpeg;base64," + base64.b64encode(image).decode())


def _draw(path: Path) -> bytes:
    """Return a small JPEG of a crop; nothing of one that was scored and cannot be read any more."""
    try:
        crop = decode_crop_file(path)
    except (MediaError, OSError) as error:
        logger.warning("The report shows no image of '%s': %s", path, error)
        return b""
    scale = min(SIDE / max(crop.shape[:2]), 1.0)
    size = [max(round(side * scale), 1) for side in crop.shape[1::-1]]
    small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_jpeg(small, quality=80)
