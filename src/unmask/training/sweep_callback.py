"""Hydra callback of a sweep: opens a parent run before the first job, and records each job on disk."""

import json
import logging
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from unmask.errors import CheckpointError, ConfigError, TrainingError, UnmaskError
from unmask.models.checkpoint import LAST
from unmask.paths import show_command

logger = logging.getLogger(__name__)

RECORD = "sweep.json"
"""In the folder of a sweep: its parent run, its command line, and the process that launched it."""
UNSENT = "unsent_sweep.json"
"""In the folder of a sweep whose store was away when it ended."""
JOB = "job.json"
"""In the folder of a job: how it ended."""

FOLDER_VARIABLE = "UNMASK_SWEEP_FOLDER"
"""Names the folder of the sweep that this process launched."""
PARENT_VARIABLE = "UNMASK_SWEEP_RUN"
JOB_VARIABLE = "UNMASK_SWEEP_JOB"
KEYS_VARIABLE = "UNMASK_SWEEP_KEYS"
RESUME_VARIABLE = "UNMASK_SWEEP_RESUMED"
"""Names the folder of a sweep that this process resumes, and tells the jobs of a resumed one that they are."""


class SweepCallback(Callback):  # type: ignore[misc,unused-ignore]
    """Give a sweep one parent run, whose id reaches the jobs of every launcher in their configuration."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run, and pass its id on.

        Hydra turns exceptions of a callback into warnings, so a store that does not answer ends the process here.
        """
        folder = Path(str(config.hydra.sweep.dir)).absolute()
        keys = find_swept_keys(config)
        is_resumed = os.environ.pop(RESUME_VARIABLE, None) is not None
        try:
            record = _reopen_parent(config, folder) if is_resumed else _open_parent(config, keys)
        except UnmaskError as error:
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(2)
        folder.mkdir(parents=True, exist_ok=True)
        record |= {"launched_by": _identify_process()}
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        os.environ[FOLDER_VARIABLE] = str(folder)
        variables = {JOB_VARIABLE: "job-${hydra.job.num}", KEYS_VARIABLE: ",".join(keys)}
        if record["run_id"] is not None:
            variables[PARENT_VARIABLE] = record["run_id"]
        if is_resumed:
            variables[RESUME_VARIABLE] = "yes"
        with read_write(config), open_dict(config):
            config.hydra.overrides.hydra += [
                f"++hydra.job.env_set.{name}='{value}'" for name, value in variables.items()
            ]

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Write how a job of a sweep ended, in the process that ran it."""
        variables = config.hydra.job.env_set or {}
        if JOB_VARIABLE not in variables:
            return
        folder = Path(config.hydra.runtime.output_dir)
        if RESUME_VARIABLE in variables and _read_job(folder).get("status") == "done":
            return
        value = job_return._return_value
        if isinstance(value, Exception) and isinstance(value.__cause__, UnmaskError):
            value = value.__cause__  # Hydra wraps what a constructor raises
        has_failed = isinstance(value, BaseException)
        record = {
            "job": int(config.hydra.job.num),
            "overrides": list(config.hydra.overrides.task),
            "status": "failed" if has_failed else "done",
            "objective": None if has_failed or value is None else float(value),
            "error": _tell(value) if has_failed else None,
            "folder": str(folder),
        }
        if has_failed and not isinstance(value, UnmaskError):
            (folder / "error.txt").write_text("".join(traceback.format_exception(value)))
        (folder / JOB).write_text(json.dumps(record, indent=2) + "\n")


def _read_job(folder: Path) -> dict[str, Any]:
    """Return how a job ended; nothing where it did not, or was killed while that was written."""
    try:
        record: dict[str, Any] = json.loads((folder / JOB).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return record


@dataclass(frozen=True)
class PastJob:
    """What is left of a job whose sweep is resumed.

    Args:
        is_done: Whether the job is finished.
        objective: Objective of a finished job, or None.
        checkpoint: Checkpoint to resume from, or None to start from scratch.
    """

    is_done: bool = False
    objective: float | None = None
    checkpoint: Path | None = None


def take_up_job(folder: Path, *, overrides: list[str], is_basic: bool) -> PastJob:
    """Return where a job of a resumed sweep stands, and clear away how it ended before if it runs once more.

    A search is replayed from its first job, and what a job gives decides about later ones. There a job that failed runs
    once more only while none after it is done, since its success would lead the search elsewhere.

    Args:
        folder: Job folder.
        overrides: Present overrides of the job.
        is_basic: Whether the sweep is a grid, so that jobs do not depend on each other.

    Raises:
        ConfigError: The job that is done had other overrides.
        TrainingError: The job of a search failed, and others came after it.
    """
    record = _read_job(folder)
    if record.get("status") == "done":
        if list(record["overrides"]) != overrides:
            raise ConfigError(
                f"The sweep proposes {' '.join(overrides)} for the job in '{folder}', which was trained with "
                f"{' '.join(record['overrides'])}. It cannot be resumed; start it anew."
            )
        logger.info("Done before: '%s', objective %s.", folder, record["objective"])
        return PastJob(is_done=True, objective=record["objective"])
    if record and not is_basic:
        others = [_read_job(path.parent) for path in folder.parent.glob(f"*/{JOB}")]
        if any(other.get("status") == "done" and other["job"] > record["job"] for other in others):
            raise TrainingError(str(record["error"]))
    for name in (JOB, "error.txt"):
        (folder / name).unlink(missing_ok=True)
    return PastJob(checkpoint=_find_resumable(folder / "checkpoints" / LAST))


def _find_resumable(path: Path) -> Path | None:
    from unmask.training.resume import open_resumed

    if not path.parent.is_dir():
        return None
    try:
        open_resumed(path)
    except CheckpointError as error:
        logger.warning("%s The job starts anew.", error)
        return None
    return path


def _identify_process() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def is_running(record: Mapping[str, Any]) -> bool:
    """Tell whether the process that launched a sweep runs on this machine.

    Args:
        record: In the folder of the sweep.
    """
    import psutil

    launched_by = record.get("launched_by") or {}
    if launched_by.get("host") != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(launched_by["pid"]).create_time() == launched_by["started"])
    except psutil.NoSuchProcess:
        return False


def _tell(error: BaseException) -> str:
    return str(error) if isinstance(error, UnmaskError) else f"{type(error).__name__}: {error}"


def find_swept_keys(config: DictConfig) -> list[str]:
    """Return the keys that differ between the jobs: lists and ranges of the command line, and a sweeper's params."""
    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    keys = [override.get_key_element().lstrip("+") for override in parsed if override.is_sweep_override()]
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return list(dict.fromkeys([*keys, *map(str, params)]))


