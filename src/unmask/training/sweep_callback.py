"""Hydra's callback around a sweep: a parent run before the first job, and a line on disk after each."""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from unmask.errors import UnmaskError
from unmask.paths import show_command

FOLDER_VARIABLE = "UNMASK_SWEEP_FOLDER"
"""Names the folder of the sweep that this process launched."""
PARENT_VARIABLE = "UNMASK_SWEEP_RUN"
JOB_VARIABLE = "UNMASK_SWEEP_JOB"
KEYS_VARIABLE = "UNMASK_SWEEP_KEYS"


class SweepCallback(Callback):  # type: ignore[misc,unused-ignore]
    """Give a sweep one parent run, whose id reaches the jobs of every launcher in their configuration."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run, and pass its id on.

        Hydra turns exceptions of a callback into warnings, so a store that does not answer ends the process here.
        """
        folder = Path(str(config.hydra.sweep.dir)).absolute()
        keys = find_swept_keys(config)
        try:
            record = _open_parent(config, keys)
        except UnmaskError as error:
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sweep.json").write_text(json.dumps(record, indent=2) + "\n")
        os.environ[FOLDER_VARIABLE] = str(folder)
        variables = {JOB_VARIABLE: "job-${hydra.job.num}", KEYS_VARIABLE: ",".join(keys)}
        if record["run_id"] is not None:
            variables[PARENT_VARIABLE] = record["run_id"]
        with read_write(config), open_dict(config):
            config.hydra.overrides.hydra += [
                f"++hydra.job.env_set.{name}='{value}'" for name, value in variables.items()
            ]

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Write how a job of a sweep ended, in the process that ran it."""
        if JOB_VARIABLE not in (config.hydra.job.env_set or {}):
            return
        folder = Path(config.hydra.runtime.output_dir)
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
        (folder / "job.json").write_text(json.dumps(record, indent=2) + "\n")


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
    from unmask.training.loggers import build_mlflow

    command = show_command("train.py", "-m", *config.hydra.overrides.task)
    record: dict[str, Any] = {"run_id": None, "uri": None, "command": command, "keys": keys}
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
