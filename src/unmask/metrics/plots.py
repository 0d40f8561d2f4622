"""Draw curves and distributions as SVG for the HTML report and the artifacts of a run."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from unmask.decision import show_score
from unmask.types import Label

Scored = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Labels and scores, each of shape `(N,)`."""

INK, GRID = "#3d4451", "#dfe3ea"
CURVES = ("#2453d6", "#8a94a6", "#0f9d8a", "#c2410c")
CLASSES = {Label.REAL: "#0f8a6d", Label.FAKE: "#d6453d"}
MAX_POINTS = 400

_LETTERS = 11
"""Font size in points, legible on a phone, which shows a plot at about its original width."""


def draw_roc(curves: Mapping[str, Scored], *, threshold: float) -> str | None:
    """Draw the ROC curve of each entry, with a dot at the threshold.

    Args:
        curves: Labels and scores by name; entries with a single class are left out.
        threshold: Threshold marked on every curve.

    Returns:
        The SVG, or None if there is nothing to draw.
    """
    figure, axes = _square(xlabel="False positive rate (reals called fake)", ylabel="True positive rate (fakes found)")
    axes.plot([0, 1], [0, 1], color=GRID, linewidth=1, zorder=1)
    drawn = _drawable(curves)
    for colour, (name, (labels, scores)) in zip(CURVES, drawn.items(), strict=False):
        false_rate, true_rate, _ = roc_curve(labels, scores)
        axes.plot(*_thin(false_rate, true_rate), color=colour, linewidth=2, label=name, clip_on=False)
        called = scores >= threshold
        _mark(axes, called[labels == Label.REAL].mean(), called[labels == Label.FAKE].mean(), colour)
    return _svg(figure, axes, legend="lower right") if drawn else None


def draw_precision_recall(curves: Mapping[str, Scored], *, threshold: float) -> str | None:
    """Draw the precision-recall curve of each entry, with its share of fakes (the chance level) as a dotted line.

    Args:
        curves: Labels and scores by name; entries with a single class are left out.
        threshold: Threshold marked on every curve.
    """
    figure, axes = _square(xlabel="Recall (fakes found)", ylabel="Precision (called fake and fake)")
    drawn = _drawable(curves)
    for colour, (name, (labels, scores)) in zip(CURVES, drawn.items(), strict=False):
        precision, recall, _ = precision_recall_curve(labels, scores)
        axes.plot(*_thin(recall, precision), color=colour, linewidth=2, label=name, clip_on=False)
        axes.axhline(labels.mean(), color=colour, linewidth=1, linestyle=":", alpha=0.8)
        called = scores >= threshold
        if called.any():
            _mark(axes, called[labels == Label.FAKE].mean(), labels[called].mean(), colour)
    return _svg(figure, axes, legend="lower left") if drawn else None


def draw_scores(scored: Scored, *, threshold: float, unit: str) -> str | None:
    """Draw the score distributions of reals and fakes.

    Args:
        scored: Labels and scores.
        threshold: Threshold, drawn as a line.
        unit: Unit that is counted, for the axis label, such as `videos`.
    """
    labels, scores = scored
    if len(labels) == 0:
        return None
    figure, axes = _square(xlabel="Score, P(fake)", ylabel=f"Share of the class's {unit}", width=4.8, height=3.6)
    highest = 0.0
    for label, colour in CLASSES.items():
        ours = scores[labels == label]
        if len(ours):
            counts, edges = np.histogram(ours, bins=25, range=(0, 1))
            name = f"{label.name.lower()} ({len(ours)})"
            axes.stairs(counts / len(ours), edges, fill=True, color=colour, alpha=0.55, label=name)
            highest = max(highest, counts.max() / len(ours))
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--", label=f"threshold {show_score(threshold)}")
    axes.set_ylim(0, highest * 1.05)
    return _svg(figure, axes, legend="outside upper left")


