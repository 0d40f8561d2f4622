"""Evaluate detectors by tables of their scores: the same figures and report as for a checkpoint."""

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
from unmask.decision import Decision
from unmask.errors import ConfigError, DatasetError
from unmask.evaluation.figures import compute_figures, describe_limits
from unmask.evaluation.mistakes import find_mistakes
from unmask.evaluation.report import Report, ReportSection
from unmask.evaluation.run import (
    Evaluation,
    check_sections,
    name_folders,
    note_one_class,
    render_sections,
    write_evaluation,
)
from unmask.evaluation.score_tables import check_apart, read_score_tables
from unmask.evaluation.scoring import FRAME_COLUMNS, VIDEO_COLUMNS
from unmask.metrics.scores import BootstrapOptions, aggregate_videos
from unmask.metrics.threshold import check_criterion, choose_threshold
from unmask.paths import hash_file, write_bytes
from unmask.sources.folders import quote_some

logger = logging.getLogger(__name__)

NO_SCORE = "no_score"
"""Outcome of a video whose score is empty."""

_VAL = "val"


@dataclass(frozen=True)
class DecisionSource:
    """Where the threshold of a detector comes from.

    Args:
        threshold: Lowest score that counts as fake; None chooses it on validation scores, or takes 0.5 without any.
        validation_scores: Score tables of other videos, on which the threshold is chosen.
        criterion: See `unmask.metrics.threshold.CRITERIA`.
        aggregation: Aggregation of the frame scores of a video.

    Raises:
        ConfigError: Both a threshold and validation scores, or a value that a decision cannot have.
    """

    threshold: float | None = None
    validation_scores: tuple[Path, ...] = ()
    criterion: str = "balanced_accuracy"
    aggregation: str = "mean"

    def __post_init__(self) -> None:
        check_criterion(self.criterion)
        Decision(threshold=0.5 if self.threshold is None else self.threshold, aggregation=self.aggregation)
        if self.threshold is not None and self.validation_scores:
            raise ConfigError(
                f"decision.threshold={self.threshold} leaves nothing to choose on decision.validation_scores. "
                f"Give one of them."
            )

    def decide(self, detector: str, chosen_on: pd.DataFrame) -> tuple[Decision, str]:
        """Return the decision of a detector and the origin of its threshold, as a phrase.

        Args:
            detector: Name of the detector.
            chosen_on: Validation rows of all detectors.
        """
        if self.threshold is not None:
            return Decision(self.threshold, self.aggregation, criterion="given"), "given with decision.threshold"
        default = Decision(aggregation=self.aggregation)
        ours = chosen_on[(chosen_on["detector"] == detector) & chosen_on["score"].notna()]
        if len(ours) == 0:
            return default, "the default: none was given, and there are no validation scores"
        videos = aggregate_videos(_name_rows(ours), decision=default)
        decision = choose_threshold(
            videos["label"], videos["score"], criterion=self.criterion, aggregation=self.aggregation
        )
        if decision.criterion != self.criterion:
            return decision, "the default: the validation scores have one class only"
        names = quote_some(ours["file"].drop_duplicates())
        return decision, f"{self.criterion.replace('_', ' ')} on {len(videos)} validation videos of {names}"


