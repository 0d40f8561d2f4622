"""Summarize a sweep: a table of its jobs, the best job and a plot, logged to the parent run."""

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.config import read_text
from unmask.errors import TrackingError
from unmask.paths import write_bytes
from unmask.tracking.store import explained, make_client
from unmask.training.sweep_callback import JOB, RECORD, UNSENT

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """What a sweep gave.

    Args:
        table: A row per job: `job`, `status`, the swept keys, `objective`, `error`, `run_id`, `folder`; best first.
        folder: Sweep folder, with `sweep.csv` and `sweep.svg`.
        run_id: MLflow run ID of the parent, or None when untracked.
        uri: URI of the MLflow store, or None when untracked.
        experiment_id: MLflow experiment ID, or None when untracked.
    """

    table: pd.DataFrame
    folder: Path
    run_id: str | None
    uri: str | None
    experiment_id: str | None = None

    @property
    def num_failed(self) -> int:
        """Jobs that did not end well."""
        return int((self.table["status"] != "done").sum())

    def summarize(self) -> dict[str, float]:
        """Return the `mean` of the objective over the jobs that have one, and from two on the sample `std`."""
        values = self.table["objective"].dropna()
        figures = {"mean": float(values.mean()), "std": float(values.std(ddof=1))}
        return {name: value for name, value in figures.items() if not math.isnan(value)}


def finish_sweep(folder: Path, *, was_interrupted: bool) -> SweepResult:
    """Close the sweep in a folder: children that failed are marked, the parent gets table, best child and plot.

    Args:
        folder: Sweep folder, with the `sweep.json` of the launching process.
        was_interrupted: Whether a signal stopped the sweep.
    """
    record = json.loads((folder / RECORD).read_text())
    record.pop("launched_by", None)  # it runs no longer
    write_bytes(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())
    jobs = [json.loads(path.read_text()) for path in folder.rglob(JOB)]
    client, experiment, children = None, None, dict[int, Any]()
    with _noting_outage(folder, record, was_interrupted=was_interrupted):
        if record["run_id"] is not None:
            client = make_client(record["uri"])
            experiment = str(client.get_run(record["run_id"]).info.experiment_id)
            children = _find_children(client, experiment, record["run_id"])
    jobs += _list_lost(children, {job["job"] for job in jobs})
    table = _make_table(jobs, record["keys"], {number: run.info.run_id for number, run in children.items()})
    plot = draw_sweep(table, record["keys"])
    if plot is not None:
        write_bytes(folder / "sweep.svg", plot.encode())
    result = SweepResult(table, folder, record["run_id"], record["uri"], experiment)
    with _noting_outage(folder, record, was_interrupted=was_interrupted):
        if client is not None and experiment is not None:
            _close_children(client, record, result, children)
    write_bytes(folder / "sweep.csv", table.to_csv(index=False).encode())
    with _noting_outage(folder, record, was_interrupted=was_interrupted):
        if client is not None and experiment is not None and not is_unsent(folder):
            _close_parent(client, record, result, was_interrupted=was_interrupted)
    return result


@contextmanager
def _noting_outage(folder: Path, record: dict[str, Any], *, was_interrupted: bool) -> Iterator[None]:
    """Let a sweep end whose store does not answer; `send_sweeps` closes it there later."""
    try:
        with explained(record["uri"] or ""):
            yield
    except TrackingError as error:
        logger.warning("The sweep is not closed in MLflow: %s", error)
        write_bytes(folder / UNSENT, (json.dumps({"was_interrupted": was_interrupted}) + "\n").encode())


def is_unsent(folder: Path) -> bool:
    """Tell whether a sweep could not be closed in its store."""
    return (folder / UNSENT).exists()


def send_sweeps(roots: Iterable[Path]) -> tuple[int, int]:
    """Close the sweeps below some folders whose store was away; return how many are closed, and how many still wait."""
    sent, waiting = 0, 0
    for root in roots:
        for path in sorted(root.rglob(UNSENT)):
            was_interrupted = bool(json.loads(path.read_text())["was_interrupted"])
            path.unlink()
            finish_sweep(path.parent, was_interrupted=was_interrupted)
            sent, waiting = sent + (not path.exists()), waiting + path.exists()
    return sent, waiting


def _find_children(client: Any, experiment: str, parent: str) -> dict[int, Any]:
    query = f"tags.`mlflow.parentRunId` = '{parent}'"
    runs = client.search_runs([experiment], query, max_results=5000)
    return {int(run.data.tags["sweep.job"]): run for run in reversed(runs) if "sweep.job" in run.data.tags}


def _list_lost(children: dict[int, Any], known: set[int]) -> list[dict[str, Any]]:
    """Return a record for each child whose process ended without a word."""
    return [
        {
            "job": number,
            "status": "failed",
            "overrides": run.data.tags.get("overrides", "").split("\n"),
            "objective": None,
            "error": "Its process ended before the training did.",
            "folder": "",
        }
        for number, run in children.items()
        if number not in known
    ]


