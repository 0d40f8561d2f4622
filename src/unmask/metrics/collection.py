"""Metrics per frame and per video during training (torchmetrics)."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryAveragePrecision, BinaryF1Score
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_average_precision,
    binary_f1_score,
)
from torchmetrics.utilities import dim_zero_cat

from unmask.data.dataset import TRACK_STEP
from unmask.decision import check_aggregation
from unmask.metrics.scores import aggregate_scores
from unmask.metrics.threshold import AUTO, choose_aggregation


def _median(scores: Tensor) -> Tensor:
    """Average the middle two of an even number of scores, like `Decision.aggregate`; `torch.median` takes the lower."""
    return scores.quantile(0.5)


_TORCH: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "median": _median, "max": torch.amax}

FIGURES = ("accuracy", "f1", "auroc", "auprc")
"""Metrics reported per frame, and per video with the prefix `video_`; higher is better for all of them."""


class VideoMetrics(Metric):
    """Compute accuracy, F1, ROC-AUC and PR-AUC per video from aggregated frame scores.

    Args:
        aggregation: Aggregation of a video's frame scores, or `auto` for the best one of each epoch; see
            `unmask.decision.AGGREGATIONS`.
        has_videos: Whether the crops come from videos; otherwise scores are gathered, but nothing is reported.
        further: Additional metrics of scores and labels by name, reported per video.

    Raises:
        ConfigError: Unknown aggregation.
    """

    full_state_update = False
    preds: list[Tensor]
    target: list[Tensor]
    videos: list[Tensor]
    rows: list[Tensor]
    frames: list[Tensor]

    def __init__(
        self, *, aggregation: str = "mean", has_videos: bool = True, further: Mapping[str, Metric] | None = None
    ) -> None:
        super().__init__()
        self._further = dict(further or {})
        check_aggregation(aggregation, more=(AUTO,))
        self._asked = aggregation
        self.aggregation = "mean" if aggregation == AUTO else aggregation
        self.has_videos = has_videos
        self.gathered: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        for name in ("preds", "target", "videos", "rows", "frames"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor, videos: Tensor, rows: Tensor, frames: Tensor | None = None) -> None:
        """Add frames.

        Args:
            preds: Scores in [0, 1], shape `(N,)`.
            target: Labels, shape `(N,)`.
            videos: Video number of each frame, shape `(N,)`.
            rows: Row of each frame in the table, shape `(N,)`. Sorting by row makes the metrics identical to the last
                bit, no matter how the processes share the frames.
            frames: Frame number of each crop within its video, shape `(N,)`; None if no two are from one frame.
        """
        self.preds.append(preds.detach())
        self.target.append(target)
        self.videos.append(videos)
        self.rows.append(rows)
        self.frames.append(rows if frames is None else frames)

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by name.

        Afterwards, `gathered` holds the frame scores, labels, video and frame numbers of all processes in table order,
        and `aggregation` the one that was used.
        """
        order = torch.argsort(dim_zero_cat(self.rows))
        names = ("preds", "target", "videos", "frames")
        preds, target, videos, frames = (dim_zero_cat(getattr(self, name))[order] for name in names)
        self.gathered = (preds.cpu(), target.cpu(), videos.cpu(), frames.cpu())
        if not self.has_videos:
            return {}
        if self._asked == AUTO:
            taken = videos >= 0
            _, numbers = torch.unique(videos[taken], return_inverse=True)
            plain = (values.cpu().numpy() for values in (target[taken], preds[taken].double(), numbers))
            self.aggregation = choose_aggregation(*plain, frames=frames[taken].cpu().numpy())
        scores, labels = aggregate_videos(preds, target, videos, aggregation=self.aggregation, frames=frames)
        return {
            "video_accuracy": binary_accuracy(scores, labels),
            "video_f1": binary_f1_score(scores, labels),
            "video_auroc": binary_auroc(scores, labels),
            "video_auprc": binary_average_precision(scores, labels),
            **{f"video_{name}": _compute_once(metric, scores, labels) for name, metric in self._further.items()},
        }


def _compute_once(metric: Metric, scores: Tensor, labels: Tensor) -> Tensor:
    """Compute a metric from scores that are already gathered from all processes."""
    fresh = copy.deepcopy(metric).to(scores.device)
    fresh.reset()
    fresh.sync_on_compute = False
    fresh.update(scores, labels)
    value: Tensor = fresh.compute()
    return value


def aggregate_videos(
    preds: Tensor, target: Tensor, videos: Tensor, *, aggregation: str, frames: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return one score and one label per video, in the order of the video numbers.

    Of several people in a video, the one with the highest score decides; `frame_max` takes the highest face of each
    frame, of whatever person.

    `unmask.metrics.scores.aggregate_videos` does the same for tables, in float64. Here the mean, median and maximum
    keep the dtype and device of the network, and the other aggregations the dtype.

    Args:
        preds: Frame scores, shape `(N,)`.
        target: Frame labels, shape `(N,)`.
        videos: Video number of each frame, shape `(N,)`, with the track from `unmask.data.dataset.number_videos`.
        aggregation: See `unmask.decision.AGGREGATIONS`.
        frames: Frame number of each score, for `frame_max`.
    """
    taken = videos >= 0
    preds, target, videos = preds[taken], target[taken], videos[taken]
    units = videos % TRACK_STEP if aggregation == "frame_max" else videos
    order = torch.argsort(units, stable=True)
    found, numbers, counts = torch.unique_consecutive(units[order], return_inverse=True, return_counts=True)
    sizes = counts.tolist()
    labels = torch.stack([part[0] for part in torch.split(target[order], sizes)])
    reduce = _TORCH.get(aggregation)
    if reduce is not None:
        scores = torch.stack([reduce(part) for part in torch.split(preds[order], sizes)])
    else:
        of_frames = None if frames is None else frames[taken][order].cpu().numpy()
        values = preds[order].double().cpu().numpy()
        made = aggregate_scores(values, numbers.cpu().numpy(), aggregation=aggregation, frames=of_frames)
        scores = torch.from_numpy(made).to(preds)
    return _take_highest(scores, labels, found % TRACK_STEP)


def _take_highest(scores: Tensor, labels: Tensor, videos: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest score of each video, and its label."""
    _, places = torch.unique(videos, return_inverse=True)
    if len(videos) == int(places.max()) + 1:  # one track per video
        return scores, labels
    highest = torch.zeros_like(scores[: int(places.max()) + 1]).scatter_reduce(0, places, scores, "amax")
    first = torch.zeros_like(labels[: len(highest)]).scatter(0, places, labels)
    return highest, first


def build_metrics(
    *, aggregation: str, has_videos: bool, further: Mapping[str, Metric] | None = None
) -> MetricCollection:
    """Build the metrics that training reports, without a prefix.

    Args:
        aggregation: Aggregation of a video's frame scores, or `auto`.
        has_videos: Whether metrics are also reported per video.
        further: Custom metrics by name, updated with scores in [0, 1] and labels, both of shape `(N,)`.
    """
    return MetricCollection(
        {
            "accuracy": BinaryAccuracy(),
            "f1": BinaryF1Score(),
            "auroc": BinaryAUROC(),
            "auprc": BinaryAveragePrecision(),
            "videos": VideoMetrics(aggregation=aggregation, has_videos=has_videos, further=further),
            **(further or {}),
        },
        compute_groups=False,
    )
