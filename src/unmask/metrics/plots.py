"""Draw curves and distributions as SVG for the HTML report and the artifacts of a run."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from unmask.decision import show_score
from unmask.types import Label

Scored = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Labels and scores, each of shape `(N,)`."""

INK, GRID = "#3d4451", "#dfe3ea"
CURVES = ("#2453d6", "#8a94a6", "#0f9d8a", "#c2410c")
CLASSES = {Label.REAL: "#0f8a6d", Label.FAKE: "#d6453d"}
MAX_POINTS = 400
_LEVEL_COLOURS = (CURVES[0], CURVES[2], CURVES[1])

_LETTERS = 11
"""Font size in points, legible on a phone, which shows a plot at about its original width."""

_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": _LETTERS, "labelcolor": INK}


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


def draw_method_scores(methods: Mapping[str, Scored], *, threshold: float) -> str | None:
    """Draw the distribution of the scores of each method as a box plot: quartiles, and whiskers from 5 % to 95 %.

    Args:
        methods: Labels and scores by method, in order from top to bottom.
        threshold: Threshold, drawn as a line.
    """
    if not methods:
        return None
    names = list(methods)
    figure, axes = _square(xlabel="Score, P(fake)", ylabel="", width=4.8, height=1.2 + 0.34 * len(names))
    drawn = axes.boxplot(
        [scores for _, scores in methods.values()], orientation="horizontal", whis=(5, 95), widths=0.6,
        patch_artist=True, showfliers=False, medianprops={"color": INK, "linewidth": 1.5},
        boxprops={"linewidth": 0}, whiskerprops={"color": INK}, capprops={"color": INK},
    )  # fmt: skip
    for box, (labels, _) in zip(drawn["boxes"], methods.values(), strict=True):
        box.set(facecolor=CLASSES[Label(int(labels[0]))], alpha=0.6)
    axes.set(xlim=(0, 1), ylim=(len(names) + 0.6, 0.4))
    axes.set_yticks(range(1, len(names) + 1), [_shorten(name) for name in names])
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--")
    return _svg(figure, axes)


