"""Evaluate a checkpoint on a split of a face dataset: score tables, metrics, mistakes and report."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from unmask import __version__
from unmask.data.tables import FaceDataset
from unmask.errors import ConfigError
from unmask.evaluation.figures import compute_figures, describe_limits, read_trained_methods
from unmask.evaluation.mistakes import embed_thumbnails, find_mistakes, list_mistakes
from unmask.evaluation.report import TRAINING, Report, ReportSection, read_curves, render_report
from unmask.evaluation.scoring import Loading, check_same_folds, check_spec, score_frames, score_videos
from unmask.forgeries import name_model, name_sources, qualify_figures, read_trained_on, warn_of_training
from unmask.metrics.intervals import BootstrapOptions
from unmask.models.checkpoint import Checkpoint, load_checkpoint
from unmask.paths import write_bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Metrics and output files of an evaluation.

    Args:
        dataset: Name of the face dataset.
        figures: Metrics under `frame`, `video`, `by_method` and `coverage`.
        decision: Threshold, aggregation and criterion of the checkpoint.
        has_videos: Whether the dataset holds videos; for images, the `video` metrics are per image.
        result: Path of `result.json`.
        report: Path of `report.html`.
        videos: Score table of the videos.
        scores: Path of `scores_frames.parquet`, beside `scores_videos.parquet`.
        notes: Caveats about the metrics, as in the report.
        model: Display name of the model, or of the detector of a score table.
        card: Path of `model_card.md`, or None if none was written.
    """

    dataset: str
    figures: dict[str, Any]
    decision: dict[str, Any]
    has_videos: bool
    result: Path
    report: Path
    videos: pd.DataFrame
    scores: Path
    notes: tuple[str, ...] = ()
    model: str = ""
    card: Path | None = None


@dataclass(frozen=True)
class Options:
    """How a checkpoint is evaluated.

    Args:
        split: `train`, `val` or `test`.
        device: `auto`, `cpu`, `cuda` ...
        batch_size: Number of crops per batch.
        num_workers: Number of decoding processes; 0 decodes in the main process.
        cache: Folder of scores that exist, which are not computed again; None to compute them always.
        allow_spec_mismatch: Whether crops with a different preprocessing only cause a warning.
        command: Command line for the report.
        folds: Number of folds that replace the stored splits; None to keep these.
        fold: Fold that becomes test; the next one becomes val.
        seed: Seed for the report.
        bootstrap: Settings of the confidence intervals.
        trusted_modules: Packages whose networks may be built from the checkpoint; see `unmask.trust`.
        sections: Custom report sections by name.

    Raises:
        ConfigError: A section has no title or no `render`.
    """

    split: str = "test"
    device: str = "auto"
    batch_size: int = 64
    num_workers: int = 0
    cache: Path | None = None
    allow_spec_mismatch: bool = False
    command: str = ""
    folds: int | None = None
    fold: int = 0
    seed: int = 0
    bootstrap: BootstrapOptions = field(default_factory=BootstrapOptions)
    trusted_modules: Sequence[str] = ()
    sections: Mapping[str, ReportSection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_sections(self.sections)


def evaluate(checkpoint: str | Path, *, root: str | Path, output: Path, options: Options | None = None) -> Evaluation:
    """Evaluate a checkpoint on a split, with the threshold stored in the checkpoint.

    Args:
        checkpoint: Path of a checkpoint from `train.py`.
        root: Root folder of the face dataset.
        output: Output folder.
        options: How to evaluate it.

    Raises:
        ConfigError: A section does not return HTML; or the checkpoint was trained on other folds of this dataset.
        CheckpointError: The checkpoint is missing, damaged or not one of Unmask.
        DatasetError: The dataset or the split is missing, or too many crops are damaged.
        SpecMismatchError: The preprocessing of the crops differs from that of the training crops.
    """
    options = options or Options()
    split = options.split
    model = load_checkpoint(checkpoint, trusted_modules=options.trusted_modules)
    dataset = FaceDataset.load(root, folds=options.folds, fold=options.fold)
    check_same_folds(model, dataset, (options.folds, options.fold))
    notes = check_spec(model, dataset, allow_mismatch=options.allow_spec_mismatch)
    loading = Loading(options.device, options.batch_size, options.num_workers, options.cache)
    frames = score_frames(model, dataset, split=split, loading=loading)
    videos = score_videos(frames, dataset, split=split, decision=model.decision)
    trained_methods = read_trained_methods(model.provenance)
    figures = compute_figures(
        frames, videos, decision=model.decision, trained_methods=trained_methods, bootstrap=options.bootstrap
    )
    mistakes = find_mistakes(frames, videos, decision=model.decision)
    report = Report(
        dataset=dataset.name,
        split=split,
        unit="video" if dataset.has_videos else "image",
        decision=model.decision,
        figures=figures,
        frames=frames,
        videos=videos,
        model=name_model(model.provenance, network=model.network),
        provenance=_describe(model, dataset, options),
        sources=dataset.sources,
        trained_on=read_trained_on(model.provenance),
        notes=tuple(notes + _qualify(model, dataset, figures)),
        sections=render_sections(options.sections, frames, videos),
        curves=read_curves(model.path, epoch=model.epoch),
        mistakes=tuple(embed_thumbnails(mistakes, root=dataset.root, checkpoint=model)),
        trained_methods=trained_methods,
        limits=describe_limits(figures, unit="video" if dataset.has_videos else "image"),
    )
    return write_evaluation(report, output, has_videos=dataset.has_videos, model=model)


def check_sections(sections: Mapping[str, ReportSection]) -> Mapping[str, ReportSection]:
    """Check the custom report sections before scoring starts, and return them.

    Raises:
        ConfigError: A section has no title or no `render`.
    """
    for name, section in sections.items():
        if not isinstance(section, ReportSection) or not isinstance(section.title, str):
            raise ConfigError(
                f"sections.{name}: {type(section).__module__}.{type(section).__qualname__} needs a title and "
                f"render(frames, videos); see ReportSection in unmask.evaluation.report."
            )
    return sections


def render_sections(
    sections: Mapping[str, ReportSection], frames: pd.DataFrame, videos: pd.DataFrame
) -> tuple[tuple[str, str], ...]:
    """Return title and HTML of each custom section.

    Args:
        sections: Result of `check_sections`.
        frames: Score table of the crops.
        videos: Score table of the videos.
    """
    return tuple((section.title, _render(name, section, frames, videos)) for name, section in sections.items())


def _render(name: str, section: ReportSection, frames: pd.DataFrame, videos: pd.DataFrame) -> str:
    html = section.render(frames.copy(), videos.copy())
    if not isinstance(html, str):
        raise ConfigError(f"sections.{name}: render returned {type(html).__name__} instead of HTML text.")
    return html


def _qualify(model: Checkpoint, dataset: FaceDataset, figures: dict[str, Any]) -> list[str]:
    """Return caveats about the metrics for the report."""
    warnings = (qualify_figures(dataset.sources), warn_of_training(read_trained_on(model.provenance)))
    notes = [note for note in (*warnings, note_one_class(figures)) if note is not None]
    return [*notes, *figures["video"].get("interval_notes", [])]


def note_one_class(figures: Mapping[str, Any]) -> str | None:
    """Return a note on what cannot be computed if only one class has scores, or None.

    Args:
        figures: Metrics with `video`.
    """
    if figures["video"]["auroc"] is not None:
        return None
    return (
        "Only one class could be scored: ROC-AUC, PR-AUC, balanced accuracy and the curves cannot be computed, and "
        "precision and F1 are meaningless. Accuracy is the share of that class that was classified correctly."
    )


def _describe(model: Checkpoint, dataset: FaceDataset, options: Options) -> dict[str, str]:
    known = {key: value for key, value in model.provenance.items() if value not in ("", None)}
    known["trained_on"] = name_sources(read_trained_on(known))
    if "is_dirty" in known:
        known["uncommitted_changes"] = "yes" if known.pop("is_dirty") else "no"
    trained = {f"{TRAINING}{key.replace('_', ' ')}": str(value) for key, value in known.items()}
    return {
        "checkpoint": str(model.path),
        "network": f"{model.network}, input {model.input_spec.size} px, epoch {model.epoch}",
        "dataset": f"{dataset.root} (preprocessing {dataset.spec.hash})",
        "command": options.command or "unmask.evaluation.run.evaluate, called from Python",
        "seed": str(options.seed),
        "made": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} with Unmask {__version__}",
    } | trained


