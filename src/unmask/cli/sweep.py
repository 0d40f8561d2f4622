"""Sweeps on the command line: resuming, the final table and exit code, and jobs in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from unmask.cli.tasks import print_unsent
from unmask.errors import ConfigError, Interrupted
from unmask.paths import show_command
from unmask.processes import wait_for

if TYPE_CHECKING:
    from unmask.training.sweep import SweepResult
    from unmask.training.sweep_callback import PastJob

FOLDER_VARIABLE = "UNMASK_SWEEP_FOLDER"
_STOPPED = (130, 143)


@contextmanager
def closing_sweep() -> Iterator[None]:
    """Finish the sweep that the block launched, if it did: print its table, and end with exit code 1 if a job failed.

    A launcher that runs every job raises what the first failed one raised only when all are done, and Optuna's sweeper
    raises nothing; so the jobs' own records decide.
    """
    inherited = os.environ.pop(FOLDER_VARIABLE, None)
    raised: BaseException | None = None
    try:
        yield
    except (Exception, SystemExit, KeyboardInterrupt, Interrupted) as error:
        raised = error
    launched = os.environ.pop(FOLDER_VARIABLE, None)
    if inherited is not None:
        os.environ[FOLDER_VARIABLE] = inherited
    if launched is not None:
        was_stopped = isinstance(raised, KeyboardInterrupt) or getattr(raised, "code", None) in _STOPPED
        failed = _finish(Path(launched), was_stopped=was_stopped)
        if was_stopped:
            print(f"Continue with: {show_command('train.py', '-m', f'resume_sweep={launched}')}", file=sys.stderr)
        if failed and not was_stopped:
            sys.exit(1)
    if raised is not None:
        raise raised


def _finish(folder: Path, *, was_stopped: bool) -> int:
    from unmask.training.sweep import finish_sweep

    result = finish_sweep(folder, was_interrupted=was_stopped)
    _print(result)
    print_unsent(folder)
    return result.num_failed


def _print(result: "SweepResult") -> None:
    from rich.console import Console
    from rich.table import Table

    keys = [
        str(name) for name in result.table if name not in ("job", "status", "objective", "error", "run_id", "folder")
    ]
    table = Table(title=f"{len(result.table)} jobs, best first", title_justify="left")
    for name in ("job", *keys, "objective"):
        table.add_column(name, justify="left" if name in keys else "right")
    for row in result.table.to_dict("records"):
        shown = f"{row['objective']:.4f}" if row["objective"] == row["objective"] else row["status"]
        table.add_row(str(row["job"]), *(str(row[key]) for key in keys), shown)
    Console().print(table)
    figures = result.summarize()
    if "std" in figures:
        print(f"Objective   {figures['mean']:.4f} +/- {figures['std']:.4f} (mean and standard deviation of the jobs)")
    print(f"Table       {result.folder / 'sweep.csv'}")
    if result.run_id is not None:
        from unmask.tracking.store import find_server, link_comparison

        server = find_server(str(result.uri))
        runs = [str(run_id) for run_id in result.table["run_id"] if isinstance(run_id, str)][:20]
        print(f"MLflow run  {result.run_id} in {result.uri}; look at it with: make ui")
        print(f"Compare     {link_comparison(server, str(result.experiment_id), runs)}")
    failed = result.table[result.table["status"] != "done"]
    for row in failed.to_dict("records"):
        print(f"Job {row['job']} failed: {row['error']}", file=sys.stderr)
        trace = Path(row["folder"]) / "error.txt"
        if row["folder"] and trace.exists():
            print(f"  where: {trace}", file=sys.stderr)
    if len(failed):
        print(f"{len(failed)} of {len(result.table)} jobs failed.", file=sys.stderr)


def restore_sweep(arguments: list[str]) -> list[str]:
    """Return the command line of the sweep that `resume_sweep=` names; any other command line as it is.

    Args:
        arguments: Command line arguments, without the command's name.

    Raises:
        ConfigError: No such sweep exists, it is still running, or another override would change its jobs.
    """
    from unmask.training.sweep_callback import RECORD, RESUME_VARIABLE, is_running

    named = [text for text in arguments if text.startswith("resume_sweep=")]
    asked = named[-1].partition("=")[2].strip("'\"") if named else "null"
    if asked in ("", "null"):
        return arguments
    others = [text for text in arguments if text not in (*named, "-m", "--multirun")]
    unfit = [text for text in others if not text.lstrip("+~").startswith(("hydra", "paths", "-"))]
    if unfit:
        raise ConfigError(
            f"{unfit[0]} would change the jobs of the sweep. Beside resume_sweep only keys of hydra are possible, such "
            f"as hydra/launcher=joblib."
        )
    folder = _find_sweep(asked, [text for text in others if text.startswith("paths")])
    record = json.loads((folder / RECORD).read_text())
    if "arguments" not in record:
        raise ConfigError(f"The sweep in '{folder}' is of an older Unmask, which did not record its command line.")
    if is_running(record):
        raise ConfigError(f"The sweep in '{folder}' is running, as process {record['launched_by']['pid']}.")
    if Path(record["started_in"]).resolve() != Path.cwd().resolve():
        raise ConfigError(f"The sweep in '{folder}' was started in another folder. First: cd '{record['started_in']}'")
    os.environ[RESUME_VARIABLE] = str(folder)
    return [*record["arguments"], *others, f"hydra.sweep.dir='{folder}'"]


def _find_sweep(asked: str, overrides: list[str]) -> Path:
    from hydra import compose, initialize_config_dir

    from unmask.config import config_dir, register_schemas
    from unmask.training.sweep_callback import RECORD

    if asked != "last":
        folder = Path(asked).expanduser().absolute()
        if not (folder / RECORD).is_file():
            raise ConfigError(f"resume_sweep={asked} holds no {RECORD}. Name the folder of a sweep, or last.")
        return folder
    register_schemas()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        root = Path(compose("train", overrides=overrides).paths.multirun_dir)
    found = list(root.rglob(RECORD))
    if not found:
        raise ConfigError(f"resume_sweep=last finds no sweep below '{root}'. Name its folder: resume_sweep=<folder>")
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent.absolute()


def take_up(folder: Path) -> "PastJob":
    """Return where this job stands, if its sweep is resumed; where it is not, nothing was done yet."""
    from hydra.core.hydra_config import HydraConfig

    from unmask.training.sweep_callback import RESUME_VARIABLE, PastJob, take_up_job

    config = HydraConfig.get()
    if RESUME_VARIABLE not in (config.job.env_set or {}):
        return PastJob()
    is_basic = str(config.sweeper._target_).endswith(".BasicSweeper")
    return take_up_job(folder, overrides=list(config.overrides.task), is_basic=is_basic)


def needs_own_process(cfg: DictConfig) -> bool:
    """Tell whether this is a job of a sweep that starts processes: each would launch the whole sweep again."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    devices = cfg.trainer.devices
    several = len(devices) > 1 if not isinstance(devices, int | str) else str(devices) not in ("1",)
    return several or int(cfg.trainer.get("num_nodes", 1) or 1) > 1


def run_in_own_process(checkpoint: Path | None = None) -> float:
    """Run this job as a command of its own, in its folder, and return its objective.

    Args:
        checkpoint: Checkpoint to resume from.

    Raises:
        UnmaskError: The command ended with an error.
    """
    from hydra.core.hydra_config import HydraConfig

    from unmask.config import run_dir
    from unmask.errors import UnmaskError

    folder = run_dir()
    overrides = [text for text in HydraConfig.get().overrides.task if not text.startswith("sweep=")]
    own = [f"hydra.run.dir={folder}", "hydra.mode=RUN"]
    if checkpoint is not None:
        own.append(f"resume={checkpoint}")
    command = [sys.executable, "-m", "unmask.cli.train", *overrides, *own]
    environment = {key: value for key, value in os.environ.items() if key != FOLDER_VARIABLE}
    log = folder / "process.log"
    with log.open("a") as file:
        code = wait_for(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment))
    if code in _STOPPED:
        raise Interrupted(code - 128)
    if code != 0:
        last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
        raise UnmaskError(f"The job's process ended with exit code {code}: {last} All it said is in '{log}'.")
    result = json.loads((folder / "result.json").read_text())
    return float(result["objective"])
