"""Score a split of a face dataset under perturbations: the DeeperForensics grid, and what platforms do to uploads."""

import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from unmask import __version__
from unmask.data.audit import find_usable_crops
from unmask.data.tables import FaceDataset, choose_videos
from unmask.errors import ConfigError, DatasetError, list_problems, suggest
from unmask.evaluation.perturbations import CLEAN, FAMILIES, LEVELS, Bench, Condition, Inputs, Job, list_conditions
from unmask.evaluation.scoring import ScoreStore, check_same_folds, check_spec
from unmask.faces.detector import build_detector
from unmask.metrics.plots import draw_levels
from unmask.metrics.scores import flatten_figures
from unmask.models.checkpoint import Checkpoint, Scorer, load_checkpoint
from unmask.paths import write_bytes
from unmask.processes import open_pool
from unmask.types import MediaKind, Outcome

logger = logging.getLogger(__name__)

APPLY, DETECT = ("auto", "frame", "crop"), ("again", "recorded")

FIGURES = ("video_auroc", "video_accuracy", "video_balanced_accuracy", "frame_auroc", "frame_accuracy", "coverage")
"""Figures of a condition that are averaged over the grid."""

_VIDEOS_AT_ONCE = 16
"""Videos between two writes of their scores: inputs of 77 MB with 32 crops each."""

_COLUMNS = ("video_id", "frame_index", "score", "outcome", "message")


