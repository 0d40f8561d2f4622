"""Write the evaluation report: one self-contained HTML file with metrics, plots and the worst errors."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from unmask.decision import Decision
from unmask.evaluation.mistakes import NUM_LISTED, Mistake
from unmask.forgeries import SourceRecord
from unmask.metrics.plots import (
    Columns,
    Scored,
    draw_method_scores,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
    draw_scores,
    draw_training,
)
from unmask.models.checkpoint import CURVES
from unmask.page import render_page
from unmask.types import Label

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingCurves:
    """Curves of the training that a checkpoint is from.

    Args:
        path: Path of `curves.csv`, whether it exists or not.
        epoch: Number of epochs behind the checkpoint.
        columns: Its columns by name, `epoch` among them; None if there is no such file or it is not readable.
    """

    path: Path
    epoch: int
    columns: Columns | None


def read_curves(checkpoint: Path, *, epoch: int) -> TrainingCurves:
    """Read the curves that a training wrote into the run folder of its checkpoint.

    Args:
        checkpoint: Path of the checkpoint.
        epoch: Number of epochs behind it.
    """
    path = checkpoint.absolute().parent.parent / CURVES
    try:
        table = pd.read_csv(path, dtype=np.float64)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            logger.warning("Cannot read the training curves '%s': %s", path, error)
        return TrainingCurves(path, epoch, None)
    is_known = "epoch" in table and np.isfinite(table["epoch"]).all() and len(table) > 0
    if not is_known:
        logger.warning("The training curves '%s' have no epochs.", path)
    columns = {str(name): table[name].to_list() for name in table} if is_known else None
    return TrainingCurves(path, epoch, columns)


TRAINING = "training: "
"""Prefix of provenance entries about the model's training."""

_MOST_UNSCORED = 20


@runtime_checkable
class ReportSection(Protocol):
    """Interface of a custom report section, configured as `sections.<name>._target_` in `evaluate.yaml`."""

    title: str

    def render(self, frames: pd.DataFrame, videos: pd.DataFrame) -> str:
        """Return the section as HTML; it must escape all text from data.

        Args:
            frames: Score table of the crops, as in `scores_frames.parquet`.
            videos: Score table of the videos, as in `scores_videos.parquet`; the score is NaN for unscored videos.
        """
        ...


@dataclass(frozen=True)
class Report:
    """Content of the report page.

    Args:
        dataset: Name of the face dataset.
        split: Scored split.
        unit: Kind of the rows in `videos`: `video`, or `image` if the dataset holds no videos.
        decision: Threshold and aggregation, as stored in the checkpoint.
        figures: `frame`, `video`, `by_method`, `coverage`, `breakdown`, `worst_slices` and more, as in result.json.
        frames: Score table of the crops.
        videos: Score table of all videos of the split.
        model: Run, network and training data of the model, in one phrase.
        provenance: Further values needed to reproduce the evaluation (checkpoint, command, seed ...), in display
            order. Names of entries about the training begin with `training: `.
        notes: Caveats about the metrics.
        mistakes: Result of `embed_thumbnails`.
        sources: Sources of the dataset.
        trained_on: Sources of the model's training data.
        sections: Title and HTML of each custom section.
        trained_methods: Forgery methods that the training saw; empty if unknown.
        limits: Sentences on what the figures do not show.
        curves: Result of `read_curves`; None without a checkpoint.
        has_frames: Whether there are scores of frames beside those of the videos; None: unless the unit is an image.
        threshold_from: Origin of the threshold, if it is not from a checkpoint.
    """

    dataset: str
    split: str
    unit: str
    decision: Decision
    figures: Mapping[str, Any]
    frames: pd.DataFrame
    videos: pd.DataFrame
    model: str
    provenance: Mapping[str, str]
    notes: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    sources: tuple[SourceRecord, ...] = ()
    trained_on: tuple[SourceRecord, ...] = ()
    sections: tuple[tuple[str, str], ...] = ()
    trained_methods: tuple[str, ...] = ()
    limits: tuple[str, ...] = field(default_factory=tuple)
    curves: TrainingCurves | None = None
    has_frames: bool | None = None
    threshold_from: str = ""

    @property
    def with_frames(self) -> bool:
        """Whether figures per frame are shown."""
        return self.unit != "image" if self.has_frames is None else self.has_frames