def evaluate_scores(
    scores: Sequence[str | Path],
    *,
    output: Path,
    split: str = "test",
    columns: Mapping[str, str | None] = MappingProxyType({}),
    scores_transform: str = "none",
    missing_scores: str = "refuse",
    dataset: str | None = None,
    decision: DecisionSource | None = None,
    command: str = "",
    seed: int = 0,
    bootstrap: BootstrapOptions | None = None,
    sections: Mapping[str, ReportSection] = MappingProxyType({}),
) -> list[Evaluation]:
    """Evaluate every detector on every dataset of some score tables.

    One pair of detector and dataset is written into the output folder as `evaluate` does for a checkpoint; of several,
    each into `<detector>/<dataset>` below it, with a `result.json` of all above.

    Args:
        scores: Paths of the tables; see `read_score_tables`.
        output: Output folder.
        split: Split that is judged, where a table has a column for it; rows of `val` then choose the threshold.
        columns: The tables' own column names by the keys of `unmask.evaluation.score_tables.COLUMNS`.
        scores_transform: See `unmask.evaluation.score_tables.TRANSFORMS`.
        missing_scores: See `unmask.evaluation.score_tables.MISSING`.
        dataset: Name of the dataset of tables without a column for it.
        decision: Where the thresholds come from; None for the defaults.
        command: Command line for the report.
        seed: Seed for the report.
        bootstrap: Settings of the confidence intervals; None for the defaults.
        sections: Custom report sections by name.

    Raises:
        ConfigError: An invalid setting.
        DatasetError: A table is not readable or has invalid rows, or nothing is left to judge.
        LeakageError: The threshold would be chosen on videos or groups that are judged too.
    """
    sections, source = check_sections(sections), decision or DecisionSource()
    options: dict[str, Any] = {"transform": scores_transform, "missing": missing_scores, "dataset": dataset}
    paths = [Path(path) for path in scores]
    table = read_score_tables(paths, columns=columns, **options)
    judged, chosen_on = _divide(table, split=split)
    if source.validation_scores:
        chosen_on = read_score_tables(source.validation_scores, columns=columns, **options)
    elif source.threshold is not None:
        chosen_on = chosen_on.iloc[:0]
    check_apart(judged, chosen_on)
    pairs = _list_pairs(judged)
    context = {
        "scores": ", ".join(f"{path} (SHA-256 {hash_file(path)[:12]})" for path in paths),
        "command": command or "unmask.evaluation.detectors.evaluate_scores, called from Python",
        "seed": str(seed),
        "made": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} with Unmask {__version__}",
    }
    folders = name_folders(list(pairs), output) if len(pairs) > 1 else dict.fromkeys(pairs, output)
    evaluations = []
    for (detector, name), rows in pairs.items():
        report = _report(rows, source.decide(detector, chosen_on), context, sections, bootstrap or BootstrapOptions())
        folder = folders[detector, name]
        evaluations.append(write_evaluation(report, folder, has_videos=report.with_frames, model=None))
    if len(pairs) > 1:
        _write_all(list(zip(pairs, evaluations, strict=True)), output)
    return evaluations