@dataclass(frozen=True)
class RobustnessOptions:
    """What is perturbed, and how.

    Args:
        families: Keys of `FAMILIES`; None for all.
        levels: Levels from 1 to 5.
        limit: Maximum number of videos per class, spread over the methods; None for all.
        apply: `frame` perturbs the frames of the original media, `crop` the stored crops; `auto` perturbs the frames if
            all media are there.
        detect: `again` detects the faces in perturbed frames, `recorded` keeps the boxes of the face dataset.

    Raises:
        ConfigError: A value is unknown.
    """

    families: Sequence[str] | None = None
    levels: Sequence[int] = LEVELS
    limit: int | None = None
    apply: str = "auto"
    detect: str = "again"

    def __post_init__(self) -> None:
        list_conditions(self.families, self.levels)
        for key, value, choices in (("apply", self.apply, APPLY), ("detect", self.detect, DETECT)):
            if value not in choices:
                meant = suggest(value, choices, key=f"robustness.{key}")
                raise ConfigError(f"Unknown robustness.{key}={value}.{meant} Choose one of: {', '.join(choices)}.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"robustness.limit={self.limit} must be at least 1, or null for all videos.")


@dataclass(frozen=True)
class Robustness:
    """Figures under perturbations.

    Args:
        dataset: Name of the face dataset.
        table: One row per condition.
        summary: Content of `result.json` about the dataset.
        folder: Folder of `robustness.csv`, `robustness.parquet`, `robustness.svg` and `result.json`.
        scores: Folder with the scores of each condition, from which the same command continues.
        notes: Caveats about the figures.
    """

    dataset: str
    table: pd.DataFrame
    summary: Mapping[str, Any]
    folder: Path
    scores: Path
    notes: tuple[str, ...] = ()


def evaluate_robustness(
    checkpoint: str | Path,
    *,
    root: str | Path,
    output: Path,
    scores_dir: Path,
    options: RobustnessOptions = RobustnessOptions(),
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
    detector_weights: str | None = None,
) -> Robustness:
    """Score a split under each condition, and write a table with one row per condition, its plot and `result.json`.

    Scores are written to `scores_dir` as they are made. A later call with the same checkpoint, dataset and seed takes
    them from there.

    Args:
        checkpoint: This and the arguments that are not named here are as in `unmask.evaluation.run.evaluate`.
        root: Root folder of the face dataset.
        output: Output folder.
        scores_dir: Folder of all scores under perturbations.
        options: What is perturbed, and how.
        num_workers: Number of processes that decode, perturb and detect; 0 works in the main process.
        seed: Seed of the choice of videos, and of blocks and noise.
        detector_weights: File of the detector's weights; None for its default.

    Raises:
        UnmaskError: As `unmask.evaluation.run.evaluate`; or `apply` is `frame`, and media are missing.
    """
    model = load_checkpoint(checkpoint, trusted_modules=trusted_modules)
    dataset = FaceDataset.load(root, folds=folds, fold=fold)
    check_same_folds(model, dataset, (folds, fold))
    notes = check_spec(model, dataset, allow_mismatch=allow_spec_mismatch)
    videos, num_left_out = choose_videos(dataset, split=split, limit=options.limit, seed=seed)
    on_frames, reasons = _choose_place(dataset, videos, apply=options.apply)
    notes += reasons
    conditions = list_conditions(options.families, options.levels)
    store = ScoreStore.open(
        scores_dir, model, dataset, seed=seed, place=["frame", options.detect] if on_frames else ["crop"],
        values={name: family.values for name, family in FAMILIES.items()},
    )  # fmt: skip
    tables = {condition: _read_scores(store, condition) for condition in conditions}
    todo = _list_jobs(dataset, videos, tables, seed=seed, on_frames=on_frames)
    is_detecting = on_frames and options.detect == "again"
    logger.info(
        "%d conditions of %d videos, applied to the %s: %d to score, the others are in '%s'.",
        len(conditions), len(videos), "frames" if on_frames else "crops", len(todo), store.folder,
    )  # fmt: skip
    if todo:
        detector = None
        if is_detecting:
            detector = build_detector(
                dataset.spec, file=dataset.root / "dataset.json", device=device, weights=detector_weights,
                trusted_modules=trusted_modules,
            )  # fmt: skip
        bench = Bench(dataset.root, dataset.spec, model.input_spec, on_frames, detector)
        scorer = Scorer(model, device=device, batch_size=batch_size)
        tables |= _score(todo, tables, bench, scorer, store, num_workers=num_workers)
    _warn_of_unreadable(tables)
    table = pd.DataFrame([_describe(condition, tables[condition], videos, model) for condition in conditions])
    summary = {
        "split": split,
        "applied_to": "frame" if on_frames else "crop",
        "faces": "detected again" if is_detecting else "recorded",
        "num_videos": len(videos),
        "num_left_out": num_left_out,
        "limit": options.limit,
        **_summarize(table),
    }
    robustness = Robustness(dataset.name, table, summary, output, store.folder, (*notes, *_list_caveats(table)))
    provenance = {
        "checkpoint": str(model.path), "dataset": f"{dataset.root} (preprocessing {dataset.spec.hash})",
        "command": command or "unmask.evaluation.robustness.evaluate_robustness, called from Python",
        "seed": seed, "version": __version__, "decision": model.decision.to_dict(),
    }  # fmt: skip
    _write(robustness, provenance)
    return robustness


def _choose_place(dataset: FaceDataset, videos: pd.DataFrame, *, apply: str) -> tuple[bool, list[str]]:
    """Return whether frames are perturbed, rather than crops, and notes on why not.

    It is the same for all videos: real and fake must not differ in how they are treated.
    """
    media = zip(videos["path"].astype(str), videos["kind"], strict=True)
    absent = [path for path, kind in media if kind == MediaKind.FRAMES or not Path(path).is_file()]
    if apply == "crop":
        return False, []
    if dataset.spec.detector == "none":
        reason = f"'{dataset.root}' was prepared with detector=none: its images are the crops"
    elif absent:
        reason = (
            f"{len(absent)} of {len(videos)} original media are missing or folders of frames, such as '{absent[0]}'"
        )
    else:
        return True, []
    if apply == "frame":
        raise DatasetError(
            f"robustness.apply=frame cannot be done: {reason}. Set robustness.apply=crop to perturb the stored crops."
        )
    note = (
        f"The perturbations were applied to the crops, not to the frames ({reason}). Crops are scaled and detection is "
        f"not tried, so these figures cannot be compared with those of perturbed frames."
    )
    logger.warning("%s", note)
    return False, [note]


def _list_jobs(
    dataset: FaceDataset, videos: pd.DataFrame, tables: Mapping[Condition, pd.DataFrame], *, seed: int, on_frames: bool
) -> list[Job]:
    """List the videos without scores of each condition, in the order of the conditions."""
    done = {condition: set(table["video_id"]) for condition, table in tables.items()}
    if all(set(videos["video_id"]) <= names for names in done.values()):
        return []
    split = str(videos["split"].iloc[0])
    crops = dataset.faces_of(split) if on_frames else find_usable_crops(dataset, split=split)
    crops = crops[crops["video_id"].isin(set(videos["video_id"]))].sort_values("frame_index", kind="stable")
    faces = {str(name): tuple(rows.to_dict("records")) for name, rows in crops.groupby("video_id")}
    rows = videos.to_dict("records")
    return [
        Job(row, faces.get(row["video_id"], ()), condition, (seed, zlib.crc32(row["video_id"].encode())))
        for condition in tables
        for row in rows
        if row["video_id"] not in done[condition]
    ]


def _read_scores(store: ScoreStore, condition: Condition) -> pd.DataFrame:
    """Return the scores of earlier calls; a video that could not be read is tried again."""
    table = store.read(condition.name, columns=_COLUMNS)
    return table[table["outcome"] != Outcome.DECODE_ERROR]


def _score(
    jobs: Sequence[Job], tables: Mapping[Condition, pd.DataFrame], bench: Bench, scorer: Scorer, store: ScoreStore, *,
    num_workers: int,
) -> dict[Condition, pd.DataFrame]:  # fmt: skip
    """Do the jobs with a progress bar; write the scores every `_VIDEOS_AT_ONCE` videos, and after each condition."""
    scored, batches = dict(tables), list(_divide(jobs))
    with _open_work(bench, num_workers) as work, _open_bar(len(jobs)) as advance:
        working = work(batches[0])
        for place, batch in enumerate(batches):
            condition = batch[0].condition
            found = [advance(inputs, condition.name) for inputs in working]
            working = work(batches[place + 1]) if place + 1 < len(batches) else ()  # while the network scores
            scores = scorer.score([inputs.images for inputs in found])
            rows = [row for each in zip(batch, found, scores, strict=True) for row in _list_rows(*each)]
            more = pd.DataFrame(rows, columns=list(_COLUMNS))
            scored[condition] = more if scored[condition].empty else pd.concat([scored[condition], more])
            store.write(condition.name, scored[condition])
    return scored


def _divide(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Yield batches of consecutive jobs, each of one condition."""
    for _, same in groupby(jobs, key=lambda job: job.condition):
        ours = list(same)
        yield from (ours[start : start + _VIDEOS_AT_ONCE] for start in range(0, len(ours), _VIDEOS_AT_ONCE))


def _list_rows(job: Job, found: Inputs, scores: Sequence[float]) -> Iterator[tuple[str, int, float, str, str]]:
    for index, score in zip(found.frames or (-1,), scores or (float("nan"),), strict=True):
        yield job.video["video_id"], index, score, str(found.outcome), found.message


@contextmanager
def _open_bar(total: int) -> Iterator[Callable[[Inputs, str], Inputs]]:
    """Show a progress bar with the time left; yields a function that advances it and returns its first argument."""
    from rich import progress as rich

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn())
    with rich.Progress(*columns, rich.TimeElapsedColumn(), rich.TimeRemainingColumn()) as progress:
        bar = progress.add_task("Perturbing videos", total=total)

        def advance(inputs: Inputs, name: str) -> Inputs:
            progress.update(bar, advance=1, description=f"Perturbing videos: {name}")
            return inputs

        yield advance


@contextmanager
def _open_work(bench: Bench, num_workers: int) -> Iterator[Callable[[Sequence[Job]], Iterable[Inputs]]]:
    if num_workers == 0:
        yield partial(map, bench.work)
        return
    try:
        with open_pool(num_workers, initializer=bench.keep) as pool:
            yield partial(pool.map, Bench.work_as_kept)
    except BrokenProcessPool as error:
        raise DatasetError(
            "A worker process died (out of memory, or a crash in a decoder). Finished scores are kept: run the same "
            "command again; num_workers=0 uses less memory."
        ) from error


def _warn_of_unreadable(tables: Mapping[Condition, pd.DataFrame]) -> None:
    for condition, table in tables.items():
        messages = table.loc[table["outcome"] == Outcome.DECODE_ERROR, "message"]
        if len(messages):
            logger.warning("%s: %d videos cannot be read:\n%s", condition.name, len(messages), list_problems(messages))


def _describe(condition: Condition, scores: pd.DataFrame, videos: pd.DataFrame, model: Checkpoint) -> dict[str, Any]:
    """Return the figures of a condition: one row of the table."""
    rows = scores.merge(videos[["video_id", "label", "method"]], on="video_id", validate="many_to_one")
    frames = rows[rows["outcome"] == Outcome.OK].astype({"score": float})
    family = FAMILIES.get(condition.family)
    return {
        "family": condition.family,
        "level": condition.level,
        "value": condition.value,
        "group": "clean" if family is None else "grid" if family.is_of_grid else "upload",
        "num_videos": len(videos),
        "num_scored": frames["video_id"].nunique(),
        "num_no_face": int((rows["outcome"] == Outcome.NO_FACE).sum()),
        "num_unreadable": int((rows["outcome"] == Outcome.DECODE_ERROR).sum()),
        "coverage": frames["video_id"].nunique() / len(videos),
        "num_crops": len(frames),
        **flatten_figures(frames, decision=model.decision),
    }


def _plain(values: Iterable[Any]) -> list[Any]:
    """Return values for JSON: None for NaN."""
    return [None if pd.isna(value) else value for value in values]


def _summarize(table: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of clean videos, a curve per family, and the means over the grid and over the uploads."""
    clean = table[table["family"] == CLEAN.family].iloc[0]
    curves = {
        str(name): {
            "title": FAMILIES[str(name)].title,
            "unit": FAMILIES[str(name)].unit,
            **{key: _plain(rows[key].tolist()) for key in ("level", "value", *FIGURES)},
        }
        for name, rows in table[table["level"] > 0].groupby("family", sort=False)
    }
    means = {
        str(group): {
            "num_conditions": len(rows),
            "num_without_auroc": int(rows["video_auroc"].isna().sum()),
            **{key: _plain([rows[key].astype(float).mean()])[0] for key in FIGURES},
        }
        for group, rows in table[table["level"] > 0].groupby("group", sort=False)
    }
    return {"clean": dict(zip(FIGURES, _plain(clean[list(FIGURES)]), strict=True)), "families": curves, "mean": means}


def _list_caveats(table: pd.DataFrame) -> list[str]:
    worst, notes = table.sort_values("coverage", kind="stable").iloc[0], []
    if worst["coverage"] < 1:
        notes.append(
            f"Figures cover scored videos only: with {worst['family']} at level {worst['level']}, "
            f"{worst['num_scored']} of {worst['num_videos']} have a score."
        )
    num_grid = int((table["group"] == "grid").sum())
    if num_grid < (full := sum(family.is_of_grid for family in FAMILIES.values()) * len(LEVELS)):
        notes.append(f"The mean over the grid covers {num_grid} of its {full} conditions.")
    return notes


def _write(robustness: Robustness, provenance: Mapping[str, Any]) -> None:
    names = ("robustness.csv", "robustness.parquet", "robustness.svg", "result.json")
    csv, parquet, plot, result = (robustness.folder / name for name in names)
    write_bytes(csv, robustness.table.to_csv(index=False).encode())
    write_bytes(parquet, robustness.table.to_parquet(index=False))
    write_bytes(plot, _draw(robustness.summary).encode())
    content = {
        "datasets": {robustness.dataset: {"robustness": robustness.summary}}, "notes": list(robustness.notes),
        "provenance": provenance, "table": str(csv), "plot": str(plot), "scores": str(robustness.scores),
    }  # fmt: skip
    write_bytes(result, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _draw(summary: Mapping[str, Any]) -> str:
    lines = {"ROC-AUC per video": "video_auroc", "ROC-AUC per frame": "frame_auroc", "coverage": "coverage"}
    panels = {}
    for curve in summary["families"].values():
        drawn = {name: [summary["clean"][key], *curve[key]] for name, key in lines.items()}
        panels[str(curve["title"])] = ([0, *curve["level"]], drawn)
    return draw_levels(panels)
