"""Print the results of evaluations."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.evaluation.matrix import Matrix
    from unmask.evaluation.robustness import Robustness
    from unmask.evaluation.run import Evaluation

_ROWS = (
    ("ROC-AUC", "auroc"),
    ("PR-AUC", "auprc"),
    ("accuracy", "accuracy"),
    ("balanced accuracy", "balanced_accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
    ("MCC", "mcc"),
    ("equal error rate", "eer"),
    ("half total error rate", "hter"),
)


def print_figures(evaluation: "Evaluation", *, split: str) -> None:
    """Print the figures of a checkpoint on a dataset, and where the results are."""
    from rich.console import Console
    from rich.table import Table

    from unmask.decision import show_score

    figures, unit = evaluation.figures, "video" if evaluation.has_videos else "image"
    levels = ["video", "frame"] if evaluation.has_videos else ["video"]
    table = Table(title=f"{evaluation.dataset}, {split} split", title_justify="left")
    table.add_column("")
    for level in levels:
        table.add_column(f"per {unit if level == 'video' else level}", justify="right")
    for name, key in _ROWS:
        table.add_row(name, *(_show_figure(figures[level], key) for level in levels))
    table.add_row("real / fake", *(f"{figures[level]['num_real']} / {figures[level]['num_fake']}" for level in levels))
    table.add_section()
    for method, entry in figures["by_method"].items():
        table.add_row(f"ROC-AUC {method}", *(_show_figure(entry[level], "auroc") for level in levels))
    console, decision, coverage = Console(), evaluation.decision, figures["coverage"]
    console.print(table)
    lines = [
        f"threshold {show_score(decision['threshold'])} (criterion {decision['criterion']}, from the checkpoint), "
        f"{decision['aggregation']} of frame scores",
        f"{coverage['num_scored']} of {coverage['num_videos']} {unit}s scored",
        f"report  {evaluation.report}",
        f"scores  {evaluation.scores}",
    ]
    for line in [f"note: {note}" for note in evaluation.notes] + lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_matrix(matrix: "Matrix") -> None:
    """Print the ROC-AUC of each checkpoint on each dataset, and paired comparisons."""
    from rich.console import Console
    from rich.table import Table

    from unmask.evaluation.matrix import list_cells

    table = Table(title="ROC-AUC per video or image, with intervals of 95 %", title_justify="left")
    for name in ("checkpoint", *matrix.datasets, "mean", "worst", "gap"):
        table.add_column(name, justify="left" if name == "checkpoint" else "right")
    cells: dict[str, list[str]] = {}
    for cell in list_cells(matrix):
        interval = "" if cell["low"] is None else f"\n{cell['low']:.3f} to {cell['high']:.3f}"
        cells.setdefault(cell["checkpoint"], []).append(_show(cell["auroc"]) + interval)
    for name, row in cells.items():
        summary = matrix.summarize(name)
        table.add_row(name, *row, *(_show(summary[key]) for key in ("mean", "worst", "gap")))
    console = Console()
    console.print(table)
    for dataset, pairs in matrix.comparisons.items():
        for pair in pairs:
            found = pair["figures"].get("auroc")
            if found is not None:
                p = (pair["delong"] or {}).get("p_holm")
                console.print(
                    f"{dataset}: {pair['first']} less {pair['second']}: {found['difference']:+.4f}"
                    + ("" if p is None else f", p = {p:.3g} (DeLong, Holm)"),
                    markup=False, highlight=False, soft_wrap=True,
                )  # fmt: skip
    for line in (*(f"note: {note}" for note in matrix.notes), f"report  {matrix.report}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_robustness(robustness: "Robustness", *, split: str) -> None:
    """Print the ROC-AUC at each level of each perturbation."""
    from rich.console import Console
    from rich.table import Table

    summary, rows = robustness.summary, robustness.table[robustness.table["level"] > 0]
    levels = sorted(set(rows["level"]))
    table = Table(title=f"ROC-AUC per video, {robustness.dataset}, {split} split", title_justify="left")
    for name in ("", *(f"level {level}" for level in levels)):
        table.add_column(name, justify="right" if name else "left")
    for name, curve in summary["families"].items():
        shown = (f"{_show(auroc)}{'' if share == 1 else f' ({share:.0%})'}"
                 for auroc, share in zip(curve["video_auroc"], curve["coverage"], strict=True))  # fmt: skip
        table.add_row(name, *shown)
    console = Console()
    console.print(table)
    means = ", ".join(
        f"{group} {_show(mean['video_auroc'])} ({mean['num_conditions']} conditions)"
        for group, mean in summary["mean"].items()
    )
    lines = [
        f"clean {_show(summary['clean']['video_auroc'])}; mean of {means}",
        f"{summary['num_videos']} videos, perturbed by the {summary['applied_to']}, faces {summary['faces']}; "
        f"a percentage is the share of videos with a face, where it is not all",
        f"table   {robustness.folder / 'robustness.csv'}",
        f"plot    {robustness.folder / 'robustness.svg'}",
        f"scores  {robustness.scores}",
    ]
    for line in [f"note: {note}" for note in robustness.notes] + lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_detectors(evaluations: "list[Evaluation]") -> None:
    """Print the figures of each detector on each dataset."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Per video", title_justify="left")
    for name in ("detector", "dataset"):
        table.add_column(name, overflow="fold")
    for name in ("real / fake", "unscored", "ROC-AUC", "bal. acc."):
        table.add_column(name, justify="right")
    for each in evaluations:
        video, coverage = each.figures["video"], each.figures["coverage"]
        table.add_row(
            each.model, each.dataset, f"{video['num_real']} / {video['num_fake']}",
            str(coverage["num_videos"] - coverage["num_scored"]),
            *(_show(video[key]) for key in ("auroc", "balanced_accuracy")),
        )  # fmt: skip
    console = Console()
    console.print(table)
    lines = [f"note: {note}" for note in evaluations[0].notes] if len(evaluations) == 1 else []
    for line in [*lines, *(f"report  {each.report}" for each in evaluations)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _show_figure(figures: Mapping[str, Any], key: str) -> str:
    interval = figures.get("intervals", {}).get(key)
    bounds = "" if interval is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"
    return _show(figures[key]) + bounds