def _make_table(jobs: list[dict[str, Any]], keys: list[str], runs: dict[int, str]) -> pd.DataFrame:
    rows = []
    for job in jobs:
        given = {text.partition("=")[0].lstrip("+"): read_text(text) for text in job["overrides"] if "=" in text}
        row = {"job": job["job"], "status": job["status"]} | {key: given.get(key, "") for key in keys}
        rows.append(
            row
            | {
                "objective": job["objective"],
                "error": job["error"],
                "run_id": runs.get(job["job"]),
                "folder": job["folder"],
            }
        )
    columns = ["job", "status", *keys, "objective", "error", "run_id", "folder"]
    table = pd.DataFrame(rows, columns=columns)
    table["objective"] = table["objective"].astype(float)
    return table.sort_values(["objective", "job"], ascending=[False, True], ignore_index=True)


def _close_children(client: Any, record: dict[str, Any], result: SweepResult, children: dict[int, Any]) -> None:
    """Mark children whose process died, and give a failed run to those that failed before they had one."""
    experiment = client.get_run(record["run_id"]).info.experiment_id
    for row in result.table[result.table["status"] == "done"].to_dict("records"):
        run = children.get(row["job"])
        if run is not None and run.info.status != "FINISHED":  # it was killed after its last step
            client.set_terminated(run.info.run_id, "FINISHED")
    for row in result.table[result.table["status"] != "done"].to_dict("records"):
        run = children.get(row["job"])
        if run is None:
            name = " ".join(f"{key}={row[key]}" for key in record["keys"])
            tags = {"mlflow.parentRunId": record["run_id"], "sweep.job": str(row["job"]), "error": str(row["error"])}
            run = client.create_run(experiment, tags=tags, run_name=name or None)
            _store_traces(client, run.info.run_id, row["folder"])
            client.set_terminated(run.info.run_id, "FAILED")
            result.table.loc[result.table["job"] == row["job"], "run_id"] = run.info.run_id
        elif run.info.status == "RUNNING":
            client.set_tag(run.info.run_id, "error", row["error"])
            _store_traces(client, run.info.run_id, row["folder"])
            client.set_terminated(run.info.run_id, "FAILED")


def _store_traces(client: Any, run_id: str, folder: str) -> None:
    """Store the log and the error of a job that could not do so itself."""
    for path in [*sorted(Path(folder).glob("*.log")), Path(folder) / "error.txt"] if folder else ():
        if path.is_file():
            client.log_artifact(run_id, str(path))


def _close_parent(client: Any, record: dict[str, Any], result: SweepResult, *, was_interrupted: bool) -> None:
    from mlflow.entities import Metric, RunTag

    table, run_id = result.table, record["run_id"]
    now = int(time.time() * 1000)
    metrics = [Metric("sweep/num_jobs", len(table), now, 0), Metric("sweep/num_failed", result.num_failed, now, 0)]
    tags = [RunTag("sweep.failed", str(result.num_failed))]
    done = table[table["objective"].notna()]
    if len(done):
        best = done.iloc[0]
        metrics.append(Metric("sweep/best_objective", float(best["objective"]), now, 0))
        tags += [RunTag("best_run_id", str(best["run_id"])), RunTag("best_job", str(best["job"]))]
        tags += [RunTag(f"best.{key}", str(best[key])) for key in record["keys"]]  # another, once it was resumed
    metrics += [Metric(f"sweep/{name}_objective", value, now, 0) for name, value in result.summarize().items()]
    known = {metric.step for metric in client.get_metric_history(run_id, "sweep/objective")}
    for row in done.sort_values("job").to_dict("records"):
        if row["job"] not in known:
            metrics.append(Metric("sweep/objective", float(row["objective"]), now, int(row["job"])))
    client.log_batch(run_id, metrics=metrics, tags=tags)
    _log_table(client, run_id, table)
    for name in ("sweep.csv", "sweep.svg"):
        if (result.folder / name).exists():
            client.log_artifact(run_id, str(result.folder / name))
    status = "KILLED" if was_interrupted else "FAILED" if result.num_failed else "FINISHED"
    client.set_terminated(run_id, status)


def _log_table(client: Any, run_id: str, table: pd.DataFrame) -> None:
    name, shown = "sweep.json", table.astype(object).where(table.notna(), None)
    if all(item.path != name for item in client.list_artifacts(run_id)):
        client.log_table(run_id, shown, name)
    else:  # to which MLflow would append
        client.log_dict(run_id, shown.to_dict("split", index=False), name)


def draw_sweep(table: pd.DataFrame, keys: list[str]) -> str | None:
    """Draw the objective over each swept key, side by side; None where no job has an objective.

    Args:
        table: Table of a `SweepResult`.
        keys: A panel each.
    """
    import io

    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    done = table[table["objective"].notna()]
    if done.empty or not keys:
        return None
    figure = Figure(figsize=(3.2 * len(keys), 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for key, axes in zip(keys, panels, strict=True):
        values = pd.to_numeric(done[key], errors="coerce")
        is_number = bool(values.notna().all())
        axes.plot(values if is_number else done[key].astype(str), done["objective"], "o", alpha=0.7, color="#2453d6")
        if is_number and values.min() > 0 and values.max() >= 10 * values.min():
            axes.set_xscale("log")
        axes.set_xlabel(key, fontsize=9)
        axes.grid(color="#dfe3ea", linewidth=0.6)
    panels[0].set_ylabel("objective", fontsize=9)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
