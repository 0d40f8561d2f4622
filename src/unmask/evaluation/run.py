"""Score a split of a face dataset with a checkpoint, and write the score tables, metrics and report."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from unmask import __version__
from unmask.data.audit import find_usable_crops
from unmask.data.dataset import FaceCrops
from unmask.data.tables import FaceDataset, read_folds, show_folds
from unmask.decision import Decision
from unmask.errors import ConfigError
from unmask.evaluation.report import TRAINING, Report, ReportSection, embed_thumbnails, find_mistakes, render_report
from unmask.faces.spec import check_same_crops
from unmask.forgeries import name_model, name_sources, qualify_figures, read_trained_on, warn_of_training
from unmask.metrics.scores import aggregate_videos, coverage_of, figures_of
from unmask.models.checkpoint import Checkpoint, choose_device, load_checkpoint, score_crops
from unmask.paths import write_bytes
from unmask.processes import describe_loader

logger = logging.getLogger(__name__)

FRAME_COLUMNS = ["video_id", "crop", "frame_index", "track", "label", "method", "score"]
VIDEO_COLUMNS = ["video_id", "path", "label", "method", "group", "split", "outcome", "num_crops", "score"]


def score_frames(
    checkpoint: Checkpoint,
    dataset: FaceDataset,
    *,
    split: str,
    device: str = "auto",
    batch_size: int = 64,
    num_workers: int = 0,
) -> pd.DataFrame:
    """Score every crop of a split.

    Args:
        checkpoint: Checkpoint with the network and its input spec.
        dataset: Face dataset with the crops.
        split: `train`, `val` or `test`.
        device: `auto`, `cpu`, `cuda` ...
        batch_size: Number of crops per batch.
        num_workers: Number of decoding processes; 0 decodes in the main process.

    Returns:
        Table with one row per crop and the columns `FRAME_COLUMNS`.

    Raises:
        DatasetError: The split is empty, or too many crops are damaged.
    """
    from torch.utils.data import DataLoader

    table = find_usable_crops(dataset, split=split)
    crops = FaceCrops(table, root=dataset.root, input_spec=checkpoint.input_spec)
    loader: Any = DataLoader(crops, batch_size=batch_size, num_workers=num_workers, **describe_loader(num_workers))
    target = choose_device(device)
    network = checkpoint.build_network().to(target)
    logger.info("Scoring %d crops of split '%s' of '%s' on %s.", len(crops), split, dataset.root, target)
    rows: list[int] = []
    scores: list[float] = []
    for batch in _with_progress(loader):
        scores += score_crops(network, batch["image"], device=target)
        rows += batch["row"].tolist()
    scored: pd.DataFrame = table.iloc[rows].assign(score=np.asarray(scores, dtype=np.float64))
    return scored[FRAME_COLUMNS].reset_index(drop=True)


def score_videos(frames: pd.DataFrame, dataset: FaceDataset, *, split: str, decision: Decision) -> pd.DataFrame:
    """Aggregate frame scores into a table of all videos of a split, including unscored ones.

    Args:
        frames: Result of `score_frames`.
        dataset: Face dataset with the videos and their outcomes.
        split: `train`, `val` or `test`.
        decision: Decision with the aggregation.

    Returns:
        Table with one row per video and the columns `VIDEO_COLUMNS`; the score is NaN for unscored videos.
    """
    promised = dataset.videos[dataset.videos["split"] == split]
    scored = aggregate_videos(frames, decision=decision)[["video_id", "score", "num_crops"]]
    videos = promised.merge(scored, on="video_id", how="left", validate="one_to_one")
    videos["num_crops"] = videos["num_crops"].fillna(0).astype(int)
    return videos[VIDEO_COLUMNS].reset_index(drop=True)


def _with_progress(loader: Any) -> Any:
    from rich.progress import track

    batches = iter(loader)  # forks the workers before the progress bar starts its thread
    return track(batches, total=len(loader), description="Scoring crops", transient=True)


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
        scores: Path of `scores_frames.parquet`, beside `scores_videos.parquet`.
        notes: Caveats about the metrics, as in the report.
    """

    dataset: str
    figures: dict[str, Any]
    decision: dict[str, Any]
    has_videos: bool
    result: Path
    report: Path
    scores: Path
    notes: tuple[str, ...] = ()


