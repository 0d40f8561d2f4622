"""The report: one HTML file that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from unmask.decision import Decision, show_score
from unmask.evaluation.mistakes import NUM_LISTED, Mistake
from unmask.forgeries import SourceRecord
from unmask.metrics.plots import Scored, draw_precision_recall, draw_roc, draw_scores
from unmask.types import Label

TRAINING = "training: "
"""Begins the names of what is known of the training of a model."""

_MOST_UNSCORED = 20


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Args:
        dataset: Name of the face dataset.
        split: Split that was scored.
        unit: What a row of `videos` is: `video`, or `image` where the dataset holds no videos.
        decision: Threshold and aggregation, as stored in the checkpoint.
        figures: `frame`, `video`, `by_method` and `coverage`, as in result.json.
        frames: Score table of the crops.
        videos: Score table of all videos of the split.
        model: Its run, network and training data.
        provenance: What else the reader must know to repeat it (checkpoint, command, seed ...), in order. Names of
            what belongs to the training begin with `training: `.
        notes: Sentences that qualify the figures.
        mistakes: What was called wrongly, the reals first, the farthest from the threshold first.
        sources: What the dataset was prepared from.
        trained_on: What the model was trained on.
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


def render_report(report: Report) -> str:
    """Render the page. Everything that comes from data is escaped; the plots are our own SVG."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = show_figure
    environment.filters["score"] = show_score
    environment.tests["about_training"] = lambda name: name.startswith(TRAINING)
    template = (files("unmask.evaluation") / "templates" / "report.html.jinja").read_text(encoding="utf-8")
    scored, unscored = (report.videos[report.videos["score"].notna() == known] for known in (True, False))
    return environment.from_string(template).render(
        report=report,
        figures=report.figures,
        plots=_draw(report, scored),
        wrong=_group(report.mistakes),
        num_listed=NUM_LISTED,
        unscored=unscored.head(_MOST_UNSCORED).to_dict("records"),
        num_more_unscored=max(len(unscored) - _MOST_UNSCORED, 0),
    )


def show_figure(value: float | int | None) -> str:
    """Write a figure as a reader expects it: counts whole, ratios with four digits, a dash for what has no value."""
    if value is None:
        return "–"  # noqa: RUF001
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _draw(report: Report, scored: pd.DataFrame) -> dict[str, Any]:
    from markupsafe import Markup

    threshold = report.decision.threshold
    curves = {f"per {report.unit}": _columns(scored), "per frame": _columns(report.frames)}
    if report.unit == "image":
        curves.pop("per frame")
    plots = {
        "roc": draw_roc(curves, threshold=threshold),
        "precision_recall": draw_precision_recall(curves, threshold=threshold),
        "scores": draw_scores(_columns(scored), threshold=threshold, unit=f"{report.unit}s"),
    }
    return {name: Markup(svg) if svg else None for name, svg in plots.items()}


def _columns(rows: pd.DataFrame) -> Scored:
    return rows["label"].to_numpy(dtype=np.int64), rows["score"].to_numpy(dtype=np.float64)


def _group(mistakes: Sequence[Mistake]) -> list[dict[str, Any]]:
    """Part wrong calls by their truth; those with an image come apart from those that are only listed."""
    groups = []
    for truth, title in ((Label.REAL, "Real, called fake"), (Label.FAKE, "Fake, called real")):
        ours = [mistake for mistake in mistakes if mistake.truth is truth]
        shown = [mistake for mistake in ours if mistake.thumbnail]
        listed = [mistake for mistake in ours if not mistake.thumbnail]
        groups.append({"title": title, "truth": truth.name.lower(), "shown": shown, "listed": listed})
    return [group for group in groups if group["shown"] or group["listed"]]