def _shorten(name: str, *, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


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


Columns = Mapping[str, Sequence[float]]
"""Columns of `curves.csv` by name, `epoch` among them; NaN where an epoch has no value."""

_PANELS = {
    "loss": ("Loss", {"train/loss": "training", "val/loss": "validation"}),
    "auc": ("ROC-AUC on validation", {"val/video_auroc": "per video", "val/auroc": "per frame"}),
    "accuracy": ("Accuracy on validation", {"val/video_accuracy": "per video", "val/accuracy": "per frame"}),
    "learning_rate": ("Learning rate", {"lr": "", "lr/backbone": "backbone", "lr/head": "head"}),
}
"""Label of the values in each panel of the training curves, and a name for each column drawn in it."""

_SHARES = ("auc", "accuracy")
_MOST_DOTS = 30


def draw_training(columns: Columns, *, marked: int | None, name: str) -> dict[str, str]:
    """Draw loss, ROC-AUC, accuracy and learning rate over the epochs of a training, a plot for each that is known.

    Args:
        columns: Columns of `curves.csv`.
        marked: Epoch at a vertical line, from 1; None for no line.
        name: Name of that line.
    """
    drawn = {}
    for panel in _PANELS:
        figure, axes = _square(xlabel="", ylabel="", width=4.6, height=3.2)
        if _draw_panel(axes, panel, columns, marked=marked, name=name):
            has_names = bool(axes.get_legend_handles_labels()[1])
            drawn[panel] = _svg(figure, axes, legend="outside upper left" if has_names else None)
    return drawn


def draw_training_sheet(columns: Columns, *, marked: int | None, name: str) -> bytes:
    """Draw the plots of `draw_training` side by side as PNG; an unknown one says so.

    Args:
        columns: Columns of `curves.csv`.
        marked: Epoch at a vertical line, from 1; None for no line.
        name: Name of that line.
    """
    figure = Figure(figsize=(10.4, 7.2), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        _style(axes, xlabel="", ylabel="")
        if _draw_panel(axes, panel, columns, marked=marked, name=name):
            if axes.get_legend_handles_labels()[1]:
                place: dict[str, Any] = {
                    "loc": "lower left",
                    "bbox_to_anchor": (0, 1),
                    "borderaxespad": 0.2,
                    "ncols": 3,
                }
                axes.legend(**place, **_LEGEND, handlelength=1.6, columnspacing=1.2)
        else:
            axes.set(xticks=(), yticks=(), ylabel=_PANELS[panel][0])
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=INK, fontsize=_LETTERS)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _draw_panel(axes: Axes, panel: str, columns: Columns, *, marked: int | None, name: str) -> bool:
    """Draw the columns of a panel that have a value; tell whether there are any."""
    ylabel, names = _PANELS[panel]
    epochs = np.asarray(columns["epoch"], dtype=np.float64)
    values = {key: np.asarray(columns[key], dtype=np.float64) for key in names if key in columns}
    values = {key: column for key, column in values.items() if np.isfinite(column).any()}
    if not values:
        return False
    for colour, (key, column) in zip(CURVES, values.items(), strict=False):
        known = np.isfinite(column)
        label = names[key] if panel not in _SHARES or len(values) > 1 else ""
        dots = "o" if len(epochs) <= _MOST_DOTS else None
        axes.plot(
            *_thin(epochs[known], column[known]), color=colour, linewidth=2, marker=dots, markersize=4, label=label
        )
    if marked is not None:
        axes.axvline(marked, color=INK, linewidth=1.2, linestyle="--", label=f"{name} {marked}")
    axes.set_xlabel("Epoch", color=INK, fontsize=_LETTERS)
    axes.set_ylabel(ylabel, color=INK, fontsize=_LETTERS)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    first, last = epochs.min(), epochs.max()
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.set_ylim(auto=True)
    axes.autoscale(axis="y")
    if panel in _SHARES:
        axes.set_ylim(max(axes.get_ylim()[0], 0.0), min(axes.get_ylim()[1], 1.005))
    elif panel == "learning_rate":
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(bottom=0)
    return True


def draw_levels(panels: Mapping[str, tuple[Sequence[int], Mapping[str, Sequence[float | None]]]]) -> str:
    """Draw figures against the level of a perturbation: a panel per kind of perturbation, with shared axes.

    Args:
        panels: For each title, levels (0 without perturbation) and figures in [0, 1] by name; None leaves a gap.
    """
    columns = min(max(len(panels), 1), 4)
    rows = -(-max(len(panels), 1) // columns)
    layout = ConstrainedLayoutEngine(wspace=0.08)
    figure = Figure(figsize=(2.7 * columns + 0.4, 2.4 * rows + 0.7), layout=layout)
    FigureCanvasSVG(figure)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (title, (levels, lines)) in zip(grid.flat, panels.items(), strict=False):
        _style(axes)
        axes.set(ylim=(0, 1), xlim=(0, 5))
        axes.set_xticks(range(6), ["clean", *map(str, range(1, 6))])
        axes.set_title(title, color=INK, fontsize=_LETTERS, loc="left")
        axes.axhline(0.5, color=CURVES[1], linewidth=1, linestyle=":", zorder=1)
        for colour, style, (name, values) in zip(_LEVEL_COLOURS, ("-", "-", "--"), lines.items(), strict=False):
            heights = [np.nan if value is None else value for value in values]
            axes.plot(levels, heights, style, color=colour, linewidth=2, label=name, clip_on=False, marker="o", ms=4)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for column in range(columns):  # below a panel that is missing in the last row
        last = max((row for row in range(rows) if row * columns + column < len(panels)), default=0)
        grid[last, column].tick_params(labelbottom=True)
    figure.supxlabel("Level of the perturbation", color=INK, fontsize=_LETTERS)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", frameon=False, fontsize=_LETTERS, labelcolor=INK, ncols=3)
    return _save(figure)


def _square(*, xlabel: str, ylabel: str, width: float = 4.4, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _style(axes, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _style(axes: Axes, *, xlabel: str = "", ylabel: str = "") -> None:
    axes.set_xlabel(xlabel, color=INK, fontsize=_LETTERS)
    axes.set_ylabel(ylabel, color=INK, fontsize=_LETTERS)
    axes.tick_params(colors=INK, labelsize=_LETTERS, length=0, pad=6)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _svg(figure: Figure, axes: Axes, *, legend: str | None = None) -> str:
    if legend is not None:
        owner: Any = figure if legend.startswith("outside") else axes
        owner.legend(loc=legend, ncols=2 if owner is figure else 1, **_LEGEND)
    return _save(figure)


def _save(figure: Figure) -> str:
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
