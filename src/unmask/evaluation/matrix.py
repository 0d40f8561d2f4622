"""Evaluate several checkpoints on several face datasets: the matrix of both, paired comparisons, and an ensemble."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from unmask.data.tables import FaceDataset
from unmask.decision import Decision, log_odds
from unmask.errors import ConfigError, SpecMismatchError
from unmask.evaluation.figures import compute_figures
from unmask.evaluation.run import Evaluation, Options, evaluate, name_folders
from unmask.metrics.comparison import compare_all
from unmask.metrics.intervals import BootstrapOptions
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.page import render_page
from unmask.paths import write_bytes

ENSEMBLES = ("mean", "logit_mean")
"""How the scores of several checkpoints are combined: the mean of the scores, or of their log odds."""

ENSEMBLE = "ensemble"
"""Name of the row of the ensemble."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One checkpoint on one dataset.

    Args:
        figures: Result of `compute_figures`; None if the checkpoint does not fit the dataset.
        videos: Score table of the videos; None likewise.
        decision: Decision of the checkpoint.
        reason: Why the checkpoint does not fit, or "".
        report: Path of the report of this pair, relative to the output folder; "" if there is none.
    """

    figures: Mapping[str, Any] | None
    videos: pd.DataFrame | None
    decision: Decision
    reason: str = ""
    report: str = ""


@dataclass(frozen=True)
class Matrix:
    """Results of several checkpoints on several datasets.

    Args:
        datasets: Names of the datasets.
        rows: By name of the checkpoint, its cells by name of the dataset.
        trained_on: By name of the checkpoint, the name of the dataset it was trained on, or "".
        comparisons: By name of the dataset, the result of `compare_all`.
        result: Path of `result.json`.
        report: Path of `report.html`.
    """

    datasets: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    trained_on: Mapping[str, str]
    comparisons: Mapping[str, list[dict[str, Any]]]
    result: Path
    report: Path
    notes: tuple[str, ...] = field(default_factory=tuple)

    def summarize(self, name: str, *, metric: str = "auroc") -> dict[str, float | None]:
        """Return mean and worst of a checkpoint's figures per video over the datasets, and its gap to new data.

        Args:
            name: Name of the checkpoint.
            metric: Name of the figure.

        Returns:
            `mean` and `worst` over all datasets; `gap`: the figure on the training dataset less the mean over the
            others, None if one of the two is not among the datasets.
        """
        known = {
            dataset: value for dataset in self.datasets if (value := self._value(name, dataset, metric)) is not None
        }
        own = known.get(self.trained_on[name])
        others = [value for dataset, value in known.items() if dataset != self.trained_on[name]]
        return {
            "mean": float(np.mean(list(known.values()))) if known else None,
            "worst": min(known.values(), default=None),
            "gap": own - float(np.mean(others)) if own is not None and others else None,
        }

    def _value(self, name: str, dataset: str, metric: str) -> float | None:
        figures = self.rows[name][dataset].figures
        value: float | None = None if figures is None else figures["video"][metric]
        return value


def evaluate_all(
    checkpoints: Sequence[str | Path],
    *,
    roots: Sequence[str | Path],
    output: Path,
    options: Options,
    ensemble: str | None = None,
) -> Matrix:
    """Evaluate every checkpoint on every dataset, each pair into a folder of its own, and compare them.

    Args:
        checkpoints: Paths of the checkpoints.
        roots: Root folders of the face datasets.
        output: Output folder.
        options: How each pair is evaluated.
        ensemble: One of `ENSEMBLES` for one more row that combines all checkpoints; None for no such row.

    Raises:
        ConfigError: The ensemble is unknown, or a checkpoint or dataset is given twice.
        SpecMismatchError: No checkpoint fits any dataset.
    """
    if ensemble not in (None, *ENSEMBLES):
        raise ConfigError(f"ensemble='{ensemble}' is unknown. Choose {' or '.join(ENSEMBLES)}, or null.")
    _check_distinct(checkpoints, key="checkpoint")
    _check_distinct(roots, key="dataset.root")
    models = [load_checkpoint(path, trusted_modules=options.trusted_modules) for path in checkpoints]
    datasets = [FaceDataset.load(root, folds=options.folds, fold=options.fold) for root in roots]
    model_names = _name_apart([_list_model_names(model) for model in models])
    dataset_names = _name_apart([_list_dataset_names(dataset) for dataset in datasets])
    folders = name_folders([(name, other) for name in model_names for other in dataset_names], output)
    rows: dict[str, dict[str, Cell]] = {}
    for name, model in zip(model_names, models, strict=True):
        rows[name] = {
            other: _fill(model, dataset, folders[name, other], (name, other), options)
            for other, dataset in zip(dataset_names, datasets, strict=True)
        }
    reasons = {cell.reason for row in rows.values() for cell in row.values() if cell.figures is None}
    if not any(cell.figures for row in rows.values() for cell in row.values()):
        raise SpecMismatchError(f"No checkpoint fits any of the datasets. {' '.join(sorted(reasons))}")
    trained_on = {
        name: _find_training(model, dict(zip(dataset_names, datasets, strict=True)))
        for name, model in zip(model_names, models, strict=True)
    }
    if ensemble is not None:
        rows[ENSEMBLE] = {
            name: _combine([row[name] for row in rows.values()], ensemble, options) for name in dataset_names
        }
        shared = set(trained_on.values())
        trained_on[ENSEMBLE] = shared.pop() if len(shared) == 1 else ""
    comparisons = {name: _compare(rows, name, options.bootstrap) for name in dataset_names}
    matrix = Matrix(
        tuple(dataset_names), rows, trained_on, comparisons, output / "result.json", output / "report.html",
        tuple(sorted(reasons)),
    )  # fmt: skip
    _write(matrix, options)
    return matrix


def _check_distinct(paths: Sequence[str | Path], *, key: str) -> None:
    given = [str(Path(path).resolve()) for path in paths]
    twice = sorted({str(path) for path, place in zip(paths, given, strict=True) if given.count(place) > 1})
    if twice:
        raise ConfigError(f"{key} names '{twice[0]}' twice. Name each once.")


def _list_model_names(model: Checkpoint) -> list[str]:
    """Return names for a checkpoint, shortest first: that of its run, of its run folder, and its path."""
    folder = model.path.resolve().parents[1].name if len(model.path.resolve().parents) > 1 else ""
    run = str(model.provenance.get("run_name") or "")
    stem = model.path.stem
    return [name for name in (run, folder, f"{folder}/{stem}", str(model.path)) if name]


def _list_dataset_names(dataset: FaceDataset) -> list[str]:
    return [dataset.name, dataset.root.resolve().name, str(dataset.root)]


def _name_apart(choices: Sequence[Sequence[str]]) -> list[str]:
    """Return for each entry the first kind of name that tells all entries apart."""
    for place in range(max(map(len, choices))):
        names = [entry[min(place, len(entry) - 1)] for entry in choices]
        if len(set(names)) == len(names) and ENSEMBLE not in names:
            return names
    return [f"{number}: {entry[-1]}" for number, entry in enumerate(choices, start=1)]


def _fill(model: Checkpoint, dataset: FaceDataset, folder: Path, names: tuple[str, str], options: Options) -> Cell:
    logger.info("Evaluating '%s' on '%s'.", *names)
    try:
        found: Evaluation = evaluate(model.path, root=dataset.root, output=folder, options=options)
    except SpecMismatchError as error:
        logger.warning("'%s' is not evaluated on '%s': %s", *names, error)
        return Cell(None, None, model.decision, f"'{names[0]}' on '{names[1]}': {error}")
    return Cell(found.figures, found.videos, model.decision, report="/".join((*folder.parts[-2:], "report.html")))


def _find_training(model: Checkpoint, datasets: Mapping[str, FaceDataset]) -> str:
    """Return the name of the dataset that a checkpoint was trained on, "" if it is not among those given."""
    known = model.provenance
    by_root = [name for name, one in datasets.items() if str(one.root) == known.get("dataset_root")]
    by_name = [name for name, one in datasets.items() if one.name == known.get("dataset")]
    return next(iter(by_root or by_name), "")


def _combine(cells: Sequence[Cell], ensemble: str, options: Options) -> Cell:
    """Combine the scores that all checkpoints have of a dataset; the threshold is combined in the same way.

    Each checkpoint's threshold comes from validation, so that the combined one does not depend on these data either.
    """
    known = [cell for cell in cells if cell.videos is not None]
    decision = Decision(_mean([cell.decision.threshold for cell in cells], ensemble), criterion=ENSEMBLE)
    if len(known) < len(cells):
        return Cell(None, None, decision, "Not every checkpoint fits this dataset.")
    tables = [cell.videos.set_index("video_id") for cell in known if cell.videos is not None]
    videos = tables[0].copy()
    columns = np.stack([table.loc[videos.index, "score"].to_numpy(np.float64) for table in tables])
    is_scored = np.isfinite(columns).all(axis=0)
    videos["score"] = [
        _mean(list(column), ensemble) if scored else math.nan
        for column, scored in zip(columns.T, is_scored, strict=True)
    ]
    table = videos.reset_index()
    rows = table[table["score"].notna()][["video_id", "label", "method", "group", "score"]]
    figures = compute_figures(
        rows.assign(frame_index=0, track=0), table, decision=decision, bootstrap=options.bootstrap
    )
    return Cell({key: value for key, value in figures.items() if key != "frame"}, table, decision)


def _mean(values: Sequence[float], ensemble: str) -> float:
    if ensemble == "mean":
        return float(np.mean(values))
    return 1 / (1 + math.exp(-float(np.mean([log_odds(value) for value in values]))))


def _compare(rows: Mapping[str, Mapping[str, Cell]], dataset: str, bootstrap: BootstrapOptions) -> list[dict[str, Any]]:
    known = {name: row[dataset] for name, row in rows.items() if row[dataset].videos is not None}
    if len(known) < 2:
        return []
    tables = {name: cell.videos for name, cell in known.items() if cell.videos is not None}
    thresholds = {name: cell.decision.threshold for name, cell in known.items()}
    return compare_all(tables, thresholds=thresholds, options=bootstrap)


def list_cells(matrix: Matrix) -> Iterator[dict[str, Any]]:
    """Yield a row for each checkpoint and dataset, with the ROC-AUC per video and its interval, for tables."""
    for name, row in matrix.rows.items():
        for dataset, cell in row.items():
            video = None if cell.figures is None else cell.figures["video"]
            interval = {} if video is None else video.get("intervals", {}).get("auroc", {})
            yield {
                "checkpoint": name, "dataset": dataset, "is_training_dataset": dataset == matrix.trained_on[name],
                "auroc": None if video is None else video["auroc"],
                "low": interval.get("low"), "high": interval.get("high"),
                "balanced_accuracy": None if video is None else video["balanced_accuracy"],
                "eer": None if video is None else video["eer"],
                "hter": None if video is None else video["hter"],
                "reason": cell.reason, "report": cell.report,
            }  # fmt: skip


def _write(matrix: Matrix, options: Options) -> None:
    cells = list(list_cells(matrix))
    summaries = {name: matrix.summarize(name) for name in matrix.rows}
    summary = {
        "checkpoints": {
            name: {
                "datasets": {
                    dataset: dict(cell.figures) | {"decision": cell.decision.to_dict()}
                    for dataset, cell in row.items() if cell.figures is not None
                },
                "trained_on": matrix.trained_on[name],
                **summaries[name],
            } for name, row in matrix.rows.items()
        },
        "matrix": cells,
        "comparisons": [{"dataset": name} | pair for name, pairs in matrix.comparisons.items() for pair in pairs],
        "notes": list(matrix.notes),
        "report": str(matrix.report),
    }  # fmt: skip
    table = pd.DataFrame(cells)
    write_bytes(matrix.result.with_name("matrix.csv"), table.to_csv(index=False).encode())
    page = render_page(
        "unmask.evaluation", "matrix.html.jinja", matrix=matrix, cells=_group_cells(cells), summaries=summaries,
        command=options.command, split=options.split, title=f"{_count(len(matrix.rows), 'checkpoint')} on "
        f"{_count(len(matrix.datasets), 'dataset')}",
    )  # fmt: skip
    write_bytes(matrix.report, page.encode())
    write_bytes(matrix.result, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _group_cells(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        grouped.setdefault(cell["checkpoint"], []).append(cell)
    return grouped
