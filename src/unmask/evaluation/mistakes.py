"""The most confident mistakes of a model: a table of all of them, and a gallery with heat maps for the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from unmask.decision import Decision
from unmask.errors import MediaError
from unmask.faces.crop import prepare_input
from unmask.media.image import decode_crop_file, encode_jpeg
from unmask.models.checkpoint import Checkpoint
from unmask.page import draw_thumbnail, embed_jpeg
from unmask.types import Image, Label

NUM_LISTED = 20
"""Maximum number of mistakes listed per class."""

NUM_SHOWN = 8
"""Maximum number of mistakes shown with an image per class."""

SIDE = 112
"""Thumbnail size in pixels."""

MAX_BYTES = 160_000
"""Maximum size in bytes of all thumbnails together, and again of all heat maps."""


@dataclass(frozen=True)
class Mistake:
    """A video or image on the wrong side of the threshold.

    Args:
        video_id: ID of the video or image.
        method: Forgery method; for reals, the name of their class, such as `original`.
        truth: Ground-truth label.
        score: P(fake) in [0, 1].
        face_size: Shorter side of the face's box in pixels, or None if unknown.
        crop: Path of its most misleading crop relative to the dataset root, or "" if unknown.
        thumbnail: Data URI of that crop, or "" if it is not shown.
        heatmap: Data URI of that crop with the evidence for the score, or "".
    """

    video_id: str
    method: str
    truth: Label
    score: float
    face_size: float | None = None
    crop: str = ""
    thumbnail: str = ""
    heatmap: str = ""


def list_mistakes(videos: pd.DataFrame, *, decision: Decision) -> pd.DataFrame:
    """Return the rows of all mistakes, most confident first; unscored videos are none.

    Args:
        videos: Score table of the videos.
        decision: Decision with the threshold.
    """
    scored = videos[videos["score"].notna()]
    wrong = scored[(scored["score"] >= decision.threshold).astype(int) != scored["label"]]
    farthest = (wrong["score"] - decision.threshold).abs().sort_values(ascending=False, kind="stable").index
    return wrong.loc[farthest]


def find_mistakes(frames: pd.DataFrame, videos: pd.DataFrame, *, decision: Decision) -> list[Mistake]:
    """List the mistakes: up to `NUM_LISTED` reals, then fakes, each sorted by distance from the threshold.

    Args:
        frames: Score table of the crops.
        videos: Score table of the videos; unscored videos are skipped.
        decision: Decision with the threshold.
    """
    wrong = list_mistakes(videos, decision=decision).groupby("label", sort=True).head(NUM_LISTED)
    wrong = wrong.sort_values("label", kind="stable")
    misled = _find_misleading(frames[frames["video_id"].isin(wrong["video_id"])])
    sizes = wrong["face_size"] if "face_size" in wrong else pd.Series(np.nan, index=wrong.index)
    columns = (wrong[name] for name in ("video_id", "method", "label", "score"))
    return [
        Mistake(
            video_id, str(method), Label(label), float(score), None if pd.isna(size) else float(size),
            misled.get(video_id, ""),
        )
        for video_id, method, label, score, size in zip(*columns, sizes, strict=True)
    ]  # fmt: skip


def _find_misleading(frames: pd.DataFrame) -> dict[str, str]:
    """Return, for each video, the crop with the largest difference between score and label."""
    if "crop" not in frames or frames.empty:
        return {}
    wrongness = (frames["score"] - frames["label"]).abs()
    worst = frames.loc[wrongness.groupby(frames["video_id"]).idxmax()]
    return dict(zip(worst["video_id"], worst["crop"], strict=True))


def embed_thumbnails(mistakes: Sequence[Mistake], *, root: Path, checkpoint: Checkpoint | None = None) -> list[Mistake]:
    """Add thumbnails to the first `NUM_SHOWN` mistakes of each class, up to `MAX_BYTES` in total.

    The images are embedded in the report and written nowhere else, so faces leave the machine only with this file.

    Args:
        mistakes: Result of `find_mistakes`.
        root: Root folder of the face dataset.
        checkpoint: Checkpoint for heat maps beside the thumbnails; None for no heat maps.
    """
    shown = list(_embed(mistakes, root=root))
    if checkpoint is None:
        return shown
    return _add_heatmaps(shown, root=root, checkpoint=checkpoint)


def _embed(mistakes: Sequence[Mistake], *, root: Path) -> Iterator[Mistake]:
    left, shown = MAX_BYTES, dict.fromkeys(Label, 0)
    for mistake in mistakes:
        has_room = bool(mistake.crop) and shown[mistake.truth] < NUM_SHOWN
        image = draw_thumbnail(root / mistake.crop, side=SIDE) if has_room else b""
        if not image or len(image) > left:
            yield mistake
            continue
        left -= len(image)
        shown[mistake.truth] += 1
        yield replace(mistake, thumbnail=embed_jpeg(image))


def _add_heatmaps(mistakes: Sequence[Mistake], *, root: Path, checkpoint: Checkpoint) -> list[Mistake]:
    """Add the evidence for each score to the mistakes that have a thumbnail, if the network has heat maps."""
    crops: list[Image | None] = []
    for mistake in mistakes:
        try:
            crops.append(decode_crop_file(root / mistake.crop) if mistake.thumbnail else None)
        except (MediaError, OSError):
            crops.append(None)
    maps = _map_evidence([crop for crop in crops if crop is not None], checkpoint)
    if maps is None:
        return list(mistakes)
    left, found, result = MAX_BYTES, iter(maps), []
    for mistake, crop in zip(mistakes, crops, strict=True):
        image = b"" if crop is None else encode_jpeg(_overlay(crop, next(found)), quality=80)
        fits = bool(image) and len(image) <= left
        left -= len(image) if fits else 0
        result.append(replace(mistake, heatmap=embed_jpeg(image)) if fits else mistake)
    return result


def _map_evidence(crops: Sequence[Image], checkpoint: Checkpoint) -> npt.NDArray[np.float32] | None:
    """Return a map in [0, 1] of the evidence for fake in each crop, or None if the network has no maps."""
    import torch

    from unmask.models.heatmaps import GradCam, NetworkWithMap

    if not crops:
        return None
    network = checkpoint.build_network()
    inputs = torch.stack([torch.as_tensor(_to_input(crop, checkpoint)) for crop in crops])
    if not network.has_map:
        return GradCam(network).score(inputs)[1]
    with torch.inference_mode():
        maps: npt.NDArray[np.float32] = NetworkWithMap(network)(inputs)[1].numpy()
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((maps - low) / np.maximum(high - low, 1e-6), np.float32)


def _to_input(crop: Image, checkpoint: Checkpoint) -> Any:
    return np.ascontiguousarray(prepare_input(crop, checkpoint.input_spec).transpose(2, 0, 1))


def _overlay(crop: Image, evidence: npt.NDArray[np.float32]) -> Image:
    """Return a thumbnail of a crop with its evidence in colours, from blue (little) to red (much)."""
    small = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    wide = cv2.resize(np.clip(evidence, 0, 1), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    colours = cv2.cvtColor(cv2.applyColorMap(np.uint8(wide * 255), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(small, 0.55, colours, 0.45, 0), np.uint8)