def render_report(report: Report) -> str:
    """Render the HTML page; all text from data is escaped, and plots are inline SVG."""
    from markupsafe import Markup

    scored, unscored = (report.videos[report.videos["score"].notna() == known] for known in (True, False))
    return render_page(
        "unmask.evaluation",
        "report.html.jinja",
        report=report,
        training=TRAINING,
        figures=report.figures,
        plots=_draw(report, scored),
        steps=count_by_threshold(scored, report.decision.threshold),
        curves=_draw_curves(report.curves),
        wrong=_group(report.mistakes),
        sections=[(title, Markup(html)) for title, html in report.sections],
        num_listed=NUM_LISTED,
        unscored=unscored.head(_MOST_UNSCORED).to_dict("records"),
        num_more_unscored=max(len(unscored) - _MOST_UNSCORED, 0),
    )


def _draw(report: Report, scored: pd.DataFrame) -> dict[str, Any]:
    from markupsafe import Markup

    threshold = report.decision.threshold
    curves = {f"per {report.unit}": _columns(scored), "per frame": _columns(report.frames)}
    if not report.with_frames:
        curves.pop("per frame")
    plots = {
        "roc": draw_roc(curves, threshold=threshold),
        "precision_recall": draw_precision_recall(curves, threshold=threshold),
        "scores": draw_scores(_columns(scored), threshold=threshold, unit=f"{report.unit}s"),
        "methods": draw_method_scores(_by_method(scored), threshold=threshold),
        "reliability": draw_reliability(_columns(scored), unit=f"{report.unit}s"),
    }
    return {name: Markup(svg) if svg else None for name, svg in plots.items()}


def count_by_threshold(scored: pd.DataFrame, threshold: float, *, num_steps: int = 200) -> dict[str, Any]:
    """Count the reals and fakes that would be called fake at evenly spaced thresholds and at the stored one.

    Args:
        scored: Score table of the scored videos.
        threshold: Stored threshold.
        num_steps: Number of steps from 0 to 1.

    Returns:
        `thresholds`, `real` and `fake` of the same length, ascending, and `place`, the index of the stored threshold.
    """
    thresholds = np.unique(np.append(np.linspace(0, 1, num_steps + 1), threshold))
    counts = {}
    for label in Label:
        ours = np.sort(scored.loc[scored["label"] == label, "score"].to_numpy(np.float64))
        counts[label.name.lower()] = (len(ours) - np.searchsorted(ours, thresholds, side="left")).tolist()
    place = int(np.searchsorted(thresholds, threshold))
    return {"thresholds": [round(float(value), 6) for value in thresholds], "place": place, **counts}


def _draw_curves(curves: TrainingCurves | None) -> list[Any]:
    from markupsafe import Markup

    if curves is None or curves.columns is None:
        return []
    return [
        Markup(svg) for svg in draw_training(curves.columns, marked=curves.epoch, name="checkpoint: epoch").values()
    ]


def _columns(rows: pd.DataFrame) -> Scored:
    return rows["label"].to_numpy(dtype=np.int64), rows["score"].to_numpy(dtype=np.float64)


def _by_method(scored: pd.DataFrame) -> dict[str, Scored]:
    """Return labels and scores of each method, reals first."""
    ordered = sorted(scored.groupby("method", sort=True), key=lambda pair: int(pair[1]["label"].iloc[0]))
    return {str(method): _columns(rows) for method, rows in ordered}


def _group(mistakes: Sequence[Mistake]) -> list[dict[str, Any]]:
    """Group mistakes by true class, and within it into those with an image and those without."""
    groups = []
    for truth, title in ((Label.REAL, "Real, called fake"), (Label.FAKE, "Fake, called real")):
        ours = [mistake for mistake in mistakes if mistake.truth is truth]
        shown = [mistake for mistake in ours if mistake.thumbnail]
        listed = [mistake for mistake in ours if not mistake.thumbnail]
        groups.append({"title": title, "truth": truth.name.lower(), "shown": shown, "listed": listed})
    return [group for group in groups if group["shown"] or group["listed"]]