def draw_confusion(scored: Scored, *, threshold: float, unit: str) -> str | None:
    """Draw the confusion matrix.

    Args:
        scored: Labels and scores.
        threshold: Lowest score that counts as fake.
        unit: Unit that is counted, such as `videos`.
    """
    labels, scores = scored
    if len(labels) == 0:
        return None
    figure, axes = _square(xlabel=f"Called, of all {unit}", ylabel="Truth")
    names = [label.name.lower() for label in Label]
    counts = np.array(
        [[((labels == truth) & ((scores >= threshold) == call)).sum() for call in Label] for truth in Label]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, extent=(0, 1, 1, 0), aspect="auto")
    for row, column in np.ndindex(2, 2):
        text = f"{counts[row, column]}\n{shares[row, column]:.1%}"
        colour = "white" if shares[row, column] > 0.6 else INK
        axes.text(column / 2 + 0.25, row / 2 + 0.25, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=(0.25, 0.75), yticks=(0.25, 0.75), xticklabels=names, yticklabels=names)
    axes.grid(visible=False)
    return _svg(figure, axes)


def draw_reliability(scored: Scored, *, unit: str, num_bins: int = 10) -> str | None:
    """Draw the share of fakes against the mean score; calibrated scores lie on the diagonal.

    Args:
        scored: Labels and scores.
        unit: Unit that is counted, such as `videos`.
        num_bins: Number of equal-width score bins; empty ones are left out.
    """
    labels, scores = scored
    if len(labels) == 0:
        return None
    figure, axes = _square(xlabel="Score, P(fake)", ylabel=f"Share of the {unit} with it that are fake")
    axes.plot([0, 1], [0, 1], color=GRID, linewidth=1, zorder=1)
    bins = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    seen = counts > 0
    mean_score = np.bincount(bins, weights=scores, minlength=num_bins)[seen] / counts[seen]
    share = np.bincount(bins, weights=labels, minlength=num_bins)[seen] / counts[seen]
    error = float((np.abs(mean_score - share) * counts[seen]).sum() / len(labels))
    axes.plot(
        mean_score, share, "o-", color=CURVES[0], linewidth=2, clip_on=False, label=f"calibration error {error:.3f}"
    )
    return _svg(figure, axes, legend="upper left")


def draw_search(xs: Sequence[float], ys: Sequence[float], *, found: float, xlabel: str, ylabel: str) -> str:
    """Draw the values that a search tried on a logarithmic axis, with a line at the one it chose.

    Args:
        xs: Values tried, greater than 0, shape `(N,)`.
        ys: Result of each value, shape `(N,)`.
        found: Chosen value: one of `xs`, or one in between.
        xlabel: Label of the values.
        ylabel: Label of the results.
    """
    figure, axes = _square(xlabel=xlabel, ylabel=ylabel)
    axes.set_xscale("log")
    axes.plot(xs, ys, color=CURVES[0], linewidth=2, marker="o" if len(xs) < 20 else None)
    axes.axvline(found, color=CURVES[3], linewidth=1.5, label=f"found: {found:.3g}")
    axes.autoscale()
    return _svg(figure, axes, legend="outside upper center")


def _square(*, xlabel: str, ylabel: str, width: float = 4.4, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel(xlabel, color=INK, fontsize=_LETTERS)
    axes.set_ylabel(ylabel, color=INK, fontsize=_LETTERS)
    axes.tick_params(colors=INK, labelsize=_LETTERS, length=0, pad=6)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure, axes


def _svg(figure: Figure, axes: Axes, *, legend: str | None = None) -> str:
    if legend is not None:
        owner: Any = figure if legend.startswith("outside") else axes
        owner.legend(loc=legend, frameon=False, fontsize=_LETTERS, labelcolor=INK, ncols=2 if owner is figure else 1)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _mark(axes: Axes, x: float, y: float, colour: str) -> None:
    axes.plot([x], [y], "o", color=colour, markersize=6, clip_on=False)


def _drawable(curves: Mapping[str, Scored]) -> dict[str, Scored]:
    return {name: pair for name, pair in curves.items() if len(set(pair[0].tolist())) == len(Label)}


def _thin(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Scored:
    """Thin out a curve to `MAX_POINTS`: a curve of a million crops would take many megabytes."""
    if len(x) <= MAX_POINTS:
        return x, y
    keep = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int))
    return x[keep], y[keep]