def evaluate(
    checkpoint: str | Path,
    *,
    root: str | Path,
    output: Path,
    split: str = "test",
    device: str = "auto",
    batch_size: int = 64,
    num_workers: int = 0,
    allow_spec_mismatch: bool = False,
    command: str = "",
    folds: int | None = None,
    fold: int = 0,
    seed: int = 0,
    trusted_modules: Sequence[str] = (),
    sections: Mapping[str, ReportSection] = MappingProxyType({}),
) -> Evaluation:
    """Evaluate a checkpoint on a split, with the threshold stored in the checkpoint.

    Args:
        checkpoint: Path of a checkpoint from `train.py`.
        root: Root folder of the face dataset.
        output: Output folder.
        split: `train`, `val` or `test`.
        device: `auto`, `cpu`, `cuda` ...
        batch_size: Number of crops per batch.
        num_workers: Number of decoding processes; 0 decodes in the main process.
        allow_spec_mismatch: Whether crops with a different preprocessing only cause a warning.
        command: Command line for the report.
        folds: Number of folds that replace the stored splits; None to keep these.
        fold: Fold that becomes test; the next one becomes val.
        seed: Seed for the report.
        trusted_modules: Packages whose networks may be built from the checkpoint; see `unmask.trust`.
        sections: Custom report sections by name.

    Raises:
        ConfigError: A section has no title or no `render`, or does not return HTML; or the checkpoint was trained on
            other folds of this dataset.
        CheckpointError: The checkpoint is missing, damaged or not one of Unmask.
        DatasetError: The dataset or the split is missing, or too many crops are damaged.
        SpecMismatchError: The preprocessing of the crops differs from that of the training crops.
    """
    sections = check_sections(sections)
    model = load_checkpoint(checkpoint, trusted_modules=trusted_modules)
    dataset = FaceDataset.load(root, folds=folds, fold=fold)
    _check_folds(model, dataset, (folds, fold))
    notes = _check_spec(model, dataset, allow_mismatch=allow_spec_mismatch)
    frames = score_frames(model, dataset, split=split, device=device, batch_size=batch_size, num_workers=num_workers)
    videos = score_videos(frames, dataset, split=split, decision=model.decision)
    figures = figures_of(frames, decision=model.decision) | {"coverage": coverage_of(videos)}
    report = Report(
        dataset=dataset.name,
        split=split,
        unit="video" if dataset.has_videos else "image",
        decision=model.decision,
        figures=figures,
        frames=frames,
        videos=videos,
        model=name_model(model.provenance, network=model.network),
        provenance=_describe(model, dataset, command=command, seed=seed),
        sources=dataset.sources,
        trained_on=read_trained_on(model.provenance),
        notes=tuple(notes + _qualify(model, dataset, figures)),
        sections=tuple((section.title, _render(name, section, frames, videos)) for name, section in sections.items()),
        mistakes=tuple(embed_thumbnails(find_mistakes(frames, videos, decision=model.decision), root=dataset.root)),
    )
    return _write(report, output, has_videos=dataset.has_videos)


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


def _render(name: str, section: ReportSection, frames: pd.DataFrame, videos: pd.DataFrame) -> str:
    html = section.render(frames.copy(), videos.copy())
    if not isinstance(html, str):
        raise ConfigError(f"sections.{name}: render returned {type(html).__name__} instead of HTML text.")
    return html


def _check_folds(model: Checkpoint, dataset: FaceDataset, given: tuple[int | None, int]) -> None:
    """Raise a ConfigError if the model was trained on other folds of this dataset: test would contain training data."""
    known = model.provenance
    trained = read_folds(known)
    if known.get("dataset") == dataset.name and trained != given:
        raise ConfigError(
            f"'{model.path}' was trained on '{dataset.name}' with {show_folds(*trained)}, and {show_folds(*given)} "
            f"would score it on videos that it was trained on. Set {show_folds(*trained)}"
        )


def _check_spec(model: Checkpoint, dataset: FaceDataset, *, allow_mismatch: bool) -> list[str]:
    if not allow_mismatch:
        check_same_crops(model.crop_spec, dataset.spec, where=str(dataset.root))
    elif model.crop_spec.hash != dataset.spec.hash:
        note = (
            f"The preprocessing of these crops ({dataset.spec.hash}) differs from that of the training crops "
            f"({model.crop_spec.hash}). They were scored because of allow_spec_mismatch=true."
        )
        logger.warning("%s", note)
        return [note]
    return []


def _qualify(model: Checkpoint, dataset: FaceDataset, figures: dict[str, Any]) -> list[str]:
    """Return caveats about the metrics for the report."""
    warnings = (qualify_figures(dataset.sources), warn_of_training(read_trained_on(model.provenance)))
    notes = [note for note in warnings if note is not None]
    if figures["video"]["auroc"] is None:
        notes.append(
            "Only one class could be scored: ROC-AUC, PR-AUC, balanced accuracy and the curves cannot be computed, and "
            "precision and F1 are meaningless. Accuracy is the share of that class that was classified correctly."
        )
    return notes


def _describe(model: Checkpoint, dataset: FaceDataset, *, command: str, seed: int) -> dict[str, str]:
    known = {key: value for key, value in model.provenance.items() if value not in ("", None)}
    known["trained_on"] = name_sources(read_trained_on(known))
    if "is_dirty" in known:
        known["uncommitted_changes"] = "yes" if known.pop("is_dirty") else "no"
    trained = {f"{TRAINING}{key.replace('_', ' ')}": str(value) for key, value in known.items()}
    return {
        "checkpoint": str(model.path),
        "network": f"{model.network}, input {model.input_spec.size} px, epoch {model.epoch}",
        "dataset": f"{dataset.root} (preprocessing {dataset.spec.hash})",
        "command": command or "unmask.evaluation.run.evaluate, called from Python",
        "seed": str(seed),
        "made": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} with Unmask {__version__}",
    } | trained


def _write(report: Report, output: Path, *, has_videos: bool) -> Evaluation:
    names = ("result.json", "report.html", "scores_frames.parquet", "scores_videos.parquet")
    result, page, frames, videos = (output / name for name in names)
    evaluation = Evaluation(
        report.dataset, dict(report.figures), report.decision.to_dict(), has_videos, result, page, frames, report.notes
    )
    write_bytes(frames, _parquet(report.frames))
    write_bytes(videos, _parquet(report.videos))
    write_bytes(page, render_report(report).encode())
    summary = {
        "datasets": {report.dataset: {**report.figures, "split": report.split}},
        "decision": report.decision.to_dict(),
        "sources": [source.to_dict() for source in report.sources],
        "trained_on": [source.to_dict() for source in report.trained_on],
        "model": report.model,
        "provenance": dict(report.provenance),
        "notes": list(report.notes),
        "scores": str(frames),
        "scores_videos": str(videos),
        "report": str(page),
    }
    write_bytes(result, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    return evaluation


def _parquet(table: pd.DataFrame) -> bytes:
    data: bytes = table.to_parquet(index=False)
    return data