def name_folders(pairs: Sequence[tuple[str, str]], output: Path) -> dict[tuple[str, str], Path]:
    """Return a folder of its own for each pair of model and dataset, whatever signs its names hold."""
    folders: dict[tuple[str, str], Path] = {}
    for pair in pairs:
        one, other = (re.sub(r"[^\w.-]+", "_", name).strip(".") or "_" for name in pair)
        folder, number = output / one / other, 2
        while folder in folders.values():
            folder, number = output / one / f"{other}_{number}", number + 1
        folders[pair] = folder
    return folders


def write_evaluation(report: Report, output: Path, *, has_videos: bool, model: Checkpoint | None) -> Evaluation:
    """Write the report, the score tables and `result.json`.

    Args:
        report: Content of the report.
        output: Output folder.
        has_videos: Whether the dataset holds videos with frames.
        model: Checkpoint; None if the scores are from a table.
    """
    names = ("result.json", "report.html", "scores_frames.parquet", "scores_videos.parquet", "mistakes.csv")
    result, page, frames, videos, mistakes = (output / name for name in names)
    evaluation = Evaluation(
        dataset=report.dataset,
        figures=dict(report.figures),
        decision=report.decision.to_dict(),
        has_videos=has_videos,
        result=result,
        report=page,
        videos=report.videos,
        scores=frames,
        notes=report.notes,
        model=report.model,
    )
    write_bytes(frames, _parquet(report.frames))
    write_bytes(videos, _parquet(report.videos))
    write_bytes(mistakes, list_mistakes(report.videos, decision=report.decision).to_csv(index=False).encode())
    write_bytes(page, render_report(report).encode())
    summary = {
        "checkpoint": None if model is None else str(model.path),
        "datasets": {report.dataset: {**report.figures, "split": report.split, "unit": report.unit}},
        "decision": report.decision.to_dict(),
        "sources": [source.to_dict() for source in report.sources],
        "trained_on": [source.to_dict() for source in report.trained_on],
        "model": report.model,
        "provenance": dict(report.provenance),
        "notes": list(report.notes),
        "scores": str(frames),
        "scores_videos": str(videos),
        "mistakes": str(mistakes),
        "report": str(page),
    }
    if model is not None:
        specs = {"crop": model.crop_spec.to_dict(), "input": model.input_spec.to_dict()}
        summary |= {"network": model.network, "preprocessing": {"hash": model.crop_spec.hash, **specs}}
    write_bytes(result, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    return evaluation


def _parquet(table: pd.DataFrame) -> bytes:
    data: bytes = table.to_parquet(index=False)
    return data
