"""Write the evaluation report: one self-contained HTML file with metrics, plots and the worst errors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from unmask.decision import Decision
from unmask.forgeries import SourceRecord
from unmask.metrics.plots import Scored, draw_precision_recall, draw_roc, draw_scores
from unmask.page import draw_thumbnail, embed_jpeg, render_page
from unmask.types import Label

NUM_LISTED = 20
"""Maximum number of mistakes listed per class."""

NUM_SHOWN = 8
"""Maximum number of mistakes shown with an image per class."""

SIDE = 112
"""Thumbnail size in pixels."""

MAX_BYTES = 160_000
"""Maximum size of all thumbnails together in bytes."""


@dataclass(frozen=True)
class Mistake:
    """A video or image on the wrong side of the threshold.

    Args:
        video_id: ID of the video or image.
        method: Forgery method; for reals, the name of their class, such as `original`.
        truth: Ground-truth label.
        score: P(fake) in [0, 1].
        crop: Path of its most misleading crop relative to the dataset root, or "" if unknown.
        thumbnail: Data URI of that crop, or "" if it is not shown.
    """

    video_id: str
    method: str
    truth: Label
    score: float
    crop: str = ""
    thumbnail: str = ""


def find_mistakes(frames: pd.DataFrame, videos: pd.DataFrame, *, decision: Decision) -> list[Mistake]:
    """List the mistakes: up to `NUM_LISTED` reals, then fakes, each sorted by distance from the threshold.

    Args:
        frames: Score table of the crops.
        videos: Score table of the videos; unscored videos are skipped.
        decision: Decision with the threshold.
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
    """Return, for each video, the crop with the largest difference between score and label."""
    wrongness = (frames["score"] - frames["label"]).abs()
    worst = frames.loc[wrongness.groupby(frames["video_id"]).idxmax()]
    return dict(zip(worst["video_id"], worst["crop"], strict=True))


def embed_thumbnails(mistakes: list[Mistake], *, root: Path) -> list[Mistake]:
    """Add thumbnails to the first `NUM_SHOWN` mistakes of each class, up to `MAX_BYTES` in total.

    The images are embedded in the report and written nowhere else, so faces leave the machine only with this file.

    Args:
        mistakes: Result of `find_mistakes`.
        root: Root folder of the face dataset.
    """
    return list(_embed(mistakes, root=root))


def _embed(mistakes: list[Mistake], *, root: Path) -> Iterator[Mistake]:
    left, shown = MAX_BYTES, dict.fromkeys(Label, 0)
    for mistake in mistakes:
        image = draw_thumbnail(root / mistake.crop, side=SIDE) if shown[mistake.truth] < NUM_SHOWN else b""
        if not image or len(image) > left:
            yield mistake
            continue
        left -= len(image)
        shown[mistake.truth] += 1
        yield replace(mistake, thumbnail=embed_jpeg(image))


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
        figures: `frame`, `video`, `by_method` and `coverage`, as in result.json.
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
    """Group mistakes by true class, and within it into those with an image and those without."""
    groups = []
    for truth, title in ((Label.REAL, "Real, called fake"), (Label.FAKE, "Fake, called real")):
        ours = [mistake for mistake in mistakes if mistake.truth is truth]
        shown = [mistake for mistake in ours if mistake.thumbnail]
        listed = [mistake for mistake in ours if not mistake.thumbnail]
        groups.append({"title": title, "truth": truth.name.lower(), "shown": shown, "listed": listed})
    return [group for group in groups if group["shown"] or group["listed"]]
