"""The report: one self-contained HTML file, with the calls that were most wrong."""

import base64
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import pandas as pd

from unmask.decision import Decision, show_score
from unmask.errors import MediaError
from unmask.forgeries import SourceRecord
from unmask.media.image import decode_crop_file, encode_jpeg
from unmask.metrics.plots import Scored, draw_precision_recall, draw_roc, draw_scores
from unmask.types import Label

logger = logging.getLogger(__name__)

NUM_LISTED = 20
"""Of each truth."""

NUM_SHOWN = 8
"""Of each truth, with an image."""

SIDE = 112
"""Of an image in pixels."""

MAX_BYTES = 160_000
"""That all images together may take in the report."""


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
        image = _draw_thumbnail(root / mistake.crop) if shown[mistake.truth] < NUM_SHOWN else b""
        if not image or len(image) > left:
            yield mistake
            continue
        left -= len(image)
        shown[mistake.truth] += 1
        yield replace(mistake, thumbnail="data:image/jpeg;base64," + base64.b64encode(image).decode())


def _draw_thumbnail(path: Path) -> bytes:
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


TRAINING = "training: "
"""Begins the names of what is known of the training of a model."""

_MOST_UNSCORED = 20


@runtime_checkable
class ReportSection(Protocol):
    """A section of one's own in the report, given as `sections.<name>._target_` of `evaluate.yaml`."""

    title: str

    def render(self, frames: pd.DataFrame, videos: pd.DataFrame) -> str:
        """Return the section as HTML, with everything that comes from data escaped.

        Args:
            frames: Scores of the crops, as in `scores_frames.parquet`.
            videos: Scores of the videos, as in `scores_videos.parquet`; NaN where nothing could be scored.
        """
        ...


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
        sections: Further sections, title and HTML.
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


def render_report(report: Report) -> str:
    """Render the page. Everything that comes from data is escaped; the plots are our own SVG."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

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
        sections=[(title, Markup(html)) for title, html in report.sections],
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