def read_parent(environment: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """Return the parent run's id and the tags of a job, from what the sweep has put into its environment.

    Args:
        environment: `os.environ`.
    """
    job = environment.get(JOB_VARIABLE)
    return environment.get(PARENT_VARIABLE), {} if job is None else {"sweep.job": job.removeprefix("job-")}


def name_child(overrides: list[str], environment: Mapping[str, str]) -> str | None:
    """Return a job's overrides of the swept keys, for the name of its run; None outside a sweep."""
    keys = set(environment.get(KEYS_VARIABLE, "").split(",")) - {""}
    return " ".join(text for text in overrides if text.partition("=")[0].lstrip("+") in keys) or None


def _open_parent(config: DictConfig, keys: list[str]) -> dict[str, Any]:
    from unmask.training.parts import build_mlflow

    command = show_command("train.py", "-m", *config.hydra.overrides.task)
    record: dict[str, Any] = {"run_id": None, "uri": None, "command": command, "keys": keys}
    record |= {"arguments": sys.argv[1:], "started_in": str(Path.cwd())}
    mlflow = build_mlflow(config.logger)
    if mlflow is None:
        return record
    from unmask.tracking.store import explained, open_experiment

    client, experiment_id = open_experiment(mlflow.store)
    tags = {"sweep": "parent", "command": command, "sweep.keys": ", ".join(keys), "mlflow.source.name": "train.py"}
    with explained(mlflow.store.uri):
        # The dataset may be among what is swept.
        root = "" if OmegaConf.is_missing(config.dataset, "root") else f"{Path(str(config.dataset.root)).name} "
        name = mlflow.run_name or f"{root}sweep of {', '.join(keys)}"
        run = client.create_run(experiment_id, tags=tags, run_name=name)
    return record | {"run_id": run.info.run_id, "uri": mlflow.store.uri}


def _reopen_parent(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Return the record of a sweep that is resumed; its run in the store is running again.

    Raises:
        ConfigError: The sweep is a search that cannot be replayed.
        TrackingError: The store does not answer.
    """
    sweeper = config.hydra.sweeper
    if sweeper.get("storage") is not None:
        raise ConfigError(
            f"hydra.sweeper.storage={sweeper.storage} keeps the search itself. Give the command of the sweep again "
            f"in place of resume_sweep, with hydra.sweeper.n_trials= as many as are left."
        )
    if "sampler" in sweeper and sweeper.sampler.get("seed", 0) is None:
        raise ConfigError("hydra.sweeper.sampler.seed=null: a search without a seed cannot be replayed. Start it anew.")
    record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    (folder / UNSENT).unlink(missing_ok=True)
    if record["run_id"] is not None:
        from unmask.tracking.store import explained, make_client

        with explained(record["uri"]):
            client = make_client(record["uri"])
            experiment = client.get_run(record["run_id"]).info.experiment_id
            query = f"tags.`mlflow.parentRunId` = '{record['run_id']}' and attributes.status = 'RUNNING'"
            for run in client.search_runs([experiment], query, max_results=5000):
                client.set_tag(run.info.run_id, "error", "Its process ended before the training did.")
                client.set_terminated(run.info.run_id, "KILLED")
            client.update_run(record["run_id"], status="RUNNING")
    return record
