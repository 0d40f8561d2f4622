"""Figures of the validation split at the best epoch, as files of the run: curves, and the faces it got most wrong."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pandas as pd

from unmask.decision import Decision
from unmask.media.image import decode_crop_file, write_jpeg
from unmask.metrics.collection import aggregate_videos
from unmask.models.classifier import DeepfakeClassifier
from unmask.types import Image, Label

_TILE = 112
_NUM_WORST = 8


@dataclass(frozen=True)
class BestScores:
    """Scores of the validation split at the best epoch.

    Args:
        scores: Of the crops, in the order of the loader.
        labels: Of the crops.
        videos: Number of the video of each.
        decision: Chosen on them.
    """

    scores: Any
    labels: Any
    videos: Any
    decision: Decision


class ScoreKeeper(L.Callback):
    """Keep the validation scores of the epoch with the highest objective.

    Args:
        objective: Metric key.
        keeps_past: Whether a resumed training goes on from the best epoch of its checkpoint.
    """

    def __init__(self, objective: str, *, keeps_past: bool = True) -> None:
        self.keeps_past = keeps_past
        self.best: BestScores | None = None
        self._objective = objective
        self._highest = float("-inf")

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch so far."""
        if self.best is None:
            return {}
        best = {**vars(self.best), "decision": self.best.decision.to_dict()}
        return {"highest": self._highest, "objective": self._objective, "best": best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best epoch of the training that is resumed, where it was judged alike."""
        if self.keeps_past and state_dict.get("objective") == self._objective:
            best = state_dict["best"]
            self.best = BestScores(**{**best, "decision": Decision.from_dict(best["decision"])})
            self._highest = state_dict["highest"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the epoch with the best one so far."""
        assert isinstance(pl_module, DeepfakeClassifier)
        gathered: Any = pl_module.val_metrics["videos"].gathered
        value = trainer.callback_metrics.get(self._objective)
        if gathered is None or value is None or (self.best is not None and float(value) <= self._highest):
            return
        self._highest = float(value)
        scores, labels, videos = gathered
        self.best = BestScores(scores, labels, videos, pl_module.decision)


def write_figures(best: BestScores, folder: Path, *, table: pd.DataFrame, root: Path, has_videos: bool) -> list[Path]:
    """Write the figures, those that can be drawn; return their paths.

    Args:
        best: Scores and decision.
        folder: Of the files.
        table: The validation crops in the order of the loader.
        root: Of the face dataset.
        has_videos: Whether the crops come from videos: the curves are of videos then, beside those of frames.
    """
    from unmask.metrics.plots import draw_confusion, draw_precision_recall, draw_reliability, draw_roc, draw_scores

    scored = (best.labels.numpy(), best.scores.double().numpy())
    unit, curves = "images", {"images": scored}
    if has_videos:
        scores, labels = aggregate_videos(best.scores, best.labels, best.videos, aggregation=best.decision.aggregation)
        curves = {"videos": (labels.numpy(), scores.double().numpy()), "frames": scored}
        unit = "videos"
    threshold = best.decision.threshold
    drawn = {
        "roc": draw_roc(curves, threshold=threshold),
        "precision_recall": draw_precision_recall(curves, threshold=threshold),
        "scores": draw_scores(curves[unit], threshold=threshold, unit=unit),
        "confusion": draw_confusion(curves[unit], threshold=threshold, unit=unit),
        "reliability": draw_reliability(curves[unit], unit=unit),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, svg in drawn.items():
        if svg is not None:
            (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
            written.append(folder / f"{name}.svg")
    return written + _write_worst(scored, folder, table=table, root=root)


def _write_worst(scored: tuple[Any, Any], folder: Path, *, table: pd.DataFrame, root: Path) -> list[Path]:
    """Write a sheet per class of the crops whose score is farthest from their label, with the score on each."""
    labels, scores = scored
    rows = table.iloc[: len(labels)]
    if not np.array_equal(rows["label"].to_numpy(), labels):
        return []  # several processes shared the split, so that its order is not the table's
    written = []
    for label in Label:
        of_class = np.flatnonzero(labels == label)
        worst = of_class[np.argsort(-np.abs(scores[of_class] - label), kind="stable")][:_NUM_WORST]
        if len(worst):
            path = folder / f"worst_{label.name.lower()}.jpg"
            tiles = [_tile(decode_crop_file(root / rows["crop"].iloc[index]), float(scores[index])) for index in worst]
            write_jpeg(path, np.concatenate(tiles, axis=1), quality=90)
            written.append(path)
    return written


def _tile(crop: Image, score: float) -> Image:
    tile = cv2.resize(crop, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
    cv2.rectangle(tile, (0, _TILE - 18), (_TILE, _TILE), (0, 0, 0), -1)
    cv2.putText(tile, f"{score:.4f}", (6, _TILE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(tile, np.uint8)