def _divide(table: pd.DataFrame, *, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows to judge, those of the split or without one, and the rows to choose the threshold on."""
    is_judged = table["split"].isin(("", split))
    if not is_judged.any():
        found = quote_some(sorted(set(table["split"])))
        raise DatasetError(f"The score tables have no rows of split={split}; their column for it has {found}.")
    others = table[~is_judged]
    if len(others):
        counts = ", ".join(f"{count} of '{name}'" for name, count in others["split"].value_counts().items())
        logger.info("Judging %d rows of split=%s; not judged: %s.", is_judged.sum(), split, counts)
    return table[is_judged], others[others["split"] == _VAL]


def _list_pairs(judged: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the rows of each pair of detector and dataset that has a score."""
    pairs = {(str(key[0]), str(key[1])): rows for key, rows in judged.groupby(["detector", "dataset"], sort=False)}
    scored = {key: rows for key, rows in pairs.items() if rows["score"].notna().any()}
    empty = [f"{detector} on {dataset}" for detector, dataset in pairs if (detector, dataset) not in scored]
    if not scored:
        raise DatasetError("No row of the score tables has a score, so nothing can be judged.")
    if empty:
        logger.warning("%d detectors have no score in a dataset, which is left out: %s.", len(empty), quote_some(empty))
    return scored


def _name_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Tell videos of different datasets apart, which a validation table may hold together."""
    return rows.assign(video_id=rows["dataset"] + "\n" + rows["video_id"])


def _report(
    rows: pd.DataFrame,
    decided: tuple[Decision, str],
    context: Mapping[str, str],
    sections: Mapping[str, ReportSection],
    bootstrap: BootstrapOptions,
) -> Report:
    decision, origin = decided
    detector, dataset = str(rows["detector"].iloc[0]), str(rows["dataset"].iloc[0])
    has_frames = "frame_index" in rows or "track" in rows
    known = rows[rows["score"].notna()]
    frames = known.reindex(columns=FRAME_COLUMNS).assign(crop="").reset_index(drop=True)
    videos = _list_videos(rows, frames, decision)
    # Without frames or tracks, their columns are empty, and there are no figures of them.
    figures = compute_figures(frames.dropna(axis=1, how="all"), videos, decision=decision, bootstrap=bootstrap)
    if not has_frames:  # a row is a video
        figures["frame"] = None
        figures["by_method"] = {name: {**entry, "frame": None} for name, entry in figures["by_method"].items()}
    notes = [note_one_class(figures), _note_order(figures), _note_frames(rows) if has_frames else None]
    notes.append("These scores are from a table: what the detector was trained on, and how it scored, is not recorded.")
    if decision.criterion == "default":
        notes.append(f"The threshold is {origin}. Metrics that depend on it may be better with a chosen threshold.")
    return Report(
        dataset=dataset,
        split=", ".join(sorted(set(rows["split"]) - {""})) or "all",
        unit="video",
        decision=decision,
        figures=figures,
        frames=frames,
        videos=videos,
        model=detector,
        provenance={"detector": detector, "dataset": dataset, **context},
        notes=tuple(note for note in (*notes, *figures["video"].get("interval_notes", ())) if note is not None),
        mistakes=tuple(find_mistakes(frames, videos, decision=decision)),
        sections=render_sections(sections, frames, videos),
        has_frames=has_frames,
        threshold_from=origin,
        limits=describe_limits(figures, unit="video"),
    )


def _list_videos(rows: pd.DataFrame, frames: pd.DataFrame, decision: Decision) -> pd.DataFrame:
    """Return the table of all videos; the score is NaN where every one of its rows has none."""
    videos = rows.drop_duplicates("video_id").drop(columns="score").assign(path="")
    scored = aggregate_videos(frames, decision=decision)[["video_id", "score", "num_crops"]]
    videos = videos.merge(scored, on="video_id", how="left", validate="one_to_one")
    videos["num_crops"] = videos["num_crops"].fillna(0).astype(int)
    videos["group"] = videos["group"].mask(videos["group"] == "", videos["video_id"])
    videos["outcome"] = np.where(videos["score"].notna(), "ok", NO_SCORE)
    return videos.reindex(columns=VIDEO_COLUMNS).reset_index(drop=True)


def _note_order(figures: Mapping[str, Any]) -> str | None:
    auroc = figures["video"]["auroc"]
    if auroc is None or auroc >= 0.5:
        return None
    return (
        f"ROC-AUC is {auroc:.4f}, below chance: reals score higher than fakes. If the scores are P(real), set "
        f"scores_transform=invert; if the labels are inverted, 1 means real in this table."
    )


def _note_frames(rows: pd.DataFrame) -> str | None:
    num_empty = int(rows["score"].isna().sum())
    return f"{num_empty} of {len(rows)} rows have no score and are left out of their videos." if num_empty else None


def _write_all(results: Sequence[tuple[tuple[str, str], Evaluation]], output: Path) -> None:
    """Write one `result.json` of all pairs, which links to that of each."""
    detectors: dict[str, Any] = {}
    for (detector, dataset), evaluation in results:
        links = {"decision": evaluation.decision, "report": str(evaluation.report), "scores": str(evaluation.scores)}
        entry = detectors.setdefault(detector, {"datasets": {}})
        entry["datasets"][dataset] = {**evaluation.figures, **links, "notes": list(evaluation.notes)}
    summary = {"checkpoint": None, "checkpoints": detectors}
    write_bytes(output / "result.json", (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
